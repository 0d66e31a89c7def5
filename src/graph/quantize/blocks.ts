// Weights in blocks of 2, 4 or 8 bits, laid out as MatMulNBits and GatherBlockQuantized read them.
import { makeNotFiniteError, NfcError } from "../../errors.ts";
import { encodeFloats } from "../../formats/dtype.ts";
import { type BlockFormat, countChannels, type MatrixFormat } from "../passes/quantized-blocks.ts";
import { BlockFit } from "./block-fit.ts";
import { type RoundedPiece, roundPieces } from "./block-kernel.ts";

/**
 * A matrix of N output channels by K inputs, each row in blocks along K: w = scale · (code − zero point). The last block
 * is padded with its zero point. GatherBlockQuantized reads the same bytes where `block` divides K.
 */
export interface BlockMatrix {
  /** [N, ⌈K/block⌉, block·bits/8]; of the codes in a byte the low ones come first. */
  values: Uint8Array;
  /** [N, ⌈K/block⌉], float16 numbers, possibly negative */
  scales: Float32Array;
  /** [N, ⌈⌈K/block⌉·bits/8⌉], packed like the values; null: 2^(bits−1) for all */
  zeroPoints: Uint8Array | null;
}

export interface QuantizeOptions extends MatrixFormat {
  /** The weight's name, for messages. */
  name: string;
  /** How scales are chosen: of least squared error, or as ONNX Runtime's quantizer does. Unless given, see `chooseRule`. */
  rule?: "least-squares" | "extreme";
  /** How much an error at input k matters, [K], e.g. E[x_k²]; least squares alone looks at it. */
  importance?: ArrayLike<number>;
}

/** In 2 bits scales of least squares shrink the weights, and lose more on text than those of the extremes. */
const chooseRule = (bits: BlockFormat["bits"]) => (bits === 2 ? "extreme" : "least-squares");

/** @throws NfcError "invalid-file" for a weight that is not finite, "unsupported" for one that float16 scales cannot hold */
export function quantizeBlocks(weights: Float32Array, options: QuantizeOptions): BlockMatrix {
  const rounded = new BlockCodes(options);
  const { rule = chooseRule(options.bits), importance } = options;
  const byKernel = rule === chooseRule(options.bits) && !importance;
  if (byKernel && roundPieces(weights, options, (piece) => rounded.setPiece(piece, options.name)))
    return rounded.matrix;
  const codes = new BlockCodes(options);
  fitBlocks(weights, options, (fit, { n, b, first }) => {
    codes.setGrid(n, b, fit, options.name);
    for (let k = 0; k < fit.length; k++) codes.set(n, first + k, fit.code(fit.weights[k] as number));
  });
  return codes.matrix;
}

/**
 * Rounds weights to the numbers that their codes stand for: s·(q − z), exact in float32.
 * @param into takes them, in the layout of the weights
 * @throws NfcError as `quantizeBlocks`
 */
export function roundToBlocks(weights: Float32Array, options: QuantizeOptions, into: Float32Array): void {
  fitBlocks(weights, options, (fit, { at, step }) => {
    checkScale(fit.scale, options.name);
    const { scale, zero } = fit;
    for (let k = 0, to = at; k < fit.length; k++, to += step)
      into[to] = scale * (fit.code(fit.weights[k] as number) - zero) + 0; // 0, not −0
  });
}

/** A block: its channel, its place among the blocks of that and its first input; `at`, `step`: where its weights lie. */
interface BlockPlace {
  n: number;
  b: number;
  first: number;
  at: number;
  step: number;
}

function fitBlocks(
  weights: Float32Array,
  options: QuantizeOptions,
  take: (fit: BlockFit, place: BlockPlace) => void,
): void {
  const { rule = chooseRule(options.bits), importance, block, byRow } = options;
  const [channels, inner] = countChannels(options);
  const blocks = Math.ceil(inner / block);
  const fit = new BlockFit(options);
  const [step, stepN] = byRow ? [1, inner] : [channels, 1];
  for (let i = 0; i < channels * blocks; i++) {
    const n = byRow ? Math.floor(i / blocks) : i % channels;
    const b = byRow ? i % blocks : Math.floor(i / channels);
    const first = b * block;
    const at = n * stepN + first * step;
    fit.length = Math.min(block, inner - first);
    for (let k = 0, from = at; k < fit.length; k++, from += step) {
      fit.weights[k] = weights[from] as number;
      if (importance) fit.importance[k] = importance[first + k] as number;
    }
    if (rule === "extreme") fit.extreme();
    else fit.leastSquares();
    take(fit, { n, b, first, at, step });
  }
}

/** The numbers that the codes stand for, in the layout that they came in. */
export function dequantizeBlocks(matrix: BlockMatrix, format: MatrixFormat): Float32Array {
  const codes = new BlockCodes(format, matrix);
  const { channels, inner, blocks } = codes;
  const { block, bits, byRow } = format;
  const [step, stepN] = byRow ? [1, inner] : [channels, 1];
  const weights = new Float32Array(channels * inner);
  const { values } = matrix;
  const shift = Math.log2(8 / bits);
  const [low, mask] = [8 / bits - 1, 2 ** bits - 1];
  for (let i = 0; i < channels * blocks; i++) {
    const n = byRow ? Math.floor(i / blocks) : i % channels;
    const b = byRow ? i % blocks : Math.floor(i / channels);
    const scale = codes.scale(n, b);
    const zero = codes.zero(n, b);
    const length = Math.min(block, inner - b * block);
    let at = (n * blocks + b) * block;
    for (let k = 0, to = n * stepN + b * block * step; k < length; k++, at++, to += step) {
      const code = ((values[at >> shift] as number) >> ((at & low) * bits)) & mask;
      weights[to] = scale * (code - zero) + 0; // 0, not −0
    }
  }
  return weights;
}

