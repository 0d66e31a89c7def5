// The ridge of the fits that make up for what a cut has taken.
import { trace } from "../../numeric/linalg.ts";

/** Relative to the mean diagonal of the moments. */
const RIDGE = 1e-2;

/** Adds the ridge to moments [n, n] in place; 1 where they are 0. */
export function addRidge(gram: Float64Array, n: number): void {
  const ridge = (RIDGE * trace(gram, n)) / n || 1;
  for (let i = 0; i < n; i++) gram[i * n + i] = (gram[i * n + i] as number) + ridge;
}
