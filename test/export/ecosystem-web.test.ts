// The same exported bytes in onnxruntime-web (WebAssembly) and onnxruntime-node: equal logits, equal next cache.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
import { beforeAll, describe, expect, it } from "vitest";
import { Session, type Tensor } from "../../src/graph/session.ts";
import { chooseFile, openExportedModel } from "../../src/inference/exported/exported-model.ts";
import { makePromptFeeds, makeStepFeeds, takeCache } from "../../src/inference/generate/decoder-feeds.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import type { Precision } from "../../src/model/precision.ts";
import { exported, modelOf, TEXTLESS as PRECISIONS, PROMPTS } from "../support/exported.ts";
import { opened } from "../support/fixture.ts";
import { worstOf } from "../support/golden-models.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("ecosystem-web");

beforeAll(() => {
  ort.env.wasm.numThreads = 1;
});

type Feeds = Record<string, Tensor>;

function webSession(folder: string, external: boolean) {
  const data = () => new Uint8Array(readFileSync(`${folder}/onnx/model.onnx_data`));
  const externalData = external ? [{ path: "model.onnx_data", data: data() }] : [];
  return webRun(readFileSync(`${folder}/onnx/model.onnx`), externalData);
}

async function webRun(
  model: Uint8Array,
  externalData: { path: string; data: Uint8Array }[] = [],
): Promise<(feeds: Feeds) => Promise<Feeds>> {
  const session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: ["wasm"],
    externalData,
  });
  return async (feeds) => {
    const inputs = Object.entries(feeds).map(([name, { dtype, data: values, shape }]) => {
      return [name, new ort.Tensor(dtype as "float32", values as Float32Array, shape)] as const;
    });
    const outputs = await session.run(Object.fromEntries(inputs));
    return Object.fromEntries(
      Object.entries(outputs).map(([name, { type, data: values, dims }]) => [
        name,
        { dtype: type, data: values, shape: dims } as Tensor,
      ]),
    );
  };
}

describe.each([
  ["noise-distance", "inline"],
  ["noise-distance", "shared"],
  ["symmetric", "external"],
  ["dense", "inline"],
  ["pairwise", "shared"],
  ["low-rank", "inline"],
  ["low-rank", "external"],
] as const)("the file of a %s model with weights %s, in the browser's runtime", (variant, weights) => {
  it("the browser's runtime computes what Node's does, from the prompt to a step with the cache", async () => {
    const source = await modelOf(variant, path(`source-${variant}-${weights}`));
    const folder = path(`${variant}-${weights}`);
    await exported(source, folder, { weights });
    const config = await opened(source, (model) => model.config);
    const web = await webSession(folder, weights !== "inline");
    const node = await Session.fromFile(`${folder}/onnx/model.onnx`, { threads: 1 });
    const padded = makePromptFeeds([PROMPTS[0]?.slice(0, 5) ?? [], PROMPTS[1] ?? []], config);
    const [first, own] = [await web(startAsGpt2(padded, config)), await node.run(padded)];
    expect(Object.keys(first).sort()).toEqual(Object.keys(own).sort());
    const step = (outputs: Feeds) => makeStepFeeds(padded, [[7], [8]], takeCache(outputs));
    const [second, ownSecond] = [await web(step(first)), await node.run(step(own))];
    for (const [a, b] of [
      [first, own],
      [second, ownSecond],
    ] as const)
      for (const name of Object.keys(b)) {
        expect(a[name]?.shape).toEqual(b[name]?.shape);
        expect(worstOf(a[name]?.data as Float32Array, b[name]?.data as Float32Array), name).toBeLessThan(1e-4);
      }
    await node.close();
  });
});

/** The empty cache of transformers.js, which is as wide as GPT-2's. */
function startAsGpt2(feeds: Feeds, { n_head, n_embd }: ModelConfig): Feeds {
  const wide = Object.entries(feeds).map(([name, tensor]) => {
    const shape = [tensor.shape[0] as number, n_head, 0, n_embd / n_head];
    return [name, name.startsWith("past_key_values") ? { ...tensor, shape } : tensor];
  });
  return Object.fromEntries(wide);
}

describe.each(["noise-distance", "low-rank"] as const)("every precision of %s in the browser's runtime", (variant) => {
  const folder = path(`all-${variant}`);
  const PADDED = [PROMPTS[0]?.slice(0, 5) ?? [], PROMPTS[1] ?? []];
  /**
   * Root mean square of the differences, relative to the logits'. WebAssembly multiplies blocks in float32, as Node does
   * with weights that are not packed; with packed ones Node rounds activations to int8 by block.
   */
  const LIMITS: Record<Precision, { packed: number; plain: number }> = {
    fp32: { packed: 1e-5, plain: 1e-5 },
    fp16: { packed: 2e-3, plain: 2e-3 },
    int8: { packed: 0.03, plain: 0.03 },
    uint8: { packed: 0.03, plain: 1e-5 },
    mixed: { packed: 0.03, plain: 1e-5 },
    q4: { packed: 0.03, plain: 1e-5 },
    q2: { packed: 0.03, plain: 1e-5 },
    q4f16: { packed: 0.03, plain: 3e-3 },
  };

  beforeAll(async () => {
    await exported(await modelOf(variant, path(`source-${variant}`)), folder, { precisions: PRECISIONS });
  });

  it.each(PRECISIONS)("the %s file has Node's logits in the browser's runtime", async (precision) => {
    const model = await openExportedModel(folder);
    const file = chooseFile(model, precision);
    const feeds = makePromptFeeds(PADDED, model.config, { cacheDtype: file.cacheDtype });
    const web = await webRun(readFileSync(file.path));
    const { logits } = await web(startAsGpt2(feeds, model.config));
    for (const [way, shortLived] of [
      ["packed", false],
      ["plain", true],
    ] as const) {
      const node = await Session.fromFile(file.path, { threads: 1, shortLived });
      const own = (await node.run(feeds)).logits?.data as Float32Array;
      const squares = (of: (i: number) => number) => own.reduce((sum, _, i) => sum + of(i) ** 2, 0);
      const error = squares((i) => (own[i] as number) - Number(logits?.data[i]));
      expect(Math.sqrt(error / squares((i) => own[i] as number)), way).toBeLessThan(LIMITS[precision][way]);
      await node.close();
    }
  });
});
