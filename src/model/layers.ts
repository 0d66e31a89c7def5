// The parts of a block besides attention: linear layers, layer norm, activation and MLP; and the lookup of weights.
import type { Graph, Value } from "../graph/ir.ts";
import { gelu, gemm, layerNorm, mul, relu, sigmoid, tanh } from "../graph/ops.ts";
import type { Activation, ModelConfig } from "./config.ts";
import { listParameters } from "./parameters.ts";

/** A weight by its name within the scope (`mlp.c_fc.weight` within a layer). @throws Error when the model has none */
export type ParameterLookup = {
  (name: string): Value;
  has(name: string): boolean;
};

/**
 * Declares the model's weights in a graph as they are asked for; `prefix` keeps two models apart in one graph.
 * Names are canonical (`h.3.mlp.c_fc.weight`).
 */
export function makeParameterLookup(graph: Graph, config: ModelConfig, prefix = ""): ParameterLookup {
  const shapes = new Map(listParameters(config).map((spec) => [spec.name, spec.shape]));
  const lookup = (name: string) => {
    const shape = shapes.get(name);
    if (!shape) throw new Error(`the ${config.variant} model has no parameter ${name}`);
    return graph.parameter(prefix + name, shape);
  };
  return Object.assign(lookup, { has: (name: string) => shapes.has(name) });
}

/** The weights of one layer, named without `h.N.`. */
export function makeLayerLookup(parameters: ParameterLookup, layer: number): ParameterLookup {
  const lookup = (name: string) => parameters(`h.${layer}.${name}`);
  return Object.assign(lookup, { has: (name: string) => parameters.has(`h.${layer}.${name}`) });
}

/** Declares the weights of one layer in a graph of that layer alone, named without `h.N.`, so that equal layers have equal graphs. */
export function makeOwnLayerLookup(graph: Graph, config: ModelConfig, layer: number): ParameterLookup {
  const shapes = new Map(listParameters(config).map((spec) => [spec.name, spec.shape]));
  const find = (name: string) => shapes.get(`h.${layer}.${name}`);
  const lookup = (name: string) => {
    const shape = find(name);
    if (!shape) throw new Error(`layer ${layer} has no parameter ${name}`);
    return graph.parameter(name, shape);
  };
  return Object.assign(lookup, { has: (name: string) => find(name) !== undefined });
}

/** x·W + b for rows x [N, in], W [in, out] (Conv1D orientation). */
export function linear(x: Value, name: string, parameters: ParameterLookup): Value {
  const c = parameters.has(`${name}.bias`) ? parameters(`${name}.bias`) : null;
  return gemm(x, parameters(`${name}.weight`), { c }); // [N, out]
}

export function norm(x: Value, name: string, parameters: ParameterLookup, config: ModelConfig): Value {
  const bias = parameters.has(`${name}.bias`) ? parameters(`${name}.bias`) : null;
  return layerNorm(x, parameters(`${name}.weight`), bias, config.layer_norm_epsilon);
}

export interface MlpOutput {
  /** The hidden units, the input of c_proj: [N, n_inner] */
  inner: Value;
  output: Value; // [N, C]
}

/** activation(x·W_fc + b)·W_proj + b */
export function mlp(x: Value, parameters: ParameterLookup, config: ModelConfig): MlpOutput {
  const inner = ACTIVATE[config.activation](linear(x, "mlp.c_fc", parameters)); // [N, n_inner]
  return { inner, output: linear(inner, "mlp.c_proj", parameters) };
}

const ACTIVATE: Readonly<Record<Activation, (x: Value) => Value>> = {
  gelu_tanh: (x) => gelu(x, "tanh"),
  gelu: (x) => gelu(x, "none"),
  relu,
  silu: (x) => mul(x, sigmoid(x)),
  tanh,
};
