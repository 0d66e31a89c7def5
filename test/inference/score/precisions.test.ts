// Exported files scored on text: the same figures as the checkpoints they came from, and one line for a wrong file.
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { streamTokens } from "../../../src/checkpoint/tokens.ts";
import { exportModel } from "../../../src/export/export-model.ts";
import { type ExportedFile, openExportedModel } from "../../../src/inference/exported/exported-model.ts";
import { computeLogits } from "../../../src/inference/layerwise.ts";
import { evaluate } from "../../../src/inference/score/evaluate.ts";
import { type PrecisionScoreOptions, scorePrecisions } from "../../../src/inference/score/precisions.ts";
import type { ModelConfig } from "../../../src/model/config.ts";
import type { Precision } from "../../../src/model/precision.ts";
import { exported, modelOf, TEXTLESS as PRECISIONS } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL, opened, TEXT } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("score-precisions");
const TOKENS = 200;
let ids: number[] = [];
let config: ModelConfig;
let tied = "";
/** The dense fixture, and as its "q4" the tied model, whose distance from it is known. */
let dense: ExportedFile;
let other: ExportedFile;

beforeAll(async () => {
  tied = await modelOf("noise-distance", path("tied"));
  await exported(MODEL, path("onnx"));
  await exported(tied, path("onnx-tied"));
  copyFileSync(path("onnx-tied/onnx/model.onnx"), path("onnx/onnx/model_q4.onnx"));
  const model = await openExportedModel(path("onnx"));
  config = model.config;
  dense = model.files.get("fp32") as ExportedFile;
  other = model.files.get("q4") as ExportedFile;
  ids = await opened(MODEL, async ({ folder, config: own }) => {
    const all: number[] = [];
    for await (const piece of streamTokens([TEXT], await loadTokenizer(folder, own))) all.push(...piece);
    return all.slice(0, TOKENS);
  });
});

async function* stream(tokens: readonly number[]): AsyncGenerator<readonly number[]> {
  for (let at = 0; at < tokens.length; at += 7) yield tokens.slice(at, at + 7);
}

type Reference = Parameters<typeof scorePrecisions>[2];
const scored = (
  files: readonly ExportedFile[],
  reference: Reference,
  options: Partial<PrecisionScoreOptions> = {},
  own = config,
) => scorePrecisions(files, own, reference, { tokens: () => stream(ids), threads: 1, ...options });

/** What `evaluate` gives for the checkpoints. */
const evaluated = (model: string, against: string | null, window: { length?: number; stride?: number } = {}) =>
  opened(model, async (checkpoint) => {
    const rival = against === null ? null : await openCheckpoint(against);
    const options = { tokens: stream(ids), threads: 1, ...window, ...(rival && { against: rival }) };
    const result = await evaluate(checkpoint, options);
    await rival?.close();
    return result;
  });

describe("scoring exported files", () => {
  it.each([
    [64, 64],
    [40, 16],
    [2, 1],
  ])("an exported file in windows of %i every %i has its checkpoint's perplexity", async (length, stride) => {
    const results = await scored([dense, other], null, { length, stride });
    for (const [i, model] of [MODEL, tied].entries()) {
      const expected = await evaluated(model, null, { length, stride });
      const { tokens, windows } = expected;
      expect(results[i]).toMatchObject({ tokens, windows, length, stride });
      expect(results[i]).toMatchObject({ referencePerplexity: null, kl: null, agreement: null, logitError: null });
      expect(Math.abs((results[i]?.perplexity as number) / expected.perplexity - 1)).toBeLessThan(1e-6);
      expect(results[i]?.nll).toBeCloseTo(Math.log(results[i]?.perplexity as number), 12);
      expect(results[i]?.tokensPerSecond).toBeGreaterThan(0);
    }
    expect(results.map(({ precision }) => precision)).toEqual(["fp32", "q4"]);
  });

  it("an exported file compares with another as their checkpoints do, and the reference itself is not compared", async () => {
    const window = { length: 40, stride: 16 };
    const [first, second] = await scored([dense, other], dense, window);
    const expected = await evaluated(tied, MODEL, window);
    expect(first).toMatchObject({
      precision: "fp32",
      referencePerplexity: null,
      kl: null,
      agreement: null,
      logitError: null,
    });
    expect(first?.perplexity).toBeCloseTo(expected.against?.perplexity as number, 3);
    expect(second?.referencePerplexity).toBe(first?.perplexity);
    expect(second?.perplexity).toBeCloseTo(expected.perplexity, 3);
    expect(second?.kl).toBeCloseTo(expected.against?.kl as number, 5);
    expect(second?.kl).toBeGreaterThan(0.001);
    expect(second?.agreement).toBeCloseTo(expected.against?.agreement as number, 9);
    expect(second?.agreement).toBeLessThan(1);
  });

  it("an exported file compares with a checkpoint as with its file, and hardly differs from its own checkpoint", async () => {
    const [first, second] = await opened(MODEL, (reference) => scored([dense, other], reference));
    const [, byFile] = await scored([dense, other], dense);
    expect(first?.agreement).toBe(1);
    expect(Math.abs(first?.kl as number)).toBeLessThan(1e-6);
    expect(first?.logitError).toBeLessThan(1e-4);
    expect(first?.referencePerplexity).toBeCloseTo(first?.perplexity as number, 4);
    expect(second?.kl).toBeCloseTo(byFile?.kl as number, 5);
    expect(second?.logitError).toBeCloseTo(byFile?.logitError as number, 4);
  });

  it("the logit error is the spread of the logits' differences about their mean, written out", async () => {
    const short = ids.slice(0, 20);
    const [{ logitError } = { logitError: null }] = await scored([other], dense, { tokens: () => stream(short) });
    const logits = (model: string) => opened(model, (open) => computeLogits(open, [Int32Array.from(short)]));
    const [a, b] = [await logits(tied), await logits(MODEL)];
    const V = config.vocab_size;
    let sum = 0;
    for (let row = 0; row < short.length - 1; row++) {
      const differences = Array.from(a.subarray(row * V, (row + 1) * V), (x, v) => x - (b[row * V + v] as number));
      const mean = differences.reduce((total, x) => total + x, 0) / V;
      sum += differences.reduce((total, x) => total + (x - mean) ** 2, 0) / V;
    }
    expect(logitError).toBeCloseTo(Math.sqrt(sum / (short.length - 1)), 5);
  });

  it("the score of a text that fills several comparisons is the same however it is cut", async () => {
    // 384 tokens in the vocabulary: 2,730 positions a comparison, which 20 windows of every token pass.
    const long = { length: 64, stride: 1 };
    const [result] = await scored([dense], null, long);
    const expected = await evaluated(MODEL, null, long);
    expect(result?.nll).toBeCloseTo(expected.nll, 6);
  });

  it("scoring reports the tokens done, up to all of them", async () => {
    const seen: number[] = [];
    const [result] = await scored([dense], null, { onProgress: ({ done: tokens }) => seen.push(tokens) });
    expect(seen.at(-1)).toBe(result?.tokens);
  });
});

