// Perplexity, KL and agreement against sums written out in float64 from another forward pass.
import { beforeAll, describe, expect, it } from "vitest";
import { type Checkpoint, openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { streamTokens } from "../../../src/checkpoint/tokens.ts";
import { computeLogits } from "../../../src/inference/layerwise.ts";
import { type EvaluateOptions, evaluate } from "../../../src/inference/score/evaluate.ts";
import { failureOf } from "../../support/failure.ts";
import { converted, MODEL, opened, TEXT } from "../../support/fixture.ts";
import { tinyTensors, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("evaluate");
const TOKENS = 200;
let ids: number[] = [];
let tied = "";

beforeAll(async () => {
  tied = path("tied");
  await converted({
    output: tied,
    variant: "noise-distance",
    strategy: "mean",
    calibration: [TEXT],
    calibrationTokens: 128,
  });
  ids = await opened(MODEL, async (model) => {
    const all: number[] = [];
    for await (const piece of streamTokens([TEXT], await loadTokenizer(model.folder, model.config))) all.push(...piece);
    return all.slice(0, TOKENS);
  });
});

async function* stream(tokens: readonly number[], pieces = 7): AsyncGenerator<readonly number[]> {
  for (let at = 0; at < tokens.length; at += pieces) yield tokens.slice(at, at + pieces);
}

const measured = (model: string, options: Omit<EvaluateOptions, "tokens"> = {}, tokens: readonly number[] = ids) =>
  opened(model, (checkpoint) => evaluate(checkpoint, { tokens: stream(tokens), threads: 1, ...options }));

/** ln softmax of a row of logits, in float64. */
function logSoftmax(row: Float32Array): Float64Array {
  const values = Float64Array.from(row);
  const most = values.reduce((a, b) => Math.max(a, b));
  const sum = values.reduce((total, value) => total + Math.exp(value - most), 0);
  return values.map((value) => value - most - Math.log(sum));
}

interface Window {
  ids: number[];
  /** Scored positions of the labels within the window. */
  labels: number[];
}

/** Hugging Face's loop for fixed-length models, word for word: begin, end, target length. */
function recipe(length: number, stride: number): Window[] {
  const found: Window[] = [];
  let previousEnd = 0;
  for (let begin = 0; begin < ids.length; begin += stride) {
    const end = Math.min(begin + length, ids.length);
    const target = end - previousEnd;
    const window = ids.slice(begin, end);
    const labels = window.map((_, i) => i).filter((i) => i >= window.length - target && i > 0);
    found.push({ ids: window, labels });
    previousEnd = end;
    if (end === ids.length) break;
  }
  return found;
}

/** For each window, ln p of every token at the position before each label; one pass for the windows of a length. */
async function predictions(model: Checkpoint, found: readonly Window[]): Promise<Float64Array[][]> {
  const V = model.config.vocab_size;
  const result: Float64Array[][] = [];
  for (const length of new Set(found.map(({ ids }) => ids.length))) {
    const same = found.filter(({ ids }) => ids.length === length);
    const inputs = same.map(({ ids }) => Int32Array.from(ids));
    const logits = await computeLogits(model, inputs, { threads: 1 }); // [B·T, V]
    for (const [b, { labels }] of same.entries()) {
      const rows = labels.map((t) => b * length + t - 1);
      result.push(rows.map((row) => logSoftmax(logits.subarray(row * V, (row + 1) * V))));
    }
  }
  return result;
}

/** exp of the windows' means, each weighted by its fresh tokens less one, as the recipe does. */
async function expectedPerplexity(model: string, length: number, stride: number): Promise<number> {
  return opened(model, async (checkpoint) => {
    let [sum, weight, previousEnd] = [0, 0, 0];
    const found = recipe(length, stride);
    const rows = await predictions(checkpoint, found);
    for (const [i, window] of found.entries()) {
      const losses = window.labels.map((t, n) => -(rows[i]?.[n]?.[window.ids[t] as number] as number));
      const end = i * stride + window.ids.length;
      const fresh = end - previousEnd - 1;
      previousEnd = end;
      if (fresh === 0) continue;
      sum += (fresh * losses.reduce((a, b) => a + b)) / losses.length;
      weight += fresh;
    }
    return Math.exp(sum / weight);
  });
}

describe("perplexity", () => {
  it.each([
    [64, 64],
    [64, 32],
    [64, 1],
    [20, 7],
    [2, 2],
    [2, 1],
  ])("the perplexity of windows of %i every %i is what the recipe gives in float64", async (length, stride) => {
    for (const model of [MODEL, tied]) {
      const result = await measured(model, { length, stride });
      const expected = await expectedPerplexity(model, length, stride);
      expect(Math.abs(result.perplexity / expected - 1)).toBeLessThan(1e-5);
      expect(result.nll).toBeCloseTo(Math.log(result.perplexity), 12);
      expect(result).toMatchObject({ length, stride, windows: recipe(length, stride).length });
      expect(result.tokens).toBe(recipe(length, stride).reduce((sum, { labels }) => sum + labels.length, 0));
    }
  });

  it("the window is the model's positions, without overlap, unless told otherwise", async () => {
    expect(await measured(MODEL)).toMatchObject({ length: 64, stride: 64 });
    expect(await measured(MODEL, { length: 30 })).toMatchObject({ length: 30, stride: 30 });
  });

  it("the perplexity does not depend on how the text is cut into pieces", async () => {
    const whole = await opened(MODEL, (model) => evaluate(model, { tokens: stream(ids, TOKENS), threads: 1 }));
    expect((await measured(MODEL)).nll).toBe(whole.nll);
  });

  it("the perplexity of a text shorter than a window is the mean over all its tokens but the first", async () => {
    const short = ids.slice(0, 9);
    const result = await measured(MODEL, {}, short);
    expect(result).toMatchObject({ tokens: 8, windows: 1 });
    const labels = short.slice(1).map((_, i) => i + 1);
    const [rows] = await opened(MODEL, (model) => predictions(model, [{ ids: short, labels }]));
    const sum = labels.reduce((total, t, n) => total - (rows?.[n]?.[short[t] as number] as number), 0);
    expect(result.nll).toBeCloseTo(sum / 8, 5);
  });

  it("the perplexity with sampled noise repeats with the seed, and differs from the mean's and another seed's", async () => {
    const nll = async (seed: number) => (await measured(tied, { noise: { kind: "generated", seed } })).nll;
    expect(await nll(3)).toBe(await nll(3));
    expect(await nll(3)).not.toBe(await nll(4));
    expect(await nll(3)).not.toBe((await measured(tied)).nll);
  });

  it("the speed is measured with the perplexity", async () => {
    expect((await measured(MODEL)).tokensPerSecond).toBeGreaterThan(0);
  });
});

describe("comparing two models", () => {
  const compared = async (model: string, other: string, options: Omit<EvaluateOptions, "tokens"> = {}) => {
    const against = await openCheckpoint(other);
    try {
      return await measured(model, { against, ...options });
    } finally {
      await against.close();
    }
  };

  it("a model compared with itself has a KL of 0, and every choice agrees", async () => {
    const { against, perplexity } = await compared(tied, tied);
    expect(against?.kl).toBe(0);
    expect(against?.agreement).toBe(1);
    expect(against?.perplexity).toBe(perplexity);
  });

  it.each([
    [64, 64],
    [40, 16],
  ])("the KL and the agreement are the sums written out, in windows of %i every %i", async (length, stride) => {
    const result = await compared(tied, MODEL, { length, stride });
    const terms = { kl: 0, agreement: 0, weight: 0 };
    const found = recipe(length, stride);
    const [own, its] = await Promise.all(
      [tied, MODEL].map((model) => opened(model, (open) => predictions(open, found))),
    );
    for (const [i, window] of found.entries()) {
      const pairs = window.labels.map((_, n) => [its?.[i]?.[n], own?.[i]?.[n]] as [Float64Array, Float64Array]);
      const weight = (i === 0 ? window.ids.length : window.labels.length) - (i === 0 || stride < length ? 1 : 0);
      terms.kl += weight * mean(pairs.map(([p, q]) => divergence(p, q)));
      terms.agreement += weight * mean(pairs.map(([p, q]) => Number(top(p) === top(q))));
      terms.weight += weight;
    }
    expect(terms.kl).toBeGreaterThan(0);
    expect(result.against?.kl).toBeCloseTo(terms.kl / terms.weight, 5);
    expect(result.against?.agreement).toBeCloseTo(terms.agreement / terms.weight, 9);
    expect(result.against?.agreement).toBeLessThan(1);
    expect(result.against?.perplexity).toBe((await measured(MODEL, { length, stride })).perplexity);
    expect(result.perplexity).toBe((await measured(tied, { length, stride })).perplexity);
  });

  it("the window of two models is as long as both can read", async () => {
    const short = await writeCheckpoint(path("short-context"), { vocab: 384, positions: 24 });
    expect(await compared(MODEL, short)).toMatchObject({ length: 24, stride: 24 });
    const error = await failureOf(() => compared(MODEL, short, { length: 25 }));
    expect(error.code).toBe("usage");
    expect(error.message).toContain("n_positions, 24");
  });

  it("a model of another vocabulary is refused", async () => {
    const other = await writeCheckpoint(path("other-vocabulary"));
    const error = await failureOf(() => compared(MODEL, other));
    expect(error.code).toBe("mismatch");
    expect(error.message).toBe(`${MODEL} has 384 tokens, ${other} 11`);
    expect(error.hint).toBe("compare models of one vocabulary");
  });
});

function divergence(p: Float64Array, q: Float64Array): number {
  return p.reduce((sum, value, i) => sum + Math.exp(value) * (value - (q[i] as number)), 0);
}

function top(values: Float64Array): number {
  return values.reduce((best, value, i) => (value > (values[best] as number) ? i : best), 0);
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

describe("refusals of evaluation", () => {
  it.each([1, 65, 2.5, 0, -3, Number.NaN])("a window of %d tokens is refused", async (length) => {
    const error = await failureOf(() => measured(MODEL, { length }));
    expect(error.code).toBe("usage");
    expect(error.message).toBe(`the window length ${length} is not between 2 and n_positions, 64`);
  });

  it.each([0, -1, 33, 1.5])("a stride of %d in windows of 32 is refused", async (stride) => {
    const error = await failureOf(() => measured(MODEL, { length: 32, stride }));
    expect(error.code).toBe("usage");
    expect(error.message).toBe(`the stride ${stride} is not between 1 and the window length, 32`);
  });

  it.each([384, 1e9, -1])("the token %d, which the model does not have, is refused", async (token) => {
    const error = await failureOf(() => measured(MODEL, {}, [1, 2, token, 3]));
    expect(error.code).toBe("mismatch");
    expect(error.message).toBe(`${MODEL}: the text has token ${token}, the model 384 tokens`);
    expect(error.hint).toBe("use the model's own tokenizer");
  });

  it.each([[[]], [[5]]])("a text of under two tokens is refused: %j", async (tokens) => {
    const error = await failureOf(() => measured(MODEL, {}, tokens));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toBe("the text has under two tokens: nothing to score");
  });

  it("a model whose loss is not finite is refused", async () => {
    const tensors = tinyTensors({ vocab: 384, positions: 64 });
    const bytes = tensors.find(({ name }) => name === "ln_f.weight")?.bytes as Uint8Array;
    new DataView(bytes.buffer, bytes.byteOffset).setFloat32(0, Number.NaN, true);
    const model = await writeCheckpoint(path("nan"), { tensors, vocab: 384, positions: 64 });
    const error = await failureOf(() => measured(model));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toBe(`${model}: its loss is not finite`);
    expect(error.hint).toBe("the checkpoint is damaged");
  });

  it("an interruption between two batches ends the evaluation as aborted", async () => {
    const abort = new AbortController();
    const seen: number[] = [];
    async function* endless() {
      for (;;) {
        yield ids;
        if (seen.length > 0) abort.abort();
      }
    }
    const error = await failureOf(() =>
      opened(MODEL, (model) =>
        evaluate(model, {
          tokens: endless(),
          threads: 1,
          signal: abort.signal,
          onProgress: ({ done }) => seen.push(done),
        }),
      ),
    );
    expect(error.code).toBe("aborted");
    expect(seen.length).toBeGreaterThan(0);
  });
});
