// Text written with a cache that is read in place: the numbers of the exported file run as it is, whatever the attention.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { exportModel } from "../../../src/export/export-model.ts";
import type { OnnxExportOptions } from "../../../src/export/onnx/onnx-export.ts";
import { chooseFile, openExportedModel } from "../../../src/inference/exported/exported-model.ts";
import { Decoder } from "../../../src/inference/generate/decoder.ts";
import { PlaceCache } from "../../../src/inference/generate/place-cache.ts";
import { PlaceModel } from "../../../src/inference/generate/place-model.ts";
import { openFileSession } from "../../../src/inference/model-session.ts";
import { PRECISIONS, type Precision } from "../../../src/model/precision.ts";
import { opened } from "../../support/fixture.ts";
import { tinyModelConfig, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { type Form, formOf } from "../../support/narrow-models.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("place-model");
const THREADS = { threads: 1 };
/** More positions than the cache has room for at once, twice. */
const SIZES = { width: 32, heads: 2, positions: 200, vocab: 50 };
const PROMPTS = [
  [5, 1, 38, 7, 12, 12, 20],
  [9, 30, 2],
  [41, 35, 8, 3, 17],
];
let dense = "";
beforeAll(async () => {
  dense = await writeCheckpoint(path("source"), SIZES);
});

async function exportedTo(source: string, name: string, options: Partial<OnnxExportOptions> = {}) {
  const onnx = { weights: "inline", noise: { kind: "mean" }, ...options } as const;
  await opened(source, (checkpoint) => exportModel(checkpoint, { output: path(name), onnx, threads: 1 }));
  return openExportedModel(path(name));
}

/** The same file with the cache in place, and run as it is. */
async function openBoth(name: string, precision: Precision = "fp32") {
  const model = await openExportedModel(path(name));
  const file = chooseFile(model, precision);
  const place = await PlaceModel.ofFile(file, model.config, THREADS);
  if (place === null) throw new Error(`${file.path} is run as it is`);
  return { own: new Decoder(place), plain: new Decoder(await openFileSession(file, model.config, THREADS)) };
}

function expectClose(actual: readonly Float32Array[], expected: readonly Float32Array[], allowed = 1e-4): void {
  expect(actual).toHaveLength(expected.length);
  for (const [row, values] of expected.entries()) {
    const worst = values.reduce((most, value, i) => Math.max(most, Math.abs(value - (actual[row]?.[i] as number))), 0);
    expect(worst).toBeLessThan(allowed);
    expect(actual[row]).toHaveLength(values.length);
  }
}

const FORMS: readonly [string, Form][] = [
  ["dense", { variant: "dense" }],
  ["symmetric", { variant: "symmetric" }],
  ["noise-distance", { variant: "noise-distance" }],
  ["pairwise", { variant: "pairwise" }],
  ["low-rank", { variant: "low-rank", qk: [5, 9], vo: [16, 7] }],
];

const sourceOf = async (name: string, form: Form) =>
  name === "dense" ? dense : formOf(dense, path(`${name}-${sources++}`), form);
let sources = 0;

describe.each(FORMS)("a cache in place, %s attention", (name, form) => {
  it("a padded batch and long texts get the logits of the file as it is", async () => {
    await exportedTo(await sourceOf(name, form), name);
    const { own, plain } = await openBoth(name);
    expectClose(await own.prompt(PROMPTS), await plain.prompt(PROMPTS));
    for (let step = 0; step < 140; step++) {
      const ids = PROMPTS.map((_, row) => (7 * step + 11 * row) % SIZES.vocab);
      const [actual, expected] = [await own.step(ids), await plain.step(ids)];
      if (step % 20 === 19) expectClose(actual, expected);
    }
    for (const decoder of [own, plain]) decoder.keep([2, 0]);
    expectClose(await own.step([1, 2]), await plain.step([1, 2]));
    await Promise.all([own.close(), plain.close()]);
  });

  it("a checkpoint gets the same, and positions that are forgotten leave no trace", async () => {
    const [prompt = []] = PROMPTS;
    await opened(await sourceOf(name, form), async (checkpoint) => {
      const own = await Decoder.ofCheckpoint(checkpoint, THREADS);
      const { plain } = await openBoth(name);
      await own.prompt([prompt]);
      await own.extend([1, 2, 3]);
      own.truncate(prompt.length + 1);
      await plain.prompt([prompt]);
      expectClose(await own.extend([9, 8]), (await plain.extend([1, 9, 8])).slice(1));
      plain.truncate(prompt.length + 2);
      own.truncate(prompt.length + 2);
      expectClose(await own.step([4]), await plain.step([4]));
      await Promise.all([own.close(), plain.close()]);
    });
  });
});

describe("files that are run with the cache in place", () => {
  const EXACT: Partial<Record<Precision, number>> = { fp32: 1e-4, uint8: 2e-2, q4: 2e-2, int8: 0.5 };

  it.each(["fp32", "int8", "uint8", "q4"] as const)("%s files of nfc are", async (precision) => {
    await exportedTo(dense, `own-${precision}`, { precisions: [precision] });
    const { own, plain } = await openBoth(`own-${precision}`, precision);
    expectClose(await own.prompt(PROMPTS), await plain.prompt(PROMPTS), EXACT[precision]);
    expectClose(await own.step([1, 2, 3]), await plain.step([1, 2, 3]), EXACT[precision]);
    await Promise.all([own.close(), plain.close()]);
  });

  it.each(["external", "shared"] as const)("weights that lie beside the model are read there: %s", async (weights) => {
    await exportedTo(dense, weights, { weights });
    const { own, plain } = await openBoth(weights);
    expectClose(await own.prompt(PROMPTS), await plain.prompt(PROMPTS));
    await Promise.all([own.close(), plain.close()]);
  });

  it.each([
    { block: 16, symmetric: true },
    { block: 32, symmetric: false },
  ])("blocks are those of the file: %o", async (quantization) => {
    const name = `blocks-${quantization.block}`;
    await exportedTo(dense, name, { precisions: ["q4"], quantization });
    const { own, plain } = await openBoth(name, "q4");
    expectClose(await own.prompt(PROMPTS), await plain.prompt(PROMPTS), 2e-2);
    await Promise.all([own.close(), plain.close()]);
  });
});

describe("files that are run as they are", () => {
  const opens = async (name: string, precision?: Precision) => {
    const model = await openExportedModel(path(name));
    return PlaceModel.ofFile(chooseFile(model, precision), model.config, THREADS);
  };

  it("those with a cache in float16", async () => {
    await exportedTo(dense, "half", {
      precisions: PRECISIONS.filter((each) => each.includes("f16") || each === "fp16"),
    });
    expect([await opens("half", "fp16"), await opens("half", "q4f16")]).toEqual([null, null]);
  });

  it("those that draw noise", async () => {
    const source = await formOf(dense, path("noisy"), { variant: "noise-distance" });
    await exportedTo(source, "sampled", { noise: { kind: "generated", seed: 1 } });
    expect(await opens("sampled")).toBeNull();
  });

  it("those of other tools, and those whose weights are not as planned", async () => {
    await exportedTo(dense, "other");
    const file = join(path("other"), "onnx/model.onnx");
    const bytes = readFileSync(file);
    const change = (from: string, to: string) => {
      const changed = Buffer.from(bytes.toString("latin1").replaceAll(from, to), "latin1");
      writeFileSync(file, changed);
    };
    change("h.1.ln_1.bias", "h.1.ln_9.bias");
    expect(await opens("other")).toBeNull();
    writeFileSync(file, bytes);
    expect(await opens("other")).not.toBeNull();
  });
});

describe("the places of a cache", () => {
  it.each([0, 100, 200])("grow by steps, and keep what is there when they do: %i expected", (expected) => {
    const config = tinyModelConfig({ layers: 1, heads: 2, width: 4, positions: 200 });
    const cache = new PlaceCache(config, 1, expected);
    const positions = (from: number, count: number) => {
      const data = Float32Array.from({ length: 2 * count * 2 }, (_, i) => {
        const [head, position, part] = [Math.floor(i / (2 * count)), Math.floor(i / 2) % count, i % 2];
        return 1000 * head + 2 * (from + position) + part;
      });
      const tensor = { dtype: "float32", data, shape: [1, 2, count, 2] } as const;
      return { "new.0.key": tensor, "new.0.value": tensor };
    };
    cache.append(positions(0, 63), 63);
    expect([cache.length, cache.size]).toEqual([63, 64]);
    cache.append(positions(63, 3), 3);
    expect([cache.length, cache.size]).toEqual([66, 128]);
    const value = cache.feeds["past_key_values.0.value"];
    expect(value?.shape).toEqual([1, 2, 128, 2]);
    for (const head of [0, 1]) {
      const found = value?.data.subarray(head * 256, head * 256 + 132) as Float32Array;
      expect([...found]).toEqual(Array.from({ length: 132 }, (_, i) => 1000 * head + i));
    }
    expect(cache.feeds["past_key_values.0.key"]?.data.buffer).toBe(cache.feeds["past_key_values.0.key"]?.data.buffer);
  });
});