describe("scores of every precision", () => {
  it("every precision scores near the float32 model, the finer the nearer, with float16 caches too", async () => {
    const onnx = { weights: "inline", noise: { kind: "mean" }, precisions: PRECISIONS } as const;
    await opened(tied, (checkpoint) => exportModel(checkpoint, { output: path("all"), onnx, threads: 1 }));
    const { files, config: own } = await openExportedModel(path("all"));
    expect([...files.keys()]).toEqual(PRECISIONS);
    expect(files.get("q4f16")?.cacheDtype).toBe("float16");
    const results = await scored([...files.values()], files.get("fp32") as ExportedFile, {}, own);
    const errorOf = (name: Precision) => results.find(({ precision }) => precision === name)?.logitError as number;
    expect(errorOf("fp16")).toBeGreaterThan(0);
    expect(errorOf("fp16")).toBeLessThan(errorOf("uint8"));
    expect(errorOf("uint8")).toBeLessThan(errorOf("q4"));
    expect(errorOf("int8")).toBeLessThan(errorOf("q4"));
    expect(errorOf("q4")).toBeLessThan(errorOf("q2"));
    for (const { precision, perplexity, referencePerplexity } of results) {
      const limit = { fp32: 0, fp16: 0.001, int8: 0.01, uint8: 0.01, mixed: 0.1, q4: 0.1, q4f16: 0.1, q2: 0.5 }[
        precision
      ];
      expect(Math.abs(perplexity / (referencePerplexity ?? perplexity) - 1)).toBeLessThanOrEqual(limit);
    }
  });
});

describe("refusals of scoring", () => {
  it.each<[string, string, () => string, Partial<PrecisionScoreOptions>]>([
    [
      "a text of under two tokens",
      "invalid-file",
      () => "the text has under two tokens: nothing to score",
      { tokens: () => stream([5]) },
    ],
    [
      "a window that is too long",
      "usage",
      () => "the window length 65 is not between 2 and n_positions, 64",
      { length: 65 },
    ],
    [
      "an unknown token",
      "mismatch",
      () => `${dense.path}: the text has token 384, the model 384 tokens`,
      { tokens: () => stream([1, 384]) },
    ],
  ])("%s is refused", async (_, code, sentence, options) => {
    const error = await failureOf(() => scored([dense], null, options));
    expect([error.code, error.message]).toEqual([code, sentence()]);
  });

  it.each([
    ["n_head", { n_head: 2 }],
    ["n_layer", { n_layer: 1 }],
    ["vocab_size", { vocab_size: 400 }],
  ])("a file that disagrees about %s is refused", async (_, change) => {
    const error = await failureOf(() => scored([dense], null, {}, { ...config, ...change }));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toMatch(new RegExp(`^${dense.path}: does not run: [^\n]+$`));
    expect(error.hint).toBe("export the model again");
  });

  it("a reference of another vocabulary is refused", async () => {
    const error = await opened(MODEL, (reference) =>
      failureOf(() => scored([dense], reference, {}, { ...config, vocab_size: 400 })),
    );
    expect(error.code).toBe("mismatch");
    expect(error.message).toBe(`${dense.path} has 400 tokens, ${MODEL} 384`);
  });

  it("a file that does not exist is refused", async () => {
    const error = await failureOf(() => scored([{ ...dense, path: join(path(), "none.onnx") }], null));
    expect(error.code).toBe("invalid-file");
  });

  it("an interruption ends the scoring as aborted", async () => {
    const abort = new AbortController();
    const error = await failureOf(() =>
      scored([dense], null, { length: 2, signal: abort.signal, onProgress: () => abort.abort(), tokens: endless }),
    );
    expect(error.code).toBe("aborted");
    async function* endless() {
      for (;;) yield ids;
    }
  });
});
