// What training costs by arithmetic: operations of a token, bytes of the state, and from measured rates, time and memory.
import { countElements } from "../formats/dtype.ts";
import type { ModelConfig } from "../model/config.ts";
import { getHeadWidths } from "../model/head-widths.ts";
import { countParameters, findParameterKind, listParameters } from "../model/parameters.ts";

/** Floating-point operations, a product and its sum being two. */
export interface TokenFlops {
  /** Forward and backward. */
  student: number;
  /** Forward alone; 0 without a teacher. */
  teacher: number;
}

/** The models of a run, and the tokens of a window. */
export interface CostOptions {
  student: ModelConfig;
  teacher: ModelConfig | null;
  length: number;
}

const PRODUCTS = new Set(["attention input", "attention form", "attention output", "mlp"]);

/**
 * Operations of a token's forward pass, in products alone: 2·W + 2·T·Σ H·(d_qk + d_v), where W are the weights of the
 * layers' matrices and of the head, T the tokens of a window, and the sum goes over the layers. The scores of later
 * tokens are computed too, and masked.
 */
export function countForwardFlops(config: ModelConfig, length: number): number {
  return countLayerFlops(config, length) + 2 * config.vocab_size * config.n_embd;
}

/** The same without the head. */
export function countLayerFlops(config: ModelConfig, length: number): number {
  const { n_layer, n_head } = config;
  let flops = 0;
  for (const { name, shape } of listParameters(config))
    if (shape.length > 1 && PRODUCTS.has(findParameterKind(name) ?? "")) flops += 2 * countElements(shape);
  for (let layer = 0; layer < n_layer; layer++) {
    const { qk, v } = getHeadWidths(config, layer);
    flops += 2 * length * n_head * (qk + v);
  }
  return flops;
}

/** Operations of a trained token. The gradient of a product x·W is two products: of x, and of W. */
export function countTokenFlops({ student, teacher, length }: CostOptions): TokenFlops {
  return {
    student: 3 * countForwardFlops(student, length),
    teacher: teacher === null ? 0 : countForwardFlops(teacher, length),
  };
}

/**
 * A step of a distillation that was measured, by which others are estimated.
 * @property stateBytes bytes held for each parameter of the student: 16 are the weight, its gradient and two moments
 */
export interface MeasuredStep extends CostOptions {
  /** Windows of the step. */
  batch: number;
  seconds: number;
  peakBytes: number;
  stateBytes: number;
}

/** Operations a second of a measured step. */
export function computeRate(step: MeasuredStep): number {
  const { student, teacher } = countTokenFlops(step);
  return ((student + teacher) * step.batch * step.length) / step.seconds;
}

/** Seconds of so many tokens: tokens · FLOP a token / (FLOP a second). */
export function estimateSeconds(tokens: number, { student, teacher }: TokenFlops, rate: number): number {
  return (tokens * (student + teacher)) / rate;
}

/**
 * Bytes of a run like a measured step: stateBytes · P(student) + 4 · P(teacher) + a · B·T · L·C. a is what the measured
 * step took beyond its state, for each token, layer and channel: what the backward pass needs of the forward one, the
 * logits, and the program.
 */
export function estimateMemory(options: CostOptions & { batch: number }, measured: MeasuredStep): number {
  const held = countStateBytes(measured, measured.stateBytes);
  const a = (measured.peakBytes - held) / countActivations(measured);
  return countStateBytes(options, measured.stateBytes) + a * countActivations(options);
}

function countStateBytes({ student, teacher }: CostOptions, bytes: number): number {
  return bytes * countParameters(student) + (teacher === null ? 0 : 4 * countParameters(teacher));
}

/** B·T · L·C */
function countActivations({ student, batch, length }: CostOptions & { batch: number }): number {
  return batch * length * student.n_layer * student.n_embd;
}
