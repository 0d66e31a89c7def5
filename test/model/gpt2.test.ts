// The forward pass against the reference implementation's numbers, in every variant and noise mode.
import { describe, expect, test } from "vitest";
import { openSafetensors, type TensorReader } from "../../src/formats/safetensors/reader.ts";
import { Graph } from "../../src/graph/ir.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session } from "../../src/graph/session.ts";
import { reshape } from "../../src/graph/shape-ops.ts";
import type { NoiseMode } from "../../src/model/attention.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { declareTextInputs, gpt2, lmHead } from "../../src/model/gpt2.ts";
import { makeParameterLookup } from "../../src/model/layers.ts";
import { opened } from "../support/fixture.ts";
import { findGolden, GOLDEN_NAMES, goldenModel } from "../support/golden-models.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("golden");

describe("the forward pass against the reference", () => {
  for (const name of GOLDEN_NAMES) {
    test(`the forward pass of ${name} equals the reference: logits at the mean and with fed noise`, async () => {
      const reader = await openSafetensors(`${findGolden(name)}.safetensors`);
      const { folder } = await goldenModel(name, path(name));
      const config = await opened(folder, async (checkpoint) => checkpoint.config);
      expect(await worst(reader, config, { kind: "mean" }, "mean_logits")).toBeLessThan(1e-5);
      expect(await worst(reader, config, { kind: "fed" }, "sample_logits")).toBeLessThan(1e-5);
      await reader.close();
    });
  }
});

/** The largest absolute difference of our logits from the stored ones. */
async function worst(reader: TensorReader, config: ModelConfig, noise: NoiseMode, expected: string): Promise<number> {
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const inputs = declareTextInputs(graph);
  const { hidden, sources } = gpt2(config, parameters, inputs, noise);
  const logits = lmHead(hidden, config, parameters);
  graph.output(reshape(logits, ["batch_size", "sequence_length", config.vocab_size], sources), "logits");
  const weights = new Map<string, Float32Array>();
  for (const name of reader.tensors.keys())
    if (name.startsWith("param.")) weights.set(name.slice("param.".length), await reader.readF32(name));
  const session = await Session.withWeights(graph, ({ name }) => weights.get(name) as Float32Array);
  const stored = reader.tensors.get("ids");
  const bytes = await reader.readBytes("ids");
  const ids = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const [batch, length] = (stored?.shape ?? []) as [number, number];
  const positions = Array.from(ids, (_, i) => i % length);
  const feeds = {
    input_ids: makeInt64Tensor(ids, [batch, length]),
    position_ids: makeInt64Tensor(positions, [batch, length]),
  };
  const noiseFeeds = Object.fromEntries(
    await Promise.all(
      session.inputNames
        .filter((name) => name.startsWith("eps."))
        .map(async (name) => [
          name,
          makeFloat32Tensor(await reader.readF32(name), reader.tensors.get(name)?.shape ?? []),
        ]),
    ),
  );
  const output = await session.run({ ...feeds, ...noiseFeeds });
  const reference = await reader.readF32(expected);
  expect(output.logits?.data.length).toBe(reference.length);
  const ours = output.logits?.data as Float32Array;
  await session.close();
  return reference.reduce((most, value, i) => Math.max(most, Math.abs(value - (ours[i] ?? Number.NaN))), 0);
}
