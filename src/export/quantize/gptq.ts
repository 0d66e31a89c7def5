// GPTQ (arXiv 2210.17323): quantizes a matrix input by input, and lets the inputs still to come make up for each error.

import type { MatrixFormat } from "../../graph/passes/quantized-blocks.ts";
import { BlockFit } from "../../graph/quantize/block-fit.ts";
import { BlockCodes, type BlockMatrix } from "../../graph/quantize/blocks.ts";
import { CHUNK } from "../../numeric/linalg.ts";
import { addRowProducts, dot } from "../../numeric/products.ts";
import { computeFeedback, type Feedback } from "./error-feedback.ts";

/** The damping of the paper. */
export const DAMPING = 0.01;
/** Inputs that are quantized before the targets of the rest are brought up to date. */
const PANEL = 128;
/** Channels at once: they do not touch one another, and their errors are [1024, K] in float64. */
const CHANNELS = 1024;

export interface GptqOptions extends MatrixFormat {
  /** The weight's name, for messages. */
  name: string;
  /** Share of the mean diagonal of H that is added to it; from 1 on an error counts much by itself. */
  damping?: number;
}

/**
 * Minimizes tr((W − Ŵ) H (W − Ŵ)ᵀ), the squared error of the products on the inputs that made H = Σ x xᵀ [K, K] (any
 * multiple of it; overwritten). Inputs go from the last to the first: ŵ_k = round(w_k + Σ_{j>k} (w_j − ŵ_j) a_kj), which
 * is GPTQ without inverting H (arXiv 2307.13304, theorem 6). A block's scale is fitted to these targets, with the cost
 * of each, when the block is entered.
 * @throws NfcError as `quantizeBlocks`
 */
export function quantizeGptq(weights: Float32Array, hessian: Float64Array, options: GptqOptions): BlockMatrix {
  const codes = new BlockCodes(options);
  const feedback = computeFeedback(hessian, codes.inner, options.damping ?? DAMPING);
  for (let first = 0; first < codes.channels; first += CHANNELS)
    new ChannelGroup(weights, options, codes, feedback, first).quantize();
  return codes.matrix;
}

/** Quantizes channels `first` … `first` + `count` − 1. */
class ChannelGroup {
  private readonly options: GptqOptions;
  private readonly codes: BlockCodes;
  private readonly feedback: Feedback;
  private readonly fit: BlockFit;
  private readonly first: number;
  private readonly count: number;
  private readonly originals: Float64Array; // w, [count, K]
  private readonly errors: Float64Array; // w − ŵ, [count, K]

  constructor(weights: Float32Array, options: GptqOptions, codes: BlockCodes, feedback: Feedback, first: number) {
    const { channels, inner } = codes;
    const count = Math.min(CHANNELS, channels - first);
    const [stepK, stepN] = options.byRow ? [1, inner] : [channels, 1];
    this.originals = new Float64Array(count * inner);
    for (let k = 0; k < inner; k++)
      for (let n = 0; n < count; n++)
        this.originals[n * inner + k] = weights[(first + n) * stepN + k * stepK] as number;
    this.errors = new Float64Array(count * inner);
    this.fit = new BlockFit(options);
    this.options = options;
    this.codes = codes;
    this.feedback = feedback;
    this.first = first;
    this.count = count;
  }

  /** Goes through panels of whole blocks, the last one first. */
  quantize(): void {
    const { errors, originals, feedback, count } = this;
    const { inner } = this.codes;
    const width = Math.max(PANEL, this.options.block);
    const targets = new Float64Array(count * width);
    for (let start = Math.floor((inner - 1) / width) * width; start >= 0; start -= width) {
      const end = Math.min(inner, start + width);
      for (let n = 0; n < count; n++) targets.set(originals.subarray(n * inner + start, n * inner + end), n * width);
      addRowProducts(
        { data: targets, at: 0, stride: width },
        { data: errors, at: end, stride: inner },
        { data: feedback.shares, at: start * inner + end, stride: inner },
        { n: count, m: end - start, inner: inner - end, sign: 1, chunk: CHUNK },
      );
      for (let n = 0; n < count; n++) this.panel(n, start, end, targets.subarray(n * width, (n + 1) * width));
    }
  }

  /** @param targets of the inputs `first` … `end` − 1, with the feedback of all inputs from `end` on */
  private panel(n: number, first: number, end: number, targets: Float64Array): void {
    const { fit, codes, errors, originals, options } = this;
    const { inner } = codes;
    const { shares, costs } = this.feedback;
    for (let b = Math.ceil(end / options.block) - 1; b * options.block >= first; b--) {
      const start = b * options.block;
      const stop = Math.min(end, start + options.block);
      fit.length = stop - start;
      for (let k = start; k < stop; k++) {
        const later = dot(errors, n * inner + stop, shares, k * inner + stop, end - stop);
        fit.weights[k - start] = (targets[k - first] as number) + later;
        fit.importance[k - start] = costs[k] as number;
      }
      fit.leastSquares();
      codes.setGrid(this.first + n, b, fit, options.name);
      for (let k = stop - 1; k >= start; k--) {
        const later = dot(errors, n * inner + k + 1, shares, k * inner + k + 1, stop - k - 1);
        const code = fit.code((fit.weights[k - start] as number) + later);
        codes.set(this.first + n, k, code);
        errors[n * inner + k] = (originals[n * inner + k] as number) - fit.scale * (code - fit.zero);
      }
    }
  }
}
