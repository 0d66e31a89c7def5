// Draws seeded random numbers by xoshiro128** (Blackman & Vigna 2018), with independent streams.

/** 2⁻⁵³: a double's random bits as a number in [0, 1). */
const UNIT = 2 ** -53;
const GOLDEN = 0x9e3779b9;

/** Numbers in [0, 1) with 53 random bits; equal seed and stream give equal numbers. */
export function makeRandom(seed: number, stream = 0): () => number {
  const next = xoshiro128(makeState(seed, stream));
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) * UNIT;
}

/** Unsigned 32-bit integers; `state` is changed. */
export function xoshiro128(state: Uint32Array): () => number {
  return () => {
    const [s0, s1, s2, s3] = state as unknown as [number, number, number, number];
    const result = Math.imul(rotate(Math.imul(s1, 5), 7), 9) >>> 0;
    state[2] = s2 ^ s0;
    state[3] = s3 ^ s1;
    state[1] = s1 ^ state[2];
    state[0] = s0 ^ state[3];
    state[2] ^= s1 << 9;
    state[3] = rotate(state[3], 11);
    return result;
  };
}

function makeState(seed: number, stream: number): Uint32Array {
  const start = mixBits(mixBits(seed) + Math.imul(stream, GOLDEN));
  return Uint32Array.from({ length: 4 }, (_, i) => mixBits(start + Math.imul(i + 1, GOLDEN)));
}

/** MurmurHash3's last step (Appleby): a bijection of 32 bits in which every input bit moves every output bit. */
export function mixBits(value: number): number {
  let x = value ^ (value >>> 16);
  x = Math.imul(x, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

const rotate = (x: number, by: number) => (x << by) | (x >>> (32 - by));
