// Compares typed arrays by their bytes first: vitest compares them element by element, a second for a few million of them.
import { expect } from "vitest";

/** Views of one kind with the same bytes are equal; any others are left to vitest, which names the first difference. */
function haveEqualBytes(a: unknown, b: unknown): true | undefined {
  if (!ArrayBuffer.isView(a) || !ArrayBuffer.isView(b) || a.constructor !== b.constructor) return undefined;
  if (a.byteLength !== b.byteLength) return undefined;
  return Buffer.compare(bytesOf(a), bytesOf(b)) === 0 ? true : undefined;
}

const bytesOf = (view: ArrayBufferView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

expect.addEqualityTesters([haveEqualBytes]);
