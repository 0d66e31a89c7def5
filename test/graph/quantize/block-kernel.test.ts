// The kernel that rounds blocks: the same bytes as the rule in JavaScript, which an importance of 1 takes.
import { describe, expect, test } from "vitest";
import type { MatrixFormat } from "../../../src/graph/passes/quantized-blocks.ts";
import { quantizeBlocks } from "../../../src/graph/quantize/blocks.ts";
import { uniform } from "../../numeric/matrices.ts";
import { failureOf } from "../../support/failure.ts";

/** Blocks of zeros, of one sign, of numbers below float16's least, of equal and of large numbers between ordinary ones. */
function sample(count: number): Float32Array {
  const draw = uniform(7);
  return Float32Array.from({ length: count }, (_, i) => {
    const value = draw();
    const kinds = [0, -0, Math.abs(value), -Math.abs(value), value * 1e-7, 0.25, value * 1e3, value];
    return kinds[(i >> 5) % kinds.length] as number;
  });
}

const SHAPES = [
  [96, 64],
  [130, 37],
  [5, 3000],
  [300, 2048],
] as const;

describe("blocks by the kernel", () => {
  const cases = ([4, 8, 2] as const).flatMap((bits) =>
    [true, false].flatMap((byRow) => [true, false].map((symmetric) => ({ bits, byRow, symmetric }))),
  );

  test.each(cases)("have the bytes of the rule: %o", (kind) => {
    for (const shape of SHAPES)
      for (const block of [16, 32, 128]) {
        const format: MatrixFormat & { name: string } = { ...kind, block, shape, name: "w" };
        const weights = sample(shape[0] * shape[1]);
        const importance = new Float64Array(kind.byRow ? shape[1] : shape[0]).fill(1);
        expect(quantizeBlocks(weights, format)).toEqual(quantizeBlocks(weights, { ...format, importance }));
      }
  });

  test("a weight that is not finite is refused, wherever it lies", async () => {
    for (const at of [0, 5000, 300 * 2048 - 1]) {
      const weights = sample(300 * 2048);
      weights[at] = Number.NaN;
      const format = { bits: 4, block: 32, symmetric: false, byRow: true, shape: [300, 2048], name: "w" } as const;
      const error = await failureOf(() => quantizeBlocks(weights, format));
      expect(error.message).toBe("w: has weights that are not finite");
    }
  });
});
