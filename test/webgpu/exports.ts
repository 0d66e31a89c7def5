// Exported files on WebGPU as they are: the CPU's numbers, without 16-bit floats, and nothing but sizes left to the CPU.
import { beforeAll, describe, expect, it } from "vitest";
import { Session } from "../../src/graph/session.ts";
import { chooseFile, openExportedModel } from "../../src/inference/exported/exported-model.ts";
import { makePromptFeeds, makeStepFeeds, takeCache } from "../../src/inference/generate/decoder-feeds.ts";
import { WEBGPU_ORDER } from "../../src/model/precision.ts";
import { VARIANTS, type Variant } from "../../src/model/variants.ts";
import { compareOutputs, readPlacement } from "../support/both-devices.ts";
import { exported, modelOf, PROMPTS } from "../support/exported.ts";
import { slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { SOFTWARE_GPU, WHY_NO_GPU } from "../support/webgpu.ts";

const path = temporaryFolder("webgpu-exports");

/** Sizes are the host's, which has to know them before it starts a program of the device. */
const isSize = (node: string) => /^(Shape|Squeeze|Cast|Add|Sub|Mul|Concat) int(32|64)\[[1-4]?\]$/.test(node);

/**
 * The largest relative error of an output. The products of uint8 and q4 round activations to int8 by block on WebGPU, as
 * they do on a CPU where weights are packed.
 */
const LIMITS: Readonly<Record<string, number>> = { fp32: 1e-5, uint8: 0.06, q4: 0.06, q2: 0.06 };
/** mixed files need a text, and have blocks of the kinds that the others have. */
const PRECISIONS = WEBGPU_ORDER.full.filter((precision) => precision !== "mixed");

const QUICK: Variant = "low-rank";

describe.skipIf(!SOFTWARE_GPU)(`exported files on WebGPU${WHY_NO_GPU}`, { timeout: 240_000 }, () => {
  describe.each(VARIANTS)("%s", (variant) => {
    const folder = path(variant);
    beforeAll(async () => {
      await exported(await modelOf(variant, path(`model-${variant}`)), folder, { precisions: PRECISIONS });
    });

    for (const precision of PRECISIONS)
      it(
        `${precision} runs from a padded prompt to a step with its cache`,
        slowUnless(variant === QUICK && precision !== "q2"),
        async () => {
          const model = await openExportedModel(folder);
          const { config } = model;
          const file = chooseFile(model, precision);
          expect(file.halfFloats).toBe(false);
          const prefix = path(`profile-${variant}-${precision}`);
          const cpu = await Session.fromFile(file.path, { threads: 1, shortLived: true });
          const gpu = await Session.fromFile(file.path, { threads: 1, device: "webgpu", profile: prefix });
          const feeds = makePromptFeeds([PROMPTS[0]?.slice(0, 5) ?? [], PROMPTS[1] ?? []], config);
          const expected = await cpu.run(feeds);
          const step = makeStepFeeds(feeds, [[7], [8]], takeCache(expected));
          const limit = LIMITS[precision] as number;
          expect(compareOutputs(await gpu.run(feeds), expected).error).toBeLessThan(limit);
          expect(compareOutputs(await gpu.run(step), await cpu.run(step)).error).toBeLessThan(limit);
          await cpu.close();
          await gpu.close();
          const { device, host } = readPlacement(prefix);
          expect(device).toBeGreaterThan(30);
          expect(host.filter((node) => !isSize(node))).toEqual([]);
        },
      );
  });
});
