// Transposition of stored matrices, and the comparison of two stored tensors.

import { writeFile } from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hasSameBytes, transposeBytes } from "../../src/checkpoint/read.ts";
import { throwIfAborted } from "../../src/errors.ts";
import { openSafetensors } from "../../src/formats/safetensors/reader.ts";
import { transposeInto } from "../../src/numeric/transpose.ts";
import { failureOf } from "../support/failure.ts";
import { encode, encodeSafetensors, type RawTensor } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("read");

describe("transposing stored matrices", () => {
  it("transposeInto moves [r, s] to [s, r] for any shape", () => {
    const size = fc.integer({ min: 1, max: 70 });
    fc.assert(
      fc.property(size, size, (rows, columns) => {
        const stored = Float32Array.from({ length: rows * columns }, (_, i) => i);
        const out = transposeInto(stored, rows, columns, new Float32Array(stored.length));
        for (let r = 0; r < rows; r++) {
          for (let s = 0; s < columns; s++) {
            if (out[s * rows + r] !== r * columns + s) throw new Error(`[${r}, ${s}] of [${rows}, ${columns}]`);
          }
        }
      }),
      { numRuns: 50 },
    );
  });

  it.each(["F16", "BF16", "F32", "F64"] as const)(
    "transposing %s bytes is exact, also from an odd address",
    (dtype) => {
      const [rows, columns] = [3, 35];
      const values = Float32Array.from({ length: rows * columns }, (_, i) => i);
      const turned = transposeInto(values, rows, columns, new Float32Array(values.length));
      const bytes = encode(values, dtype);
      const shifted = new Uint8Array(bytes.length + 1);
      shifted.set(bytes, 1);
      const elementBytes = bytes.length / values.length;
      expect(transposeBytes(bytes, rows, columns, elementBytes)).toEqual(encode(turned, dtype));
      expect(transposeBytes(shifted.subarray(1), rows, columns, elementBytes)).toEqual(encode(turned, dtype));
    },
  );
});

describe("comparing stored tensors", () => {
  /** Two pieces of the reader and a bit. */
  const COUNT = 2 * 2 ** 21 + 3;
  const tensor = (name: string, edit?: (values: Float32Array) => void): RawTensor => {
    const values = new Float32Array(COUNT).fill(1.5);
    edit?.(values);
    return { name, dtype: "F32", shape: [COUNT], bytes: encode(values, "F32") };
  };

  it("hasSameBytes compares large tensors piece by piece, to the last byte", async () => {
    const last = tensor("last", (values) => values.fill(2, COUNT - 1));
    const short = { ...tensor("short"), shape: [COUNT - 1], bytes: tensor("short").bytes.subarray(4) };
    await writeFile(path("large.safetensors"), encodeSafetensors([tensor("a"), tensor("b"), last, short]));
    const reader = await openSafetensors(path("large.safetensors"));
    expect(await hasSameBytes(reader, "a", "b")).toBe(true);
    expect(await hasSameBytes(reader, "a", "last")).toBe(false);
    expect(await hasSameBytes(reader, "a", "short")).toBe(false);
    const error = await failureOf(() => hasSameBytes(reader, "a", "b", AbortSignal.abort()));
    expect(error.code).toBe("aborted");
    await reader.close();
  });
});

describe("signals", () => {
  it("throwIfAborted does nothing without a signal, or before it fires", () => {
    expect(() => throwIfAborted(undefined)).not.toThrow();
    expect(() => throwIfAborted(new AbortController().signal)).not.toThrow();
  });
});
