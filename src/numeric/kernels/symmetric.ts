// Memory for the symmetric eigenproblem in WebAssembly, and the kernels that work in it.
import { makeMemory, openKernels } from "../web-assembly.ts";
import { WASM_BASE64 } from "./wasm.ts";

/** The exports of symmetric.as.ts: addresses are in bytes. */
interface Exports {
  reflect(a: number, n: number, k: number, v: number, w: number, beta: number): void;
  reflectRows(z: number, n: number, first: number, v: number, w: number, beta: number): void;
  rotate(z: number, n: number, high: number, rotations: number, count: number): void;
}

export interface SymmetricKernel extends Exports {
  a: Float64Array; // [n, n]
  z: Float64Array; // [n, n]
  v: Float64Array; // [n]
  w: Float64Array; // [n]
  /** c and s of each rotation of a sweep: [n, 2] */
  rotations: Float64Array;
}

let opened: { n: number; kernel: SymmetricKernel } | undefined;

/** The kernels with arrays of order n, which the next call gives again. A thread has its own. */
export function openSymmetricKernel(n: number): SymmetricKernel {
  if (opened?.n === n) return opened.kernel;
  const sizes = [n * n, n * n, n, n, 2 * n];
  const memory = makeMemory(sizes.reduce((sum, size) => sum + size, 0) * Float64Array.BYTES_PER_ELEMENT);
  let at = 0;
  const [a, z, v, w, rotations] = sizes.map((size) => {
    const array = new Float64Array(memory.buffer, at, size);
    at += array.byteLength;
    return array;
  }) as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
  const kernel = { ...openKernels<Exports>(WASM_BASE64, memory), a, z, v, w, rotations };
  opened = { n, kernel };
  return kernel;
}
