// Computes a permutation of 0 … size − 1 index by index, without a table.
import { mixBits } from "./random.ts";

/** Four make a Feistel network a strong permutation in theory (Luby & Rackoff 1988); more help its tiny halves here. */
const ROUNDS = 8;

/**
 * Gives the image of `index` under a permutation of 0 … size − 1. `key`: integers below 2^53 that choose it.
 * A Feistel network permutes the least 4^k numbers that include them all; a result outside goes through it again until
 * it falls inside ("cycle walking", Black & Rogaway 2002), under four times on average.
 */
export function permuteIndex(index: number, size: number, key: readonly number[]): number {
  let half = 1; // 2^k
  while (half * half < size) half *= 2;
  const roundKeys = Array.from({ length: ROUNDS }, (_, round) => hash([round, ...key]));
  let value = index;
  do {
    let left = Math.floor(value / half);
    let right = value % half;
    for (const roundKey of roundKeys) [left, right] = [right, left ^ (mixBits(right ^ roundKey) % half)];
    value = left * half + right;
  } while (value >= size);
  return value;
}

/** 32 bits from integers below 2^53. */
function hash(values: readonly number[]): number {
  return values.reduce((state, value) => {
    const low = mixBits((state + 0x9e3779b9) ^ value); // ^ takes the low 32 bits
    return mixBits((low + 0x9e3779b9) ^ Math.floor(value / 2 ** 32));
  }, 0);
}
