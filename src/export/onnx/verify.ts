// Runs a written export and compares it with our own forward pass: prompts beside padded ones, then a step of all of them.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { makeNotFiniteError, NfcError, throwIfAborted } from "../../errors.ts";
import { makeInt64Tensor, Session, type Tensor } from "../../graph/session.ts";
import { makePromptFeeds, makeStepFeeds, takeCache } from "../../inference/generate/decoder-feeds.ts";
import { computeLogits } from "../../inference/layerwise.ts";
import { timePhase } from "../../io/timings.ts";
import { isHalf, type Precision } from "../../model/precision.ts";
import { makeRandom } from "../../numeric/random.ts";

/**
 * Largest difference of a logit, relative to the logits' root mean square where that exceeds 1. Block files count as
 * float32 here: without prepacked weights, MatMulNBits multiplies in float32.
 */
export const LOGIT_TOLERANCE = 1e-4;
/**
 * Precisions that round activations: root mean square of the differences, relative to that of the logits. The reference
 * has the file's own weights. On models from 0.1 to 124 M parameters float16 gives up to 0.0011, int8 up to 0.032, which
 * an outlier among the activations of a token raises. A wrong graph exceeds these; a single wrong row
 * does not, so check-weights.ts compares bytes.
 */
const ROUNDING_TOLERANCE: Partial<Record<Precision, number>> = { fp16: 0.005, q4f16: 0.01, int8: 0.3 };
/** A σ below this moves scores by less than float32 may show in a few tokens. */
const VISIBLE_DEVIATION = 1e-3;
const PROMPTS = 2;
const PROMPT_SEED = 20260111;
const PROMPT_LENGTH = 24;

export interface Verification {
  /** Largest absolute difference of a logit from our own forward pass with the file's rounded weights. */
  worst: number;
  /** Root mean square of the differences, and of the logits. */
  error: number;
  scale: number;
  /** The limit of `worst`, or of `error` where activations are rounded (fp16, q4f16, int8). */
  tolerance: number;
  positions: number;
}

export interface VerifyOptions {
  precision?: Precision;
  /** Threads of one op; 0 lets ONNX Runtime take the physical cores. */
  threads?: number;
  signal?: AbortSignal | undefined;
}

/**
 * @param checkpoint the model that the file stands for: rounded as the file is
 * @throws NfcError "mismatch" when the file's logits differ, "unsupported" when they overflow in float16, "invalid-file"
 * when it does not load or the model's own logits are not finite, "aborted"
 */
export async function verifyOnnx(
  path: string,
  checkpoint: Checkpoint,
  { precision = "fp32", threads = 0, signal }: VerifyOptions = {},
): Promise<Verification> {
  const { config } = checkpoint;
  const cacheDtype = isHalf(precision) ? "float16" : "float32";
  const feedsOf = (rows: readonly (readonly number[])[]) => makePromptFeeds(rows, config, { cacheDtype });
  const length = Math.min(PROMPT_LENGTH, config.n_positions);
  const prompts = drawPrompts(config.vocab_size, length);
  const windows = prompts.map((ids) => Int32Array.from(ids));
  const reference = await timePhase("running the model", () => computeLogits(checkpoint, windows, { threads, signal }));
  if (!reference.every(Number.isFinite)) throw makeNotFiniteError(`${checkpoint.source}: its logits are not finite`);
  const compare = new LogitComparison(reference, length, config.labels?.length ?? config.vocab_size);
  await timePhase("running the file", () =>
    withSession(path, { threads, signal }, (run) =>
      config.labels ? compareClassifier(compare, run, prompts) : compareDecoder(compare, run, prompts, feedsOf),
    ),
  );
  return compare.finish(path, precision);
}

/**
 * Compares two thirds of each prompt, beside its first third padded to that length, then the next third of all four rows
 * through the cache.
 */
