// Chooses the next token from logits: repetition penalty, then greedy, or temperature, top-k, top-p and a draw.
import { NfcError } from "../../errors.ts";

export interface SamplingOptions {
  /** Logits are divided by it; 0: greedy. 1 unless given. */
  temperature?: number | undefined;
  /** Draw from the k likeliest tokens; 0: from all. */
  topK?: number | undefined;
  /** Draw from the smallest set of likeliest tokens whose probability reaches p; 1: from all. */
  topP?: number | undefined;
  /** CTRL's (arXiv 1909.05858): divides positive logits of tokens in prompt and text, multiplies negative ones. */
  repetitionPenalty?: number | undefined;
}

/** Greedy unless something asks for a draw. */
export function isGreedy({ temperature, topK, topP }: SamplingOptions): boolean {
  return temperature === 0 || (temperature === undefined && topK === undefined && topP === undefined);
}

/**
 * Gives a function that chooses a token id and changes its logits [V]; it throws NfcError "invalid-file" for logits that
 * are not finite. The order of operations is Hugging Face's: penalty, temperature, top-k, top-p.
 * @param random draws from [0, 1)
 * @param prompt ids that count as repeated
 * @param source the model's name in messages
 */
export function makeSampler(
  options: SamplingOptions,
  random: () => number,
  prompt: Iterable<number> = [],
  source = "the model",
): (logits: Float32Array) => number {
  const used = new Set(prompt);
  return (logits) => {
    penalize(logits, used, options.repetitionPenalty ?? 1);
    const best = findBest(logits, source);
    const id = isGreedy(options) ? best : draw(selectCandidates(logits, options), random());
    used.add(id);
    return id;
  };
}

/** The likeliest token. @throws NfcError "invalid-file" for logits that are not finite */
export function findBest(logits: Float32Array, source: string): number {
  const best = argmax(logits);
  if (Number.isFinite(logits[best])) return best;
  throw new NfcError("invalid-file", `${source}: its logits are not finite`, { hint: "its weights are damaged" });
}

export function penalize(logits: Float32Array, used: ReadonlySet<number>, penalty: number): void {
  if (penalty === 1) return;
  for (const id of used) {
    const logit = logits[id] as number;
    logits[id] = logit < 0 ? logit * penalty : logit / penalty;
  }
}

/** The first of the largest; a NaN where there is one. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  let peak = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] as number;
    if (logit <= peak) continue; // false for NaN
    best = i;
    peak = logit;
    if (Number.isNaN(peak)) break;
  }
  return best;
}

/** The tokens to draw from, and how likely they are: weights that need not sum to 1. */
export interface Candidates {
  ids: Int32Array;
  weights: Float64Array;
}

/** Weights are exp((logit − the largest) / temperature). */
export function selectCandidates(
  logits: Float32Array,
  { temperature = 1, topK = 0, topP = 1 }: SamplingOptions,
): Candidates {
  const peak = logits[argmax(logits)] as number;
  const least = topK > 0 && topK < logits.length ? findKthLargest(logits, topK) : Number.NEGATIVE_INFINITY;
  const all = { ids: new Int32Array(logits.length), weights: new Float64Array(logits.length) };
  let count = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (logit < least) continue;
    all.ids[count] = id;
    all.weights[count++] = Math.exp((logit - peak) / temperature);
  }
  const kept = { ids: all.ids.subarray(0, count), weights: all.weights.subarray(0, count) };
  return topP < 1 ? selectNucleus(kept, topP) : kept;
}

/** The k-th largest value, without sorting the rest: candidates gather in a buffer of 2k, whose lower half goes. */
export function findKthLargest(values: Float32Array, k: number): number {
  const buffer = new Float32Array(2 * k);
  let count = 0;
  let least = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value <= least) continue;
    buffer[count++] = value;
    if (count < buffer.length) continue;
    buffer.sort().copyWithin(0, k);
    count = k;
    least = buffer[0] as number;
  }
  return count < k ? least : (buffer.subarray(0, count).sort()[count - k] as number);
}

/** The likeliest of the candidates, in their order; changes them. */
function selectNucleus({ ids, weights }: Candidates, p: number): Candidates {
  const bound = findNucleusBound(weights, p);
  let count = 0;
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i] as number;
    if (weight < bound) continue;
    ids[count] = ids[i] as number;
    weights[count++] = weight;
  }
  return { ids: ids.subarray(0, count), weights: weights.subarray(0, count) };
}

/**
 * The smallest weight w of top-p: the larger ones have less than the share `p` of the sum, and with the equal ones at least
 * that. Found by quickselect, [start, end) being where w is among the weights in falling order.
 */
function findNucleusBound(weights: Float64Array, p: number): number {
  const order = weights.slice();
  let missing = p * sumRange(weights);
  let [start, end] = [0, order.length];
  while (start < end) {
    const pivot = order[(start + end) >> 1] as number;
    let [more, less] = [start, end]; // [start, more) > pivot, [more, i) = pivot, [less, end) < pivot
    let [sumMore, sumEqual] = [0, 0];
    for (let i = start; i < less; ) {
      const weight = order[i] as number;
      if (weight < pivot) {
        less -= 1;
        order[i] = order[less] as number;
        order[less] = weight;
        continue;
      }
      if (weight > pivot) {
        order[i] = order[more] as number;
        order[more] = weight;
        more += 1;
        sumMore += weight;
      } else sumEqual += weight;
      i += 1;
    }
    if (sumMore >= missing) end = more;
    else if (sumMore + sumEqual >= missing) return pivot;
    else {
      missing -= sumMore + sumEqual;
      start = less;
    }
  }
  return 0;
}

/** The id at the share `at` in [0, 1) of the weights' sum. */
export function draw({ ids, weights }: Candidates, at: number): number {
  let rest = at * sumRange(weights);
  let i = 0;
  for (; i < weights.length - 1; i++) {
    rest -= weights[i] as number;
    if (rest < 0) break;
  }
  return ids[i] as number;
}

export function sumRange(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}
