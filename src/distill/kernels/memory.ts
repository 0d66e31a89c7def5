// Float32 arrays in WebAssembly memory, where the kernels work on them and ONNX Runtime reads and writes them uncopied.
import { NfcError } from "../../errors.ts";
import type { RoundingKernel } from "../../graph/quantize/rounding-kernel.ts";
import { makeMemory, openKernels, PAGE_BYTES, type WasmMemory } from "../../numeric/web-assembly.ts";
import { WASM_BASE64 } from "./wasm.ts";

/** The exports of kernels.as.ts and rounding.as.ts. Arrays are addresses in bytes (`byteOffset`), lengths count floats. */
interface Kernels extends RoundingKernel {
  adamw(
    value: number,
    gradient: number,
    moment1: number,
    moment2: number,
    length: number,
    lr: number,
    beta1: number,
    beta2: number,
    epsilon: number,
    decay: number,
    bias1: number,
    bias2: number,
    scale: number,
  ): void;
  sumOfSquares(source: number, length: number): number;
  addInto(target: number, source: number, length: number): void;
  mixInto(target: number, source: number, length: number, weight: number): void;
  swap(a: number, b: number, length: number): void;
  /** Reads the table in the first 32,768 floats of `shared`, and works in the next 1,536. */
  normals(target: number, length: number, key0: number, key1: number, key2: number, key3: number): void;
}

/** Arrays of zeros that share a memory, its kernels, and the array that every region of that memory shares. */
export interface Region {
  kernels: Kernels;
  arrays: Float32Array[];
  shared: Float32Array;
}

export interface RegionRequest {
  name: string;
  lengths: readonly number[];
}

/** A memory's largest size: 2³² − 65,536 bytes, so that the end of every array is a 32-bit address */
const BANK_BYTES = 2 ** 32 - PAGE_BYTES;
/** Arrays begin at multiples of a cache line; kernels may overwrite the floats from an array's end to the next one. */
const LINE = 64;

const roundUpToLine = (length: number) => Math.ceil((length * 4) / LINE) * LINE;

/**
 * Lays the requests out in as few memories as their order allows, each just as large as it must be: growing one would
 * detach its arrays. Every memory begins with `shared` floats.
 * @throws NfcError "unsupported" if a request exceeds `bankBytes`, or there is not so much address space
 */
export function allocate(requests: readonly RegionRequest[], bankBytes = BANK_BYTES, shared = 0): Region[] {
  const banks: RegionRequest[][] = [];
  let used = Number.POSITIVE_INFINITY;
  for (const request of requests) {
    const bytes = request.lengths.reduce((sum, length) => sum + roundUpToLine(length), 0);
    if (roundUpToLine(shared) + bytes > bankBytes) {
      throw new NfcError(
        "unsupported",
        `${request.name}: its arrays take ${formatGigabytes(bytes)}, more than a memory of ${formatGigabytes(bankBytes)} holds`,
        { hint: "use a smaller model, batch or context" },
      );
    }
    if (used + bytes > bankBytes) {
      banks.push([]);
      used = roundUpToLine(shared);
    }
    banks.at(-1)?.push(request);
    used += bytes;
  }
  return banks.flatMap((bank) => fill(bank, shared));
}

function fill(requests: readonly RegionRequest[], shared: number): Region[] {
  const lengths = [shared, ...requests.flatMap((request) => request.lengths)];
  const memory = makeBank(lengths.reduce((sum, length) => sum + roundUpToLine(length), 0));
  const kernels = openKernels<Kernels>(WASM_BASE64, memory);
  let offset = 0;
  const take = (length: number) => {
    const array = new Float32Array(memory.buffer, offset, length);
    offset += roundUpToLine(length);
    return array;
  };
  const head = take(shared);
  return requests.map((request) => ({ kernels, arrays: request.lengths.map(take), shared: head }));
}

function makeBank(bytes: number): WasmMemory {
  try {
    return makeMemory(bytes);
  } catch (cause) {
    throw new NfcError("unsupported", `no ${formatGigabytes(bytes)} of memory are free for training`, {
      hint: "use a smaller model, batch or context",
      cause,
    });
  }
}

const formatGigabytes = (bytes: number) => `${(bytes / 1e9).toPrecision(3)} GB`;
