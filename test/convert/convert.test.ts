// Converting the fixture: every variant by every tie gives the model that was asked for, and nothing else is touched.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { sampleWindows } from "../../src/checkpoint/token-sample.ts";
import { type LayerTie, TIE_STRATEGIES, tieLayer } from "../../src/convert/attention/tie.ts";
import { readProjections } from "../../src/convert/attention/tied-attention.ts";
import { convert } from "../../src/convert/convert.ts";
import type { ConvertOptions } from "../../src/convert/convert-options.ts";
import { Calibration } from "../../src/convert/statistics/calibration.ts";
import { evaluate } from "../../src/inference/score/evaluate.ts";
import { countParameters, listParameters } from "../../src/model/parameters.ts";
import { VARIANT_TRAITS, VARIANTS, type Variant } from "../../src/model/variants.ts";
import { TOOL } from "../../src/version.ts";
import { bytesOf, columns, converted, digest, MODEL, opened, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("convert");
/** The variants with one projection in place of Q and K; low-rank attention has tests of its own. */
const TIED = VARIANTS.filter((variant): variant is Exclude<Variant, "dense"> => VARIANT_TRAITS[variant].tied);
const isPaired = (variant: Variant) => VARIANT_TRAITS[variant].paired ?? false;
/** Pairwise forms are made by the calibrated and the spectral way only. */
const makes = (strategy: Strategy, variant: Variant) =>
  !isPaired(variant) || strategy === "calibrated" || strategy === "spectral";
const CALIBRATION_TOKENS = 256;

type Strategy = ConvertOptions["strategy"];

/** What `tieLayer` makes of each layer, the calibrated statistics measured as the converter does. */
async function tiesOf(source: Checkpoint, strategy: Strategy, paired: boolean): Promise<LayerTie[]> {
  const { n_layer, n_head, n_embd, n_positions } = source.config;
  const windows = await sampleWindows([TEXT], source, { length: n_positions, count: CALIBRATION_TOKENS });
  const teacher = await Calibration.open(source, windows, { threads: 1 });
  const ties: LayerTie[] = [];
  for (let layer = 0; layer < n_layer; layer++) {
    const statistics = await teacher.inputStatistics(layer);
    const measured = strategy === "calibrated" ? statistics : { inputs: null };
    ties.push(tieLayer({ n_embd, n_head, ...(await readProjections(source, layer)), ...measured, strategy, paired }));
    teacher.advance();
  }
  return ties;
}

/** S as stored, side by side with the tie's; v and every other tensor byte by byte. */
async function expectTied(model: Checkpoint, source: Checkpoint, ties: readonly LayerTie[]): Promise<void> {
  const C = source.config.n_embd;
  for (const { name, layer } of listParameters(model.config)) {
    if (name.includes(".attn.noise_")) continue;
    if (name.endsWith(".attn.pair")) {
      expect(await model.readF32(name)).toEqual(ties[layer as number]?.pair);
      continue;
    }
    const [after, before] = [await bytesOf(model, name), await bytesOf(source, name)];
    if (!name.includes(".attn.c_attn.")) {
      expect(after.equals(before), name).toBe(true);
      continue;
    }
    const rows = name.endsWith(".bias") ? 1 : C;
    const v = Buffer.concat(columns(after, rows, 4 * C, 4 * C));
    expect(v.equals(Buffer.concat(columns(before, rows, 8 * C, 4 * C))), name).toBe(true);
    const s = Float32Array.from(columns(await model.readF32(name), rows, 0, C).flatMap((row) => [...row]));
    const tie = ties[layer as number] as LayerTie;
    expect(s).toEqual(rows === 1 ? tie.bias : tie.weight);
  }
}

async function expectNoise(model: Checkpoint, means: "zero" | "fitted", logStd = 0): Promise<void> {
  for (const { name } of listParameters(model.config)) {
    const values = name.includes(".attn.noise_") ? await model.readF32(name) : null;
    if (name.endsWith("noise_log_std")) expect(values?.every((value) => value === Math.fround(logStd))).toBe(true);
    if (name.endsWith("noise_mean")) expect(values?.some((value) => value !== 0)).toBe(means === "fitted");
  }
}

describe.each(TIE_STRATEGIES)("converting with the tie %s", (strategy) => {
  const tied = opened(MODEL, (source) => tiesOf(source, strategy, false));
  const paired = makes(strategy, "pairwise") ? opened(MODEL, (source) => tiesOf(source, strategy, true)) : null;

  it.each(TIED.filter((variant) => makes(strategy, variant)))(
    "a model converted to %s has that variant's shapes and record, S from the tie, and all else byte for byte",
    async (variant) => {
      const output = path(`${strategy}-${variant}`);
      const ties = (isPaired(variant) && (await paired)) || (await tied);
      const text = strategy === "calibrated" ? { calibration: [TEXT], calibrationTokens: CALIBRATION_TOKENS } : {};
      const command = ["nfc", "convert", "x"];
      const result = await converted({ output, variant, strategy, ...text, command });
      await opened(output, async (model) => {
        expect(model.config).toEqual(result.config);
        expect(model.config.variant).toBe(variant);
        const shapes = [...model.reader.tensors.values()].map(({ name, shape }) => [name, shape]);
        const expected = listParameters(model.config).map(({ name, shape }) => [name, shape]);
        expect(new Map(shapes as [string, number[]][])).toEqual(new Map(expected as [string, number[]][]));
        expect(model.record).toEqual(result.record);
        expect(model.record).toMatchObject({ variant, command, history: [], notes: [], tie: { strategy } });
        expect(model.record?.tie?.errors).toEqual(ties.map(({ errors }) => errors));
        await opened(MODEL, async (source) => {
          expect(result.parameters).toEqual({
            before: countParameters(source.config),
            after: countParameters(model.config),
          });
          await expectTied(model, source, ties);
        });
        const fitted = strategy === "calibrated" && variant === "noise-distance";
        await expectNoise(model, fitted ? "fitted" : "zero");
      });
    },
  );
});

describe("the record of a conversion", () => {
  it("the record keeps the history of a source that nfc trained, up to the conversion", async () => {
    const trained = path("trained");
    cpSync(MODEL, trained, { recursive: true });
    const history = [{ step: "pretrain", tokens: 7 }];
    const source = { path: "config.json", files: [], parameters: 1 };
    const record = {
      format: "nfc/1",
      tool: TOOL,
      variant: "dense",
      tie: null,
      source,
      command: [],
      history,
      notes: [],
    };
    writeFileSync(join(trained, "nfc.json"), JSON.stringify(record));
    const output = path("of-trained");
    await opened(trained, (model) => convert(model, { output, variant: "symmetric", strategy: "mean" }));
    await opened(output, (model) => expect(model.record?.history).toEqual([...history, { step: "convert" }]));
  });

  it("the record names the source's files by size and SHA-256, and the calibration text", async () => {
    const output = path("record");
    const { record } = await converted({ output, strategy: "calibrated", calibration: [TEXT], calibrationTokens: 128 });
    const sums = { ...digest(MODEL), ...digest(`${MODEL}/..`) };
    expect(record.source).toEqual({
      path: MODEL,
      files: [
        {
          name: "model.safetensors",
          bytes: readFileSync(`${MODEL}/model.safetensors`).length,
          sha256: sums["model.safetensors"],
        },
      ],
      parameters: await opened(MODEL, ({ config }) => countParameters(config)),
    });
    expect(record.tie?.calibration).toEqual({ file: TEXT, sha256: sums["text.txt"], tokens: 128 });
  });

  it("the record has an error for every head of every layer, from 0 to about 1 for a tie that fits", async () => {
    const { record, config } = await converted({ output: path("errors"), strategy: "spectral" });
    expect(record.tie?.errors.map((heads) => heads.length)).toEqual(Array(config.n_layer).fill(config.n_head));
    for (const error of record.tie?.errors.flat() ?? []) {
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThan(1);
    }
  });
});

describe("the noise of a conversion", () => {
  it("a few tokens of calibration text make no model worse than none does, and no tie look better than it is", async () => {
    const measure = async (calibrationTokens: number | null) => {
      const output = path(`few-${calibrationTokens}`);
      const text = calibrationTokens === null ? {} : { calibration: [TEXT], calibrationTokens };
      const strategy = calibrationTokens === null ? "spectral" : "calibrated";
      const { record } = await converted({ output, variant: "noise-distance", strategy, ...text });
      const { perplexity } = await opened(output, (model) => evaluate(model, { text: [TEXT], threads: 1 }));
      const errors = record.tie?.errors.flat() ?? [];
      return { perplexity, error: errors.reduce((sum, error) => sum + error, 0) / errors.length };
    };
    const [none, few, some, enough] = [await measure(null), await measure(3), await measure(32), await measure(2048)];
    expect(few.perplexity).toBeLessThan(none.perplexity);
    expect(some.perplexity).toBeLessThan(few.perplexity);
    expect(enough.perplexity).toBeLessThan(some.perplexity);
    for (const { error } of [few, some]) expect(error).toBeGreaterThan(enough.error);
  });

  it("the noise means of noise-distance are fitted on calibration text whatever the tie", async () => {
    const output = path("fitted");
    await converted({
      output,
      variant: "noise-distance",
      strategy: "mean",
      calibration: [TEXT],
      calibrationTokens: 128,
    });
    await opened(output, (model) => expectNoise(model, "fitted"));
  });

  it.each(TIED.filter((variant) => VARIANT_TRAITS[variant].noise !== null))(
    "the noise of %s starts with the σ asked for",
    async (variant) => {
      const output = path(`std-${variant}`);
      await converted({ output, variant, noiseStd: 0.25 });
      await opened(output, (model) => expectNoise(model, "zero", Math.log(0.25)));
    },
  );
});

describe("the output folder of a conversion", () => {
  it("the output has the source's tokenizer and generation files, and a config.json that names the variant", async () => {
    const output = path("files");
    await converted({ output, variant: "noise-shared" });
    const [before, after] = [digest(MODEL), digest(output)];
    for (const name of ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
      expect(after[name]).toBe(before[name]);
    expect(Object.keys(after).sort()).toEqual([...Object.keys(before), "nfc.json"].sort());
    expect(JSON.parse(readFileSync(`${output}/config.json`, "utf8"))).toMatchObject({
      model_type: "gpt2",
      nfc_variant: "noise-shared",
      n_layer: 2,
    });
  });

  it("the output is the same to the byte when the command is run again", async () => {
    const options = { variant: "noise-distance", strategy: "calibrated", calibration: [TEXT] } as const;
    for (const name of ["first", "second"])
      await converted({ ...options, calibrationTokens: CALIBRATION_TOKENS, output: path(name) });
    expect(digest(path("second"))).toEqual(digest(path("first")));
  });

  it("the output is the same for any number of threads when no text is run", async () => {
    for (const threads of [1, 2])
      await converted({ strategy: "spectral", threads, output: path(`threads-${threads}`) });
    expect(digest(path("threads-2"))).toEqual(digest(path("threads-1")));
  });

  it("the reported files and bytes are all of the weights", async () => {
    const { files, byteLength } = await converted({ output: path("bytes") });
    expect(files).toEqual([{ name: "model.safetensors", bytes: byteLength }]);
    expect(readFileSync(path("bytes", "model.safetensors")).length).toBe(byteLength);
  });

  it("the output opens as the source does, and the source stays open and usable", async () => {
    await opened(MODEL, async (source) => {
      await convert(source, { output: path("usable"), variant: "symmetric", strategy: "mean" });
      expect((await source.readF32("ln_f.weight")).length).toBe(source.config.n_embd);
    });
  });
});

it("progress counts layers, then bytes up to the size of the output", async () => {
  const events: { phase: string; done: number; total: number | null; unit: string }[] = [];
  const { byteLength } = await converted({ output: path("progress"), onProgress: (event) => events.push(event) });
  const tying = events.filter(({ phase }) => phase === "tying");
  expect(tying.map(({ done, total, unit }) => [done, total, unit])).toEqual([
    [0, 2, "layers"],
    [1, 2, "layers"],
  ]);
  const writing = events.filter(({ phase }) => phase === "writing");
  expect(writing.at(-1)).toMatchObject({ done: byteLength, total: byteLength, unit: "bytes" });
  const done = writing.map((event) => event.done);
  expect(done).toEqual([...done].sort((a, b) => a - b));
});
