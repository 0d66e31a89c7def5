// Spoils bytes: flipped bits, numbers at their limits, pieces that are cut, doubled or taken from another input.
import type { Chance } from "./chance.ts";

/** Numbers at which 8, 32, 53 and 64 bits end. */
export const LIMITS: readonly bigint[] = [
  ...[0n, 1n, -1n, 127n, 128n, 255n, 256n, 65_535n, 65_536n],
  ...[2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 32n],
  ...[2n ** 53n - 1n, 2n ** 53n, 2n ** 62n, 2n ** 63n - 1n, -(2n ** 63n)],
];
/** Formats have their structure at the start; half of all changes are made there. */
const HEAD = 512;
const LONGEST_PIECE = 64;

type Change = (bytes: Uint8Array, chance: Chance, other: Uint8Array) => Uint8Array;

const place = (bytes: Uint8Array, chance: Chance): number =>
  chance.below(Math.max(1, chance.once(2) ? Math.min(HEAD, bytes.length) : bytes.length));

const splice = (bytes: Uint8Array, at: number, removed: number, inserted: Uint8Array): Uint8Array =>
  Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at + removed)]);

function change(bytes: Uint8Array, at: number, values: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy.set(values.subarray(0, Math.max(0, copy.length - at)), at);
  return copy;
}

const piece = (bytes: Uint8Array, chance: Chance): Uint8Array => {
  const at = place(bytes, chance);
  return bytes.subarray(at, at + 1 + chance.below(LONGEST_PIECE));
};

const CHANGES: readonly Change[] = [
  (bytes, chance) => {
    const at = place(bytes, chance);
    return change(bytes, at, Uint8Array.of((bytes[at] ?? 0) ^ (1 << chance.below(8))));
  },
  (bytes, chance) => change(bytes, place(bytes, chance), Uint8Array.of(chance.below(256))),
  (bytes, chance) => {
    const number = Buffer.alloc(8);
    number.writeBigUInt64LE(BigInt.asUintN(64, chance.pick(LIMITS)));
    return change(bytes, place(bytes, chance), number.subarray(0, chance.pick([2, 4, 8])));
  },
  (bytes, chance) => bytes.subarray(0, place(bytes, chance)),
  (bytes, chance) => splice(bytes, place(bytes, chance), 1 + chance.below(LONGEST_PIECE), new Uint8Array(0)),
  (bytes, chance) => splice(bytes, place(bytes, chance), 0, piece(bytes, chance)),
  (bytes, chance, other) => splice(bytes, place(bytes, chance), chance.below(LONGEST_PIECE), piece(other, chance)),
  (bytes, chance) => {
    const filled = new Uint8Array(1 + chance.below(LONGEST_PIECE)).fill(chance.pick([0, 0xff, 0x20, 0x80, 0x7b, 0x5b]));
    return splice(bytes, place(bytes, chance), 0, filled);
  },
];

/** One to four changes. `other` is a second valid input, of which pieces are taken. */
export function mutateBytes(bytes: Uint8Array, chance: Chance, other: Uint8Array = bytes): Uint8Array {
  let result = bytes;
  for (let left = 1 + chance.below(4); left > 0; left--) result = chance.pick(CHANGES)(result, chance, other);
  return result;
}
