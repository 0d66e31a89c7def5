// Runs the noise graph in a session and compares its arrays with the kernel's, bit by bit.
import { expect } from "vitest";
import { buildNormalTable, deriveNoiseKeys, NoiseBuffers } from "../../src/distill/step/noise.ts";
import { buildNoiseGraph, NOISE } from "../../src/distill/step/noise-graph.ts";
import { countElements } from "../../src/formats/dtype.ts";
import { Session, type SessionOptions } from "../../src/graph/session.ts";

/** Shapes whose arrays are whole rows of 256 draws, less than one row, and rows with a rest */
const SHAPES = [
  [2, 4, 64, 64],
  [1, 1, 16, 16],
  [2, 1, 5, 5],
  [2, 3, 37, 37],
];

/** Draws twice in one session and expects the kernel's bits; `draw` and `seed` are those of a run. */
export async function expectKernelBits(seed: number, draws: readonly number[], options: SessionOptions): Promise<void> {
  const session = await Session.withInputs(buildNoiseGraph(SHAPES), options);
  const table = { dtype: "float32", data: buildNormalTable(), shape: [65_536] } as const;
  const buffers = new NoiseBuffers(SHAPES.map(countElements), seed);
  try {
    for (const draw of draws) {
      const keys = deriveNoiseKeys(seed, draw, SHAPES.length);
      const outputs = await session.run({
        [NOISE.keys]: { dtype: "int32", data: keys, shape: [SHAPES.length, 4] },
        [NOISE.table]: table,
      });
      buffers.draw(draw);
      for (const [index, shape] of SHAPES.entries()) {
        const output = outputs[`eps.${index}`];
        expect(output?.shape).toEqual(shape);
        expect(readBits(output?.data as Float32Array)).toEqual(readBits(buffers.arrays[index] as Float32Array));
      }
    }
  } finally {
    await session.close();
  }
}

/** A copy, so that −0 and 0 differ */
const readBits = (x: Float32Array) => new Uint32Array(x.slice().buffer);
