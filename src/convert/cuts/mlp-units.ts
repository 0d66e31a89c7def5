// Chooses which hidden units of an MLP go, and makes up for them in the output weights of those that stay.
import { addRidge } from "../../numeric/linalg.ts";
import { addRowProducts, dot } from "../../numeric/products.ts";
import { invertInPlace, sweep } from "../../numeric/sweep.ts";
import { FIT_RIDGE } from "../statistics/moments.ts";

/** Units go in this many rounds; those of one round are chosen without a look at each other. */
const ROUNDS = 32;

/** The moments of an MLP's hidden units a over a text, and the weights that follow them. */
export interface HiddenUnits {
  /** Σ ãᵀã over all positions with ã = [a, 1], or ã = a in a model without biases; becomes unusable: [n, n] */
  gram: Float64Array;
  /** W_proj with the bias as its last row, where there is one; becomes the refitted one, 0 for units that go: [n, C] */
  weight: Float64Array;
  /** Hidden units; n is one more where the last row is the constant, which stays. */
  units: number;
  /** n */
  size: number;
}

export interface KeptUnits {
  /** The units that stay, ascending. */
  kept: number[];
  /** Σ ‖ã W − ã W'‖² over the positions, the ridge's share included. */
  cost: number;
}

/**
 * Removes units until `keep` stay, and refits W. With H = Σ ãᵀã + ridge and P = H⁻¹, the W' nearest W in the metric of H
 * among those whose rows S are 0 is
 *
 *     W' = W − P_·S P_SS⁻¹ W_S,   it costs   tr W_Sᵀ P_SS⁻¹ W_S,   and then   P' = P − P_·S P_SS⁻¹ P_S·
 *
 * (Hassibi and Stork, "Optimal brain surgeon", 1992). The units of the least ‖w_j‖² / P_jj go first, in rounds. The
 * ridge draws W' towards W, so that little text does little harm.
 * @yields between its rounds: see `runInPieces`
 */
export function* removeUnits({ gram, weight, units, size }: HiddenUnits, keep: number): Generator<void, KeptUnits> {
  const width = weight.length / size;
  addRidge(gram, size, FIT_RIDGE);
  yield* invertInPlace(gram, size);
  const inverse = gram;
  const active = Array.from({ length: units }, (_, j) => j);
  let kept = active;
  let cost = 0;
  const round = Math.ceil((units - keep) / ROUNDS);
  while (kept.length > keep) {
    const price = (j: number) => dot(weight, j * width, weight, j * width, width) / (inverse[j * size + j] as number);
    const prices = new Map(kept.map((j) => [j, price(j)]));
    const byPrice = [...kept].sort((a, b) => (prices.get(a) as number) - (prices.get(b) as number));
    const going = byPrice.slice(0, Math.min(round, kept.length - keep));
    cost += removeSet(inverse, weight, going, { size, width });
    const gone = new Set(going);
    kept = kept.filter((j) => !gone.has(j));
    yield;
  }
  const stays = new Set(kept);
  for (let j = 0; j < units; j++) if (!stays.has(j)) weight.fill(0, j * width, (j + 1) * width);
  return { kept, cost };
}

/** One step of `removeUnits`: gives its cost. */
function removeSet(
  inverse: Float64Array,
  weight: Float64Array,
  going: readonly number[],
  { size, width }: { size: number; width: number },
): number {
  const b = going.length;
  const lost = new Float64Array(width * b); // W_Sᵀ
  for (const [s, j] of going.entries())
    for (let c = 0; c < width; c++) lost[c * b + s] = weight[j * width + c] as number;
  const shares = sweep(inverse, size, going); // P_·S P_SS⁻¹: [n, b]
  const rowsOf = (data: Float64Array, stride: number) => ({ data, at: 0, stride });
  addRowProducts(rowsOf(weight, width), rowsOf(shares, b), rowsOf(lost, b), { n: size, m: width, inner: b, sign: -1 });
  let cost = 0; // the sweep has left −P_SS⁻¹ in the rows and columns S
  for (const [r, i] of going.entries())
    for (const [s, j] of going.entries()) {
      let product = 0;
      for (let c = 0; c < width; c++) product += (lost[c * b + r] as number) * (lost[c * b + s] as number);
      cost -= product * (inverse[i * size + j] as number);
    }
  return cost;
}
