// Q and K out of c_attn, and [s, v] back.
import { describe, expect, test } from "vitest";
import type { CheckpointTensor } from "../../../src/checkpoint/checkpoint.ts";
import { makeTiedTensor, readProjections } from "../../../src/convert/attention/tied-attention.ts";
import { decodeFloats } from "../../../src/formats/dtype.ts";
import { columns, opened } from "../../support/fixture.ts";
import { tinyValues, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("tied-attention");
const C = 8;

/** The columns of one of q, k, v. */
function part(values: Float32Array, rows: number, which: number): number[] {
  return columns(values, rows, which * C, C).flatMap((row) => [...row]);
}

describe("projections", () => {
  test.each(["conv1d", "linear"] as const)(
    "the projections Q and K are the first two thirds of c_attn's columns: %s",
    async (layout) => {
      const folder = await writeCheckpoint(at(layout), { layout });
      await opened(folder, async (checkpoint) => {
        for (const layer of [0, 1]) {
          const found = await readProjections(checkpoint, layer);
          const weight = tinyValues(`h.${layer}.attn.c_attn.weight`, 3 * C * C);
          const bias = tinyValues(`h.${layer}.attn.c_attn.bias`, 3 * C);
          expect([...found.qWeight]).toEqual(part(weight, C, 0));
          expect([...found.kWeight]).toEqual(part(weight, C, 1));
          expect([...(found.qBias ?? [])]).toEqual(part(bias, 1, 0));
          expect([...(found.kBias ?? [])]).toEqual(part(bias, 1, 1));
        }
      });
    },
  );

  test("the projections have no biases where the model has none", async () => {
    const folder = await writeCheckpoint(at("bare"), { bias: false });
    await opened(folder, async (checkpoint) => {
      const { qBias, kBias } = await readProjections(checkpoint, 0);
      expect([qBias, kBias]).toEqual([null, null]);
    });
  });
});

describe("c_attn of the tied model", () => {
  const tied = {
    weight: Float32Array.from({ length: C * C }, (_, i) => i / 4),
    bias: Float32Array.from({ length: C }, (_, i) => -i),
  };

  test.each(["F32", "F16", "BF16"] as const)("the tied c_attn is S followed by V's own bytes, in %s", async (dtype) => {
    const folder = await writeCheckpoint(at(`source-${dtype}`), { dtype });
    await opened(folder, async (checkpoint) => {
      for (const [name, rows] of [
        ["h.1.attn.c_attn.weight", C],
        ["h.1.attn.c_attn.bias", 1],
      ] as const) {
        const tensor = checkpoint.tensors.get(name) as CheckpointTensor;
        const source = makeTiedTensor(checkpoint, tensor, async () => (rows === 1 ? tied.bias : tied.weight));
        expect(source.dtype).toBe(dtype);
        const chunks: Uint8Array[] = [];
        for await (const chunk of source.chunks(name)) chunks.push(Uint8Array.from(chunk));
        const values = decodeFloats(Buffer.concat(chunks), dtype);
        expect(part(values, rows, 0)).toEqual([...(rows === 1 ? tied.bias : tied.weight)]);
        expect(part(values, rows, 1)).toEqual(part(await checkpoint.readF32(name), rows, 2));
      }
    });
  });
});
