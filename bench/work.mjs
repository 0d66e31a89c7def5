// A fixed piece of work for one core, as a reference for commands that compute: products of float64, and SHA-256.
import { createHash } from "node:crypto";

const SIZE = 512;
const a = Float64Array.from({ length: SIZE * SIZE }, (_, i) => Math.sin(i));
const product = new Float64Array(SIZE * SIZE);
for (let round = 0; round < 4; round++)
  for (let i = 0; i < SIZE; i++)
    for (let k = 0; k < SIZE; k++) {
      const factor = a[i * SIZE + k];
      for (let j = 0; j < SIZE; j++) product[i * SIZE + j] += factor * a[k * SIZE + j];
    }
const hash = createHash("sha256").update(new Uint8Array(product.buffer));
const bytes = new Uint8Array(2 ** 26).fill(7);
for (let round = 0; round < 4; round++) hash.update(bytes);
console.log(hash.digest("hex"));