async function compareDecoder(
  compare: LogitComparison,
  run: RunModel,
  prompts: readonly number[][],
  feedsOf: (rows: readonly (readonly number[])[]) => Record<string, Tensor>,
): Promise<void> {
  const length = prompts[0]?.length as number;
  const step = length === 1 ? 0 : Math.max(1, Math.floor(length / 3)); // a model of one position has no second step
  const whole = length - step;
  const begun = Math.max(1, whole - step);
  const ends = [...prompts.map(() => whole), ...prompts.map(() => begun)];
  const rows = ends.map((end, row) => ({
    row: row % prompts.length,
    end,
    ids: prompts[row % prompts.length] as number[],
  }));
  const first = feedsOf(rows.map(({ ids, end }) => ids.slice(0, end)));
  const outputs = await run(first);
  compare.add(
    outputs.logits as Tensor,
    rows.map(({ row, end }) => ({ row, shift: end - whole })),
  );
  if (step === 0) return;
  const next = rows.map(({ ids, end }) => ids.slice(end, end + step));
  const second = makeStepFeeds(first, next, takeCache(outputs));
  compare.add(
    await readLogits(run(second)),
    rows.map(({ row, end }) => ({ row, shift: end })),
  );
}

/** Compares whole texts, then one beside half of another, padded on the right and on the left. */
async function compareClassifier(compare: LogitComparison, run: RunModel, prompts: readonly number[][]): Promise<void> {
  const length = prompts[0]?.length as number;
  const half = Math.ceil(length / 2);
  const short = prompts.map((ids, row) => (row === 0 ? ids : ids.slice(0, half)));
  for (const [texts, side] of [
    [prompts, "right"],
    [short, "right"],
    [short, "left"],
  ] as const) {
    const { data, dtype, shape } = await readLogits(run(makeClassifierFeeds(texts, side)));
    const [rows, labels] = shape as [number, number];
    compare.add(
      { data, dtype, shape: [rows, 1, labels] },
      texts.map((text, row) => ({ row, shift: text.length - 1 })),
    );
  }
}

/** input_ids and attention_mask [B, T] */
function makeClassifierFeeds(texts: readonly (readonly number[])[], side: "left" | "right"): Record<string, Tensor> {
  const length = Math.max(...texts.map((text) => text.length));
  const row = (values: readonly number[]) => {
    const padding = Array<number>(length - values.length).fill(0);
    return side === "left" ? [...padding, ...values] : [...values, ...padding];
  };
  const shape = [texts.length, length];
  return {
    input_ids: makeInt64Tensor(texts.flatMap(row), shape),
    attention_mask: makeInt64Tensor(
      texts.flatMap((text) => row(text.map(() => 1))),
      shape,
    ),
  };
}

/**
 * With noise drawn inside the graph there is nothing to compare with: the file must load, be finite, and vary, unless σ
 * is too small to show.
 * @throws NfcError "mismatch", "invalid-file", "aborted"
 */
export async function verifySampled(
  path: string,
  checkpoint: Checkpoint,
  { precision = "fp32", threads = 0, signal }: VerifyOptions = {},
): Promise<void> {
  const { config } = checkpoint;
  const prompts = drawPrompts(config.vocab_size, Math.min(PROMPT_LENGTH, config.n_positions));
  const feeds = config.labels
    ? makeClassifierFeeds(prompts, "right")
    : makePromptFeeds(prompts, config, { cacheDtype: isHalf(precision) ? "float16" : "float32" });
  const visible = config.n_positions > 1 && (await findLargestDeviation(checkpoint)) >= VISIBLE_DEVIATION;
  await withSession(path, { threads, signal }, async (run) => {
    const [a, b] = [await readLogits(run(feeds)), await readLogits(run(feeds))].map(({ data }) => data as Float32Array);
    if (!a?.every(Number.isFinite))
      throw new NfcError("mismatch", `${path}: its logits are not finite`, {
        hint: "report this: the export is wrong",
      });
    if (visible && a.every((value, i) => value === b?.[i]))
      throw new NfcError("mismatch", `${path}: two runs give equal logits, so no noise is drawn`, {
        hint: "report this: the export is wrong",
      });
  });
}

