// The transpose of a matrix of any element type, in blocks that stay in the cache.

/** Side of the square blocks: 2 · 32² float32 values stay in the first-level cache. */
const BLOCK = 32;

type Elements = Int8Array | Uint16Array | Uint32Array | BigUint64Array | Float32Array | Float64Array;

/** out[s, r] = stored[r, s]; `stored` is [rows, columns] row by row. `out` must not be `stored`. */
export function transposeInto<T extends Elements>(stored: T, rows: number, columns: number, out: T): T {
  for (let r0 = 0; r0 < rows; r0 += BLOCK) {
    for (let s0 = 0; s0 < columns; s0 += BLOCK) {
      const rEnd = Math.min(r0 + BLOCK, rows);
      const sEnd = Math.min(s0 + BLOCK, columns);
      for (let r = r0; r < rEnd; r++) {
        for (let s = s0; s < sEnd; s++) out[s * rows + r] = stored[r * columns + s] as T[number];
      }
    }
  }
  return out;
}
