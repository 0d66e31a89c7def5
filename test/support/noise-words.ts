// The noise's definition in plain numbers, apart from src: the words of a place, and the two that choose a draw's quantiles.
export type Key = readonly [number, number, number, number];

/** Draws of a row */
const WIDTH = 256;

/** h·2¹⁶ + h/2¹⁶, truncated, for h = y·(2y + odd) */
function hash(y: number, odd: number): number {
  const h = Math.imul(y, (2 * y + odd) | 0);
  return (Math.imul(h, 65_536) + Math.trunc(h / 65_536)) | 0;
}

/** Three words of 32 bits: rows begin at place 256, columns are the places below */
export function hashPlace([key0, key1, key2, key3]: Key, place: number): [number, number, number] {
  let [a, b, c] = [place | 0, key0, key1];
  for (let round = 0; round < 3; round++) {
    b = (b + hash(a, 0x3c6ef373)) | 0;
    c = (c + hash(b, 0x5be0cd19)) | 0;
    a = (a + hash(c, 0x1f83d9ab)) | 0;
    if (round > 0) continue;
    a = (a + key2) | 0;
    b = (b + key3) | 0;
  }
  return [a, b, c];
}

/** z and m·z of each draw from the given row on, as [z0, m·z0, z1, m·z1, …] */
export function drawWords(key: Key, length: number, row = 0): Int32Array {
  const columns = Array.from({ length: WIDTH }, (_, column) => hashPlace(key, column));
  const words = new Int32Array(2 * length);
  for (let at = 0; at < length; at += WIDTH) {
    const [a, b, m] = hashPlace(key, WIDTH + row + at / WIDTH).map((word) => 2 * word + 1) as [number, number, number];
    for (let column = 0; column < Math.min(WIDTH, length - at); column++) {
      const [p, q] = columns[column] as [number, number, number];
      const z = Math.imul(a + 2 * p, b + 2 * q);
      words[2 * (at + column)] = z;
      words[2 * (at + column) + 1] = Math.imul(m, z);
    }
  }
  return words;
}

/** The 32 bits that choose a draw: the high halves of z (above) and of m·z */
export function drawBits(key: Key, length: number): Uint32Array {
  const words = drawWords(key, length);
  return Uint32Array.from({ length }, (_, i) => {
    const [z, other] = [words[2 * i] as number, words[2 * i + 1] as number];
    return ((z & 0xffff0000) | (other >>> 16)) >>> 0;
  });
}

/** The same for one draw, its element any number below 2³¹ */
export function drawBitsAt(key: Key, element: number): number {
  const [p, q] = hashPlace(key, element % WIDTH);
  const [a, b, m] = hashPlace(key, WIDTH + Math.floor(element / WIDTH));
  const z = Math.imul(2 * (a + p) + 1, 2 * (b + q) + 1);
  return ((z & 0xffff0000) | (Math.imul(2 * m + 1, z) >>> 16)) >>> 0;
}
