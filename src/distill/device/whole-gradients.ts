// Gradients that a graph makes whole, for parameters on a device: those of embeddings, and the noise prior's part of all.
import { backward, takeOutputGradient } from "../../graph/autodiff/backward.ts";
import type { Value } from "../../graph/ir.ts";
import { add, cast, equal, exp, matmul, mul, reduceSum, scale, shift, sub } from "../../graph/ops.ts";
import { concat, cutEvenly, expand, gather, padAxis, reshape, slice, unsqueeze } from "../../graph/shape-ops.ts";
import type { ParameterLookup } from "../../model/layers.ts";
import { findParameterKind, isNoiseParameter, listParameters } from "../../model/parameters.ts";
import { isPriorOnly, nameGradient, type StepOptions } from "../step/step-graph.ts";

export interface WholeOptions extends Pick<StepOptions, "config" | "batch" | "length" | "trained" | "noise"> {
  /** Weight of the noise prior in the loss of a micro-batch. */
  prior: number;
  /** Whether its gradient is multiplied by a number that is fed. */
  scaled?: boolean | undefined;
}

interface ModelValues {
  parameters: ParameterLookup;
  /** The tokens, int64 or int32 [B·T], and the input of the first block, [B·T, C]. */
  ids: Value;
  embedded: Value;
  /** dL/d(value) of what the loss is made of. */
  seeds: ReadonlyMap<Value, Value>;
  /** dL/d(matrix) of the head's products, by the name of its parameter, where it is trained. */
  head: { name: string; gradient: Value } | null;
}

/** Name of the output with the prior's value, in nats: []. It is there for models with noise. */
export const PRIOR = "noise_kl";
/** Name of the input with the factor on all gradients, which the losses' weights have already: []. */
export const LOSS_SCALE = "loss_scale";

/** Makes the gradient of every trained parameter an output `grad/NAME` of the parameter's shape. */
export function outputWholeGradients(options: WholeOptions, values: ModelValues): void {
  const { config, trained, noise } = options;
  const { parameters, ids, embedded, seeds, head } = values;
  const names = listParameters(config).flatMap(({ name }) => (trained.has(name) ? [name] : []));
  const plain = names.filter((name) => !isLookedUp(name) && name !== head?.name && !isPriorOnly(name, config, noise));
  const embeddings = names.some(isLookedUp) ? [embedded] : [];
  const found = backward(seeds, [...plain.map((name) => parameters(name)), ...embeddings]);
  const ofLoss = (name: string): Value | null => {
    const fromHead = head?.name === name ? head.gradient : null;
    if (name === "wte.weight") return addTokenRows(found.get(embedded) as Value, ids, fromHead, parameters(name));
    if (name === "wpe.weight") return sumPositions(found.get(embedded) as Value, options);
    return fromHead ?? found.get(parameters(name)) ?? null;
  };
  const prior = buildPrior(options, parameters);
  for (const name of names) {
    const parts = [ofLoss(name), prior?.gradient(name) ?? null].filter((part) => part !== null);
    if (parts.length === 0) throw new Error(`the loss does not depend on ${name}`);
    takeOutputGradient(parts.reduce(add), nameGradient(name));
  }
  if (prior) embedded.graph.output(prior.value, PRIOR);
}

const isLookedUp = (name: string) => name === "wte.weight" || name === "wpe.weight";

/** Rows of [B, T, C] summed over the windows, and zeros for positions beyond T: [n_positions, C] */
function sumPositions(rows: Value, { config, batch, length }: WholeOptions): Value {
  const summed = reduceSum(reshape(rows, [batch, length, config.n_embd]), [0]); // [T, C]
  const beyond = config.n_positions - length;
  return beyond === 0 ? summed : padAxis(summed, 0, 0, beyond);
}

/** Rows whose sums are made at once: the 0/1 matrix of GPT-2's 8 windows of 512 tokens takes 16 MB. */
const ROWS_AT_ONCE = 1024;

/**
 * onto [V, C], or zeros, with rows[i] added at ids[i]. First each row becomes the sum of all rows of its token, the product
 * S = [ids_i = ids_j]·rows, in which the order of the sums is fixed; equal tokens then have equal rows, so that it does not
 * matter which of them is written last.
 */
function addTokenRows(rows: Value, ids: Value, onto: Value | null, table: Value): Value {
  const [count, width] = rows.shape as [number, number];
  const all = unsqueeze(ids, [0]); // [1, N]
  const sums = cutEvenly(ids, ROWS_AT_ONCE).map((own) => {
    return matmul(cast(equal(unsqueeze(own, [1]), all), rows.dtype), rows); // [n, C]
  });
  const summed = sums.length === 1 ? (sums[0] as Value) : concat(sums, 0); // [N, C]
  // Zeros that depend on the rows are made anew in each run: ONNX Runtime would keep constant ones in memory.
  const zero = scale(slice(slice(rows, 0, 0, 1), 1, 0, 1), 0); // [1, 1]
  const base = onto ?? expand(zero, table.shape); // [V, C]
  const updates = onto ? add(gather(onto, ids), summed) : summed;
  return writeRows(base, ids, updates, [count, width]);
}

/** x with row ids[i] replaced by rows[i]: rows of equal ids are equal. */
function writeRows(x: Value, ids: Value, rows: Value, [count]: readonly [number, number]): Value {
  const [written] = x.graph.node({
    op: "ScatterND",
    inputs: [x, cast(reshape(ids, [count, 1]), "int64"), rows],
    outputs: [{ dtype: x.dtype, shape: x.shape }],
  });
  return written as Value;
}

/** The noise prior as noise-prior.ts has it: ½(mean μ² + mean(σ² − 1 − ln σ²)); null for a model without noise. */
function buildPrior({ config, trained, prior: weight, scaled = false }: WholeOptions, parameters: ParameterLookup) {
  const names = listParameters(config).map(({ name }) => name);
  const [means, logStds] = (["noise mean", "noise log std"] as const).map((kind) =>
    names.filter((name) => findParameterKind(name) === kind),
  ) as [string[], string[]];
  if (logStds.length === 0) return null;
  const flat = (name: string) => {
    const value = parameters(name);
    return reshape(value, [value.shape.reduce<number>((a, b) => a * (b as number), 1)]);
  };
  const mu = concat(means.map(flat), 0);
  const s = concat(logStds.map(flat), 0);
  const counts = { mean: mu.shape[0] as number, logStd: s.shape[0] as number };
  const spread = sub(shift(exp(scale(s, 2)), -1), scale(s, 2)); // σ² − 1 − ln σ²
  const value = scale(
    add(scale(reduceSum(mul(mu, mu), [0]), 1 / counts.mean), scale(reduceSum(spread, [0]), 1 / counts.logStd)),
    1 / 2,
  );
  const factor = scaled ? value.graph.input(LOSS_SCALE, "float32", []) : null;
  const ofLoss = (gradient: Value) => (factor ? mul(gradient, factor) : gradient);
  return {
    value,
    /** dμ = μ/n_μ, dlog_std = (σ² − 1)/n_σ, times the weight and the scale; null for other parameters. */
    gradient(name: string): Value | null {
      if (!isNoiseParameter(name) || !trained.has(name)) return null;
      const x = parameters(name);
      return ofLoss(
        findParameterKind(name) === "noise mean"
          ? scale(x, weight / counts.mean)
          : scale(shift(exp(scale(x, 2)), -1), weight / counts.logStd),
      );
    },
  };
}
