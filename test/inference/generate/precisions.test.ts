// Every precision of an export generates: float16 caches, padded batches, rows that leave.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exportModel } from "../../../src/export/export-model.ts";
import { chooseFile, type ExportedModel, openExportedModel } from "../../../src/inference/exported/exported-model.ts";
import { Decoder } from "../../../src/inference/generate/decoder.ts";
import type { Precision } from "../../../src/model/precision.ts";
import { modelOf, TEXTLESS as PRECISIONS } from "../../support/exported.ts";
import { opened } from "../../support/fixture.ts";
import { greedy } from "../../support/greedy.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("precisions");
const PROMPTS = [
  [5, 1, 383, 77, 12, 12, 200],
  [9, 300, 2],
];
let model: ExportedModel;
const decoders = new Map<Precision, Decoder>();
const decoderOf = (precision: Precision) => decoders.get(precision) as Decoder;

beforeAll(async () => {
  const source = await modelOf("noise-distance", path("source"));
  await opened(source, (checkpoint) =>
    exportModel(checkpoint, {
      output: path("onnx"),
      onnx: { weights: "inline", noise: { kind: "mean" }, precisions: PRECISIONS },
      threads: 1,
    }),
  );
  model = await openExportedModel(path("onnx"));
  for (const precision of PRECISIONS)
    decoders.set(precision, await Decoder.ofFile(chooseFile(model, precision), model.config, { threads: 1 }));
});
afterAll(async () => {
  for (const decoder of decoders.values()) await decoder.close();
});

/** Root mean square of the difference from what the same decoder says of the whole text alone, relative to that. */
async function errorOf(decoder: Decoder, logits: Float32Array | undefined, text: readonly number[]): Promise<number> {
  const given = Float32Array.from(logits as Float32Array); // the next call may overwrite it
  const [expected] = await decoder.prompt([text]);
  const squares = (values: Float32Array) => values.reduce((sum, value) => sum + value ** 2, 0);
  return Math.sqrt(
    squares(given.map((value, i) => value - (expected?.[i] as number))) / squares(expected as Float32Array),
  );
}

/** float16 rounds sums; in int8 a sum's last digit may round an activation to the next code. */
const ROUNDING: Record<Precision, number> = {
  ...{ fp32: 1e-5, fp16: 5e-3, int8: 5e-3, uint8: 1e-5, mixed: 1e-5, q4: 1e-5, q4f16: 5e-3, q2: 1e-5 },
};

describe.each(PRECISIONS)("decoding with %s weights", (precision) => {
  it("the logits of a text in padded steps are those of the whole text alone", async () => {
    const decoder = decoderOf(precision);
    await decoder.prompt(PROMPTS);
    await decoder.step([7, 8]);
    decoder.keep([1]);
    const [logits] = await decoder.step([9]);
    expect(await errorOf(decoder, logits, [9, 300, 2, 8, 9])).toBeLessThan(ROUNDING[precision]);
  });

  it("greedy text in a batch has the length asked for, and in fp16 is that of fp32", async () => {
    const texts = await greedy(decoderOf(precision), PROMPTS, 12);
    expect(texts.map((text) => text.length)).toEqual([12, 12]);
    if (precision === "fp16") expect(texts).toEqual(await greedy(decoderOf("fp32"), PROMPTS, 12));
  });
});
