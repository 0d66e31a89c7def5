// The loss that lower ranks are foretold: the same for two ways to write the same attention.
import { expect, it } from "vitest";
import { measureSpectra } from "../../../src/convert/attention/spectra.ts";
import { TensorScratch } from "../../../src/convert/tensor-scratch.ts";
import { opened } from "../../support/fixture.ts";
import { encode, tinyHfConfig, tinyTensors, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("spectra");
const options = { layers: 2, heads: 2, width: 8 };
const windows = [Int32Array.from({ length: 20 }, (_, i) => (5 * i + 3) % 11)];

async function spectraOf(name: string, keys: Record<string, unknown>, factorOf: (layer: number) => number) {
  const tensors = tinyTensors(options).map((tensor) => {
    const [, layer] = /^h\.(\d)\.attn\.c_attn/.exec(tensor.name) ?? [];
    if (layer === undefined) return tensor;
    const values = new Float32Array(tensor.bytes.slice().buffer);
    const scaled = values.map((x, i) => (i % 24 < 8 ? x * factorOf(Number(layer)) : x)); // the columns of q
    return { ...tensor, bytes: encode(scaled, "F32") };
  });
  const folder = await writeCheckpoint(path(name), { tensors, config: { ...tinyHfConfig(options), ...keys } });
  const scratch = await TensorScratch.create(path(`${name}-scratch`));
  try {
    const text = { windows, others: [], every: 1, record: { file: "", sha256: "", tokens: 20 } };
    return await opened(folder, (checkpoint) => measureSpectra(checkpoint, { scratch, text, threads: 1 }));
  } finally {
    await scratch.remove();
  }
}

it.each([
  ["by the number of the layer", { scale_attn_by_inverse_layer_idx: true }, (layer: number) => 1 / (layer + 1)],
  ["by nothing", { scale_attn_weights: false }, () => 2], // √D = 2
])("scores that config.json divides %s lose what those of scaled weights lose", async (_, keys, factorOf) => {
  const [named, scaled] = [await spectraOf("named", keys, () => 1), await spectraOf("scaled", {}, factorOf)];
  expect(named).toHaveLength(2);
  for (const [layer, { scores, values }] of named.entries())
    for (const [own, other] of [
      [scores, scaled[layer]?.scores],
      [values, scaled[layer]?.values],
    ] as const)
      for (const [rank, loss] of own.losses.entries()) {
        const expected = other?.losses[rank] as number;
        expect(Math.abs(loss - expected), `layer ${layer}, rank ${rank}`).toBeLessThanOrEqual(1e-3 * expected);
      }
  expect(named[1]?.scores.losses[0]).toBeGreaterThan(0);
});
