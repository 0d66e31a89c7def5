// Speculative sampling's rule: keeps or replaces a drafted token so that the text is distributed as the model's alone.
import { makeRandom } from "../../../numeric/random.ts";
import {
  type Candidates,
  draw,
  findBest,
  isGreedy,
  penalize,
  type SamplingOptions,
  selectCandidates,
  sumRange,
} from "../sampling.ts";

/** A token that the draft proposes, and the distribution that it was drawn from; null of greedy text. */
export interface Proposal {
  id: number;
  q: Candidates | null;
}

/**
 * Leviathan et al. 2022, arXiv 2211.17192, algorithm 1. A token d drawn from the draft's q is kept with probability
 *   min(1, p(d) / q(d)),
 * and otherwise another is drawn from
 *   norm(max(p − q, 0)),
 * so that the token has the distribution p. Temperature, top-k, top-p and penalty make both p and q out of logits.
 * The draws of a place in the text are its own: the text does not depend on how many tokens are drafted at a time.
 */
export class SpeculativeRule {
  readonly greedy: boolean;
  private readonly options: SamplingOptions;
  private readonly random: () => number;
  /** Three draws in [0, 1) for each place of the text: to propose, to keep, to replace. */
  private readonly draws: number[] = [];

  constructor(options: SamplingOptions, seed: number, stream: number) {
    this.greedy = isGreedy(options);
    this.options = options;
    this.random = makeRandom(seed, stream);
  }

  /** The draft's token at a place, by its logits [V] after `before`, which are changed. */
  propose(logits: Float32Array, before: readonly number[], place: number, source: string): Proposal {
    const best = this.prepare(logits, before, source);
    if (this.greedy) return { id: best, q: null };
    const q = selectCandidates(logits, this.options);
    return { id: draw(q, this.draw(place, 0)), q };
  }

  /**
   * The model's token at a place, by its logits [V] after `before`, which are changed.
   * @param proposal null: none was made, and the model chooses alone
   */
  settle(
    logits: Float32Array,
    before: readonly number[],
    place: number,
    source: string,
    proposal: Proposal | null,
  ): number {
    const best = this.prepare(logits, before, source);
    if (this.greedy) return best;
    const p = selectCandidates(logits, this.options);
    if (proposal?.q == null) return draw(p, this.draw(place, 0));
    const { id, q } = proposal;
    if (this.draw(place, 1) * findShare(q, id) < findShare(p, id)) return id;
    const rest = subtractShares(p, q);
    return sumRange(rest.weights) > 0 ? draw(rest, this.draw(place, 2)) : id; // p = q but for rounding
  }

  private prepare(logits: Float32Array, before: readonly number[], source: string): number {
    const { repetitionPenalty = 1 } = this.options;
    if (repetitionPenalty !== 1) penalize(logits, new Set(before), repetitionPenalty);
    return findBest(logits, source);
  }

  private draw(place: number, which: 0 | 1 | 2): number {
    while (this.draws.length < 3 * (place + 1)) this.draws.push(this.random());
    return this.draws[3 * place + which] as number;
  }
}

/** The probability of a token: its weight's share of the sum. */
export function findShare({ ids, weights }: Candidates, id: number): number {
  const at = findPlace(ids, id);
  return ids[at] === id ? (weights[at] as number) / sumRange(weights) : 0;
}

/** max(p − q, 0), of the tokens of p */
export function subtractShares(p: Candidates, q: Candidates): Candidates {
  const [sumP, sumQ] = [sumRange(p.weights), sumRange(q.weights)];
  const weights = new Float64Array(p.ids.length);
  let at = 0; // ids rise in both
  for (const [i, id] of p.ids.entries()) {
    while (at < q.ids.length && (q.ids[at] as number) < id) at += 1;
    const other = q.ids[at] === id ? (q.weights[at] as number) / sumQ : 0;
    weights[i] = Math.max((p.weights[i] as number) / sumP - other, 0);
  }
  return { ids: p.ids, weights };
}

/** The first place in rising ids whose id is not below the one that is sought. */
function findPlace(ids: Int32Array, id: number): number {
  let [low, high] = [0, ids.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ids[middle] as number) < id) low = middle + 1;
    else high = middle;
  }
  return low;
}