/** The largest σ = exp(log_std) of a model. */
async function findLargestDeviation(checkpoint: Checkpoint): Promise<number> {
  let most = 0;
  for (let layer = 0; layer < checkpoint.config.n_layer; layer++)
    for (const value of await checkpoint.readF32(`h.${layer}.attn.noise_log_std`))
      most = Math.max(most, Math.exp(value));
  return most;
}

type RunModel = (feeds: Record<string, Tensor>) => Promise<Record<string, Tensor>>;

async function readLogits(outputs: ReturnType<RunModel>): Promise<Tensor> {
  return (await outputs).logits as Tensor;
}

/** Runs a file's steps, between which the call can be aborted. Without prepacking, weights are mapped, not copied. */
async function withSession(
  path: string,
  { threads, signal }: VerifyOptions,
  use: (run: RunModel) => Promise<void>,
): Promise<void> {
  throwIfAborted(signal);
  const session = await Session.fromFile(path, { threads: threads ?? 0, shortLived: true, arena: false });
  try {
    await use((feeds) => {
      throwIfAborted(signal);
      return session.run(feeds);
    });
  } finally {
    await session.close();
  }
}

/** Two pseudo-random prompts, which are the same for every model of a vocabulary. */
function drawPrompts(vocabulary: number, length: number): number[][] {
  const random = makeRandom(PROMPT_SEED);
  return Array.from({ length: PROMPTS }, () => Array.from({ length }, () => Math.floor(random() * vocabulary)));
}

class LogitComparison {
  private readonly reference: Float32Array; // [PROMPTS, length, V]
  private readonly length: number;
  private readonly vocabulary: number;
  private worst = 0;
  private squares = 0;
  private positions = 0;

  constructor(reference: Float32Array, length: number, vocabulary: number) {
    this.reference = reference;
    this.length = length;
    this.vocabulary = vocabulary;
  }

  /** logits [B, t, V]: column c is position c + shift of a row of the reference; negative positions are padding. */
  add({ data, shape }: Tensor, places: readonly { row: number; shift: number }[]): void {
    const [rows, columns] = shape as [number, number];
    const V = this.vocabulary;
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const place = places[row] as { row: number; shift: number };
        const position = column + place.shift;
        if (position < 0) continue;
        this.positions += 1;
        const ours = (place.row * this.length + position) * V;
        const theirs = (row * columns + column) * V;
        for (let v = 0; v < V; v++) {
          const difference = Math.abs((this.reference[ours + v] as number) - Number(data[theirs + v]));
          // The negated comparison makes NaN count as the worst.
          if (!(difference <= this.worst))
            this.worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
          this.squares += difference * difference;
        }
      }
  }

  finish(path: string, precision: Precision): Verification {
    const { worst, positions } = this;
    const scale = Math.sqrt(this.reference.reduce((sum, value) => sum + value * value, 0) / this.reference.length);
    const error = Math.sqrt(this.squares / (positions * this.vocabulary));
    const rounding = ROUNDING_TOLERANCE[precision];
    const tolerance = rounding === undefined ? LOGIT_TOLERANCE * Math.max(1, scale) : rounding * scale;
    const found = rounding === undefined ? worst : error;
    if (isHalf(precision) && worst === Number.POSITIVE_INFINITY)
      throw new NfcError("unsupported", `${path}: products of this model pass 65504, the largest number of float16`, {
        hint: "export fp32, int8, uint8 or q4",
      });
    if (!(found <= tolerance))
      throw new NfcError(
        "mismatch",
        `${path}: its logits differ from the model's by ${found.toExponential(1)} (allowed: ${tolerance.toExponential(1)})`,
        { hint: "report this: the export is wrong" },
      );
    return { worst, error, scale, tolerance, positions };
  }
}
