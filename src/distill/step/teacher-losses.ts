// KL to a teacher and its gradient: from the teacher's logits, from its k most likely tokens alone, or from k drawn ones.
import type { Value } from "../../graph/ir.ts";
import { add, div, exp, like, log, max, min, mul, reduceSum, scale, shift, sub } from "../../graph/ops.ts";
import { gatherElements, scatterElements, zeros } from "../../graph/shape-ops.ts";
import { type ChunkDistribution, chunkedSoftmax, type Distribution } from "./distribution.ts";

/** KL of each row, and the teacher's part of dL/dz. */
export interface TeacherPart {
  kl: Value; // [n, 1]
  /** The gradient is studentWeight·q − subtract, with q of the student and one term `subtract` a chunk. */
  studentWeight: Value; // [n, 1]
  subtract: readonly Value[]; // [n, v]
}

/** KL = Σ t·(z_t − z) − (lse_t − lse) with z at the temperature; dL/dz gets b·(q − t). */
export function buildDenseTeacher(warm: Distribution, logits: readonly Value[], b: Value): TeacherPart {
  const teacher = chunkedSoftmax(logits, (zt, t, c) => {
    const difference = sub(zt, (warm.parts[c] as ChunkDistribution).logits); // [n, v]
    return reduceSum(mul(t, difference), [1], true);
  });
  const expected = teacher.parts.map(({ statistic, share }) => mul(statistic as Value, share)).reduce(add); // [n, 1]
  return {
    kl: sub(expected, sub(teacher.logNormalizer, warm.logNormalizer)),
    studentWeight: b,
    subtract: teacher.parts.map((t) => mul(t.softmax, mul(t.share, b))),
  };
}

/** Smallest rest: 1 − Σ of float32 probabilities is not more exact. */
const TINY = 1e-6;
/**
 * Largest t_rest/q_rest in the gradient. It enters a known token's twice and cancels there but for rounding, which this
 * keeps below 1e-3; it only weakens the pull on a rest that the student holds for 10,000 times too unlikely.
 */
const MAX_RATIO = 1e4;

/**
 * KL to a teacher of which only the k most likely tokens are known; the rest of the vocabulary counts as one outcome.
 * With t_j for the k known tokens and t_rest = 1 − Σ t_j, q likewise: KL = Σ_k t_j ln(t_j/q_j) + t_rest ln(t_rest/q_rest);
 * dKL/dz_j = q_j − t_j for a known token, q_j·(1 − t_rest/q_rest) for the others. The log-probabilities were taken at
 * temperature 1: only T = 1 is possible.
 */
export function buildSparseTeacher(
  warm: Distribution,
  ids: Value, // int64 [n, k]
  logProbabilities: Value, // [n, k]
  b: Value, // [n, 1]
): TeacherPart {
  const part = getOnlyPart(warm);
  const t = exp(logProbabilities); // [n, k]
  const logQ = sub(gatherElements(part.logits, ids, 1), warm.logNormalizer); // [n, k]
  const q = exp(logQ);
  const rest = (p: Value) => max(shift(scale(reduceSum(p, [1], true), -1), 1), like(p, TINY)); // [n, 1]
  const [tRest, qRest] = [rest(t), rest(q)];
  const known = reduceSum(mul(t, sub(logProbabilities, logQ)), [1], true);
  const kl = add(known, mul(tRest, sub(log(tRest), log(qRest)))); // [n, 1]
  const ratio = min(div(tRest, qRest), like(t, MAX_RATIO)); // [n, 1]
  // For a known token b·(q − t) = b·q·(1 − ratio) − b·(t − q·ratio): the second part is subtracted where it is known.
  const corrections = mul(sub(t, mul(q, ratio)), b); // [n, k]
  return {
    kl,
    studentWeight: mul(b, shift(scale(ratio, -1), 1)),
    subtract: [scatterElements(zeros(part.softmax, part.softmax.shape), ids, corrections, 1)],
  };
}

/**
 * KL to a teacher of which k tokens were drawn (draw-tokens.ts). Each counts w_j, which makes up for the tokens that were
 * not drawn, Σ_k w_j = 1: KL = Σ_k w_j·ln(t_j/q_j) and dKL/dz = q − w are right on average over the draws, for every
 * token. The log-probabilities were taken at temperature 1: only T = 1 is possible.
 */
export function buildSampledTeacher(
  warm: Distribution,
  { ids, logProbabilities, weights }: Record<"ids" | "logProbabilities" | "weights", Value>, // [n, k]; ids int64
  b: Value, // [n, 1]
): TeacherPart {
  const part = getOnlyPart(warm);
  const logQ = sub(gatherElements(part.logits, ids, 1), warm.logNormalizer); // [n, k]
  return {
    kl: reduceSum(mul(weights, sub(logProbabilities, logQ)), [1], true), // [n, 1]
    studentWeight: b,
    subtract: [scatterElements(zeros(part.softmax, part.softmax.shape), ids, mul(weights, b), 1)],
  };
}

function getOnlyPart({ parts }: Distribution): ChunkDistribution {
  if (parts.length !== 1) throw new Error("a teacher of k tokens: the vocabulary must be one chunk");
  return parts[0] as ChunkDistribution;
}