/** Some of the N channels of a matrix, as views. */
export function cutChannels(
  { values, scales, zeroPoints }: BlockMatrix,
  channels: number,
  first: number,
  count: number,
): BlockMatrix {
  const cut = <T extends Uint8Array | Float32Array>(all: T): T => {
    const each = all.length / channels;
    return all.subarray(first * each, (first + count) * each) as T;
  };
  return { values: cut(values), scales: cut(scales), zeroPoints: zeroPoints && cut(zeroPoints) };
}

/** The scales as they are stored: float16. */
export function countScaleBytes({ scales }: BlockMatrix): Uint8Array {
  return encodeFloats(scales, "F16");
}

/** Access to the codes of a matrix by channel n and input k; a new one has all codes 0. */
export class BlockCodes {
  readonly channels: number;
  readonly inner: number;
  readonly blocks: number;
  readonly matrix: BlockMatrix;
  private readonly format: MatrixFormat;
  /** log2 of the codes in a byte. */
  private readonly shift: number;

  constructor(format: MatrixFormat, matrix?: BlockMatrix) {
    const { block, bits, symmetric } = format;
    const [channels, inner] = countChannels(format);
    const blocks = Math.ceil(inner / block);
    this.channels = channels;
    this.inner = inner;
    this.blocks = blocks;
    this.format = format;
    this.shift = Math.log2(8 / bits);
    this.matrix = matrix ?? {
      values: new Uint8Array((channels * blocks * block * bits) / 8),
      scales: new Float32Array(channels * blocks),
      zeroPoints: symmetric ? null : new Uint8Array(channels * Math.ceil((blocks * bits) / 8)),
    };
  }

  /** Sets the scale, zero point and padding of a block; called once for each. */
  setGrid(n: number, b: number, { scale, zero }: Pick<BlockFit, "scale" | "zero">, name: string): void {
    checkScale(scale, name);
    const { matrix, blocks } = this;
    const { bits, block } = this.format;
    matrix.scales[n * blocks + b] = scale;
    if (matrix.zeroPoints) {
      this.put(matrix.zeroPoints, this.zeroAt(n, b), zero);
      // The unused part of a channel's last byte stands for 0, as ONNX Runtime has it.
      if (b === blocks - 1)
        for (let unused = blocks; (unused * bits) % 8 !== 0; unused++)
          this.put(matrix.zeroPoints, this.zeroAt(n, unused), 2 ** (bits - 1));
    }
    for (let k = this.inner; k < (b + 1) * block; k++) this.set(n, k, zero);
  }

  /** Sets grids and codes of blocks that are rounded to s·(q − z). */
  setPiece(piece: RoundedPiece, name: string): void {
    const { channel, channels, block: firstBlock, blocks, rounded } = piece;
    const { block, bits, byRow } = this.format;
    const [step, stepN] = byRow ? [1, this.inner] : [channels, 1];
    const { values } = this.matrix;
    const low = (1 << this.shift) - 1;
    for (let i = 0; i < channels * blocks; i++) {
      const n = byRow ? Math.floor(i / blocks) : i % channels;
      const b = byRow ? i % blocks : Math.floor(i / channels);
      const grid = piece.grid(n, b);
      this.setGrid(channel + n, firstBlock + b, grid, name);
      const inverse = grid.scale === 0 ? 0 : 1 / grid.scale;
      const nearest = grid.zero + 0.5;
      const length = Math.min(block, this.inner - (firstBlock + b) * block);
      let at = ((channel + n) * this.blocks + firstBlock + b) * block;
      for (let k = 0, from = n * stepN + b * block * step; k < length; k++, at++, from += step) {
        const code = ((rounded[from] as number) * inverse + nearest) | 0;
        const byte = at >> this.shift;
        values[byte] = (values[byte] as number) | (code << ((at & low) * bits));
      }
    }
  }

  /** Sets the code of a weight; called once for each. */
  set(n: number, k: number, code: number): void {
    this.put(this.matrix.values, n * this.blocks * this.format.block + k, code);
  }

  get(n: number, k: number): number {
    return this.at(this.matrix.values, n * this.blocks * this.format.block + k);
  }

  scale(n: number, b: number): number {
    return this.matrix.scales[n * this.blocks + b] as number;
  }

  zero(n: number, b: number): number {
    const { zeroPoints } = this.matrix;
    return zeroPoints ? this.at(zeroPoints, this.zeroAt(n, b)) : 2 ** (this.format.bits - 1);
  }

  /** Place among the zero points, of which each channel starts a byte. */
  private zeroAt(n: number, b: number): number {
    const inByte = 8 / this.format.bits;
    return n * inByte * Math.ceil(this.blocks / inByte) + b;
  }

  private put(bytes: Uint8Array, at: number, code: number): void {
    const low = at & ((1 << this.shift) - 1);
    bytes[at >> this.shift] = (bytes[at >> this.shift] as number) | (code << (low * this.format.bits));
  }

  private at(bytes: Uint8Array, at: number): number {
    const { bits } = this.format;
    const low = at & ((1 << this.shift) - 1);
    return ((bytes[at >> this.shift] as number) >> (low * bits)) & (2 ** bits - 1);
  }
}

function checkScale(scale: number, name: string): void {
  if (Number.isNaN(scale)) throw makeNotFiniteError(`${name}: has weights that are not finite`);
  if (Math.abs(scale) > 65504)
    throw new NfcError("unsupported", `${name}: has weights too large for float16 scales`, {
      hint: "export fp32 or int8",
    });
}
