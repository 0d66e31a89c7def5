// GLUE's metrics, by scikit-learn's and SciPy's definitions on edge cases too, and bootstrap intervals.
import { makeRandom } from "../numeric/random.ts";

export const METRICS = ["accuracy", "f1", "matthews", "pearson", "spearman"] as const;
export type MetricName = (typeof METRICS)[number];

/** Predicted and actual answers: class ids, or the numbers of a regression. */
export interface Answers {
  predicted: ArrayLike<number>;
  actual: ArrayLike<number>;
}

/** A metric's value; NaN where it is not defined (a correlation with a constant). */
export function computeMetric(name: MetricName, answers: Answers): number {
  switch (name) {
    case "accuracy":
      return countRight(answers) / answers.actual.length;
    case "f1":
      return f1(countConfusion(answers, 2));
    case "matthews":
      return matthews(countConfusion(answers));
    case "pearson":
      return pearson(Float64Array.from(answers.predicted), Float64Array.from(answers.actual));
    case "spearman":
      return pearson(rankValues(answers.predicted), rankValues(answers.actual));
  }
}

function countRight({ predicted, actual }: Answers): number {
  let right = 0;
  for (let i = 0; i < actual.length; i++) if (predicted[i] === actual[i]) right++;
  return right;
}

/** Counts [actual][predicted], for `classes` classes or as many as there are. */
export function countConfusion({ predicted, actual }: Answers, classes?: number): number[][] {
  let size = classes ?? 0;
  if (classes === undefined)
    for (let i = 0; i < actual.length; i++)
      size = Math.max(size, (actual[i] as number) + 1, (predicted[i] as number) + 1);
  const counts = Array.from({ length: size }, () => Array<number>(size).fill(0));
  for (let i = 0; i < actual.length; i++) {
    const row = counts[actual[i] as number] as number[];
    row[predicted[i] as number] = (row[predicted[i] as number] as number) + 1;
  }
  return counts;
}

/** 2·TP/(2·TP + FP + FN) of class 1; 0 where class 1 is neither there nor predicted (scikit-learn's zero_division). */
function f1([[, falsePositives = 0] = [], [falseNegatives = 0, truePositives = 0] = []]: number[][]): number {
  const total = 2 * truePositives + falsePositives + falseNegatives;
  return total === 0 ? 0 : (2 * truePositives) / total;
}

/**
 * Matthews' correlation for any number of classes (Gorodkin 2004): (c·n − Σ p_k·t_k)/√((n² − Σ p_k²)(n² − Σ t_k²)), with c
 * right of n, t_k of class k and p_k predicted as k; 0 where one class is all that is there or predicted.
 */
function matthews(counts: number[][]): number {
  const actual = counts.map((row) => row.reduce((a, b) => a + b, 0));
  const predicted = counts.map((_, k) => counts.reduce((sum, row) => sum + (row[k] as number), 0));
  const total = actual.reduce((a, b) => a + b, 0);
  const right = counts.reduce((sum, row, k) => sum + (row[k] as number), 0);
  const dot = (a: number[], b: number[]) => a.reduce((sum, value, k) => sum + value * (b[k] as number), 0);
  const scale = (total ** 2 - dot(predicted, predicted)) * (total ** 2 - dot(actual, actual));
  return scale === 0 ? 0 : (right * total - dot(predicted, actual)) / Math.sqrt(scale);
}

/** Cov(x, y)/(σ_x·σ_y); NaN for a constant, whose mean need not be exact. */
function pearson(x: Float64Array, y: Float64Array): number {
  if ([x, y].some((values) => values.every((value) => value === values[0]))) return Number.NaN;
  const center = (values: Float64Array) => {
    const middle = values.reduce((a, b) => a + b, 0) / values.length;
    return values.map((value) => value - middle);
  };
  const [a, b] = [center(x), center(y)];
  const dot = (p: Float64Array, q: Float64Array) => p.reduce((sum, value, i) => sum + value * (q[i] as number), 0);
  return dot(a, b) / (Math.sqrt(dot(a, a)) * Math.sqrt(dot(b, b)));
}

/** Ranks from 1; equal values share the mean of theirs. */
function rankValues(values: ArrayLike<number>): Float64Array {
  const order = Array.from({ length: values.length }, (_, i) => i).sort(
    (a, b) => (values[a] as number) - (values[b] as number),
  );
  const out = new Float64Array(values.length);
  for (let from = 0; from < order.length; ) {
    let to = from + 1;
    const value = values[order[from] as number];
    while (to < order.length && values[order[to] as number] === value) to++;
    for (let i = from; i < to; i++) out[order[i] as number] = (from + 1 + to) / 2;
    from = to;
  }
  return out;
}

const RESAMPLES = 1000;

/**
 * 95 % percentile interval of a metric over resampled examples (Efron & Tibshirani 1993), by a fixed seed. Resamples
 * whose metric is not defined are left out; null where none is.
 */
export function bootstrap(name: MetricName, { predicted, actual }: Answers, seed = 0): [number, number] | null {
  const size = actual.length;
  const random = makeRandom(seed, 0);
  const sample = { predicted: new Float64Array(size), actual: new Float64Array(size) };
  const values: number[] = [];
  for (let b = 0; b < RESAMPLES; b++) {
    for (let i = 0; i < size; i++) {
      const pick = Math.floor(random() * size);
      sample.predicted[i] = predicted[pick] as number;
      sample.actual[i] = actual[pick] as number;
    }
    const value = computeMetric(name, sample);
    if (!Number.isNaN(value)) values.push(value);
  }
  if (values.length === 0) return null;
  values.sort((a, b) => a - b);
  return [quantile(values, 0.025), quantile(values, 0.975)];
}

/** Interpolates linearly, as numpy does by default. */
function quantile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  const [a, b] = [sorted[low] as number, sorted[Math.min(low + 1, sorted.length - 1)] as number];
  return a + (at - low) * (b - a);
}

/** Computes the mean, and the sample standard deviation (null for one value). */
export function meanAndSpread(values: readonly number[]): { mean: number; spread: number | null } {
  const middle = values.reduce((a, b) => a + b, 0) / values.length;
  if (values.length < 2) return { mean: middle, spread: null };
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return { mean: middle, spread: Math.sqrt(squares / (values.length - 1)) };
}
