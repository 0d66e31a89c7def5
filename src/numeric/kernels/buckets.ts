// Memory for sums of rows by buckets of distances in WebAssembly, and the kernel that works in it.
import { makeMemory, openKernels } from "../web-assembly.ts";
import { WASM_BASE64 } from "./wasm.ts";

/** The export of buckets.as.ts: addresses are in bytes. */
interface Exports {
  addBuckets(
    w: number,
    r: number,
    rows: number,
    first: number,
    columns: number,
    starts: number,
    buckets: number,
    weights: number,
    products: number,
    shares: number,
  ): void;
}

export interface BucketBlock {
  /** The index of the first row. */
  first: number;
  rows: number;
  columns: number;
}

/** Sums of the rows of a block by bucket, in float64. */
export interface BucketSums {
  weights: Float64Array; // Σ_i W_ib: [K]
  products: Float64Array; // Σ_i P_ib: [K]
  /** [W_i, Σ_b P_ib] / √Σ_b W_ib of each row: [rows, K + 1] */
  shares: Float64Array;
}

/** Sums rows with the distances of each bucket: `starts` [K + 1] are its first one and, at the end, that behind the last. */
export class BucketKernel {
  private readonly starts: readonly number[];
  private opened: { kernel: Exports; buffer: ArrayBuffer } | undefined;

  constructor(starts: readonly number[]) {
    this.starts = starts;
  }

  /** @param w [rows, columns] @param r [rows, columns] @returns views that are valid until the next call */
  sum(w: Float32Array, r: Float32Array, { first, rows, columns }: BucketBlock): BucketSums {
    const buckets = this.starts.length - 1;
    const counts = { weights: buckets, products: buckets, shares: rows * (buckets + 1) };
    const productsAt = 8 * counts.weights;
    const sharesAt = productsAt + 8 * counts.products;
    const wAt = sharesAt + 8 * counts.shares;
    const rAt = wAt + w.byteLength;
    const startsAt = rAt + r.byteLength;
    const { kernel, buffer } = this.open(startsAt + 4 * this.starts.length);
    const sums = {
      weights: new Float64Array(buffer, 0, counts.weights).fill(0),
      products: new Float64Array(buffer, productsAt, counts.products).fill(0),
      shares: new Float64Array(buffer, sharesAt, counts.shares),
    };
    new Float32Array(buffer, wAt, w.length).set(w);
    new Float32Array(buffer, rAt, r.length).set(r);
    new Int32Array(buffer, startsAt, this.starts.length).set(this.starts);
    kernel.addBuckets(wAt, rAt, rows, first, columns, startsAt, buckets, 0, productsAt, sharesAt);
    return sums;
  }

  private open(bytes: number): { kernel: Exports; buffer: ArrayBuffer } {
    if (this.opened && this.opened.buffer.byteLength >= bytes) return this.opened;
    const memory = makeMemory(bytes);
    this.opened = { kernel: openKernels<Exports>(WASM_BASE64, memory), buffer: memory.buffer };
    return this.opened;
  }
}
