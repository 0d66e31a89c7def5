// Cutting layers and MLPs and repairing what is left, alone and with every variant, on the fixture.
import { cp } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import type { ConvertOptions } from "../../src/convert/convert-options.ts";
import { resolveMlpUnits } from "../../src/convert/cuts/axis-settings.ts";
import { moveStreams } from "../../src/convert/statistics/layer-stream.ts";
import { embedWindows, embedWindowsApart, type Hidden } from "../../src/inference/layerwise.ts";
import { evaluate } from "../../src/inference/score/evaluate.ts";
import { VARIANTS } from "../../src/model/variants.ts";
import { failureOf } from "../support/failure.ts";
import { bytesOf, columns, converted, MODEL, opened, TEXT } from "../support/fixture.ts";
import { worstOf } from "../support/golden-models.ts";
import { type TinyOptions, tinyHfConfig, writeCheckpoint } from "../support/make-checkpoint.ts";
import { poison } from "../support/poison.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("axes");
const WITH_TEXT = { strategy: "calibrated", calibration: [TEXT], calibrationTokens: 1024 } as const;
let count = 0;

async function cut(options: Partial<ConvertOptions>, source = MODEL) {
  const output = path(`out-${count++}`);
  const { record, config } = await converted({ output, variant: "dense", ...options }, source);
  return { output, config, cuts: record.cuts ?? [] };
}

/** KL(source ‖ model) on the fixture's text, in nats a token. */
async function divergenceOf(output: string, source = MODEL): Promise<number> {
  return opened(output, (model) =>
    opened(source, async (against) => {
      const { against: other } = await evaluate(model, { text: [TEXT], against, threads: 1 });
      return other?.kl as number;
    }),
  );
}

const IDS = [Int32Array.from({ length: 12 }, (_, i) => (5 * i + 3) % 11)];
const writeTiny = (name: string, options: TinyOptions, keys: Record<string, unknown> = {}) =>
  writeCheckpoint(path(name), { ...options, config: { ...tinyHfConfig(options), ...keys } });

describe.each(VARIANTS)("cuts with the variant %s", (variant) => {
  it("a model cut along every axis has the sizes and the record of the cuts, and computes finite losses", async () => {
    const { output, config, cuts } = await cut({
      ...WITH_TEXT,
      variant,
      layers: [0],
      mlp: { share: 0.75 },
      repair: true,
    });
    expect([config.variant, config.n_layer, config.n_inner]).toEqual([variant, 1, 192]);
    const axes = cuts.filter(({ axis }) => ["layers", "mlp", "repair"].includes(axis));
    expect(axes).toMatchObject([
      { axis: "layers", from: 2, to: 1, kept: [0], chosen: "listed" },
      { axis: "mlp", from: 256, to: 192, chosen: "measured" },
      { axis: "repair", applied: true, tokens: 768, heldOut: 256 },
    ]);
    await opened(output, ({ config: stored, record }) => {
      expect(stored).toEqual(config);
      expect(record?.cuts).toEqual(cuts);
    });
    expect(await divergenceOf(output)).toBeGreaterThan(0);
  });
});

describe("layers", () => {
  it("layers that stay are copied byte for byte under their new numbers", async () => {
    const source = await writeTiny("five", { layers: 5 });
    const { output, config, cuts } = await cut({ layers: [4, 0, 2] }, source);
    expect(config.n_layer).toBe(3);
    expect(cuts).toEqual([{ axis: "layers", from: 5, to: 3, kept: [0, 2, 4], chosen: "listed" }]);
    await opened(output, (model) =>
      opened(source, async (whole) => {
        for (const name of model.tensors.keys()) {
          const before = name.replace(/^h\.(\d)/, (_, layer) => `h.${2 * Number(layer)}`);
          expect((await bytesOf(model, name)).equals(await bytesOf(whole, before)), name).toBe(true);
        }
      }),
    );
  });

  it("without text the layers that stay are spaced evenly, as DistilGPT2's", async () => {
    const source = await writeTiny("twelve", { layers: 12 });
    const { cuts } = await cut({ layers: 6 }, source);
    expect(cuts).toEqual([{ axis: "layers", from: 12, to: 6, kept: [0, 2, 4, 7, 9, 11], chosen: "spaced" }]);
  });

  it("with text that layer goes whose absence brings the least KL to the source", async () => {
    const { cuts } = await cut({ ...WITH_TEXT, layers: 1 });
    const alone = await Promise.all([0, 1].map(async (layer) => divergenceOf((await cut({ layers: [layer] })).output)));
    const kept = (alone[0] as number) < (alone[1] as number) ? 0 : 1;
    expect(cuts).toMatchObject([{ kept: [kept], chosen: "measured", removed: [{ layer: 1 - kept }] }]);
    const [{ removed = [] } = {}] = cuts as { removed?: { kl: number }[] }[];
    expect(removed[0]?.kl).toBeCloseTo(alone[kept] as number, 0);
  });

  it("layers whose scores depend on their number keep their scores under the new one", async () => {
    const source = await writeTiny("inverse", { layers: 4 }, { scale_attn_by_inverse_layer_idx: true });
    const { output } = await cut({ layers: [1, 3] }, source);
    // The stream through layers 1 and 3 of the source, by the source's own numbers.
    const expected = await opened(source, async (whole: Checkpoint) => {
      let streams: Hidden[][] = [await embedWindowsApart(whole, IDS)];
      for (const layer of [1, 3]) streams = await moveStreams(whole, layer, streams, { threads: 1 });
      return streams[0]?.[0]?.x as Float32Array;
    });
    await opened(output, async (model) => {
      let streams: Hidden[][] = [[await embedWindows(model, IDS)]];
      for (const layer of [0, 1]) streams = await moveStreams(model, layer, streams, { threads: 1 });
      expect(worstOf(streams[0]?.[0]?.x as Float32Array, expected)).toBeLessThan(1e-5);
      expect(model.rawConfig.scale_attn_by_inverse_layer_idx).toBe(true);
    });
  });
});

/** The bias of each hidden unit, its column of input weights and its row of output weights, as bytes. */
async function readUnits(checkpoint: Checkpoint, layer: number): Promise<Buffer[]> {
  const { n_embd, n_inner } = checkpoint.config;
  const into = await bytesOf(checkpoint, `h.${layer}.mlp.c_fc.weight`); // [C, I]
  const out = columns(await bytesOf(checkpoint, `h.${layer}.mlp.c_proj.weight`), n_inner, 0, 4 * n_embd);
  const bias = columns(await bytesOf(checkpoint, `h.${layer}.mlp.c_fc.bias`), n_inner, 0, 4);
  return bias.map((own, unit) => Buffer.concat([own, ...columns(into, n_embd, 4 * unit, 4), out[unit] as Buffer]));
}

describe("MLPs", () => {
  it("units that stay without a text keep their weights byte for byte", async () => {
    const { output } = await cut({ mlp: { units: 64 } });
    await opened(output, (model) =>
      opened(MODEL, async (whole) => {
        for (const layer of [0, 1]) {
          const [before, after] = [await readUnits(whole, layer), await readUnits(model, layer)];
          expect([before.length, after.length]).toEqual([256, 64]);
          let at = -1;
          for (const unit of after) {
            at = before.findIndex((other, i) => i > at && other.equals(unit));
            expect(at).toBeGreaterThanOrEqual(0);
          }
          const name = `h.${layer}.mlp.c_proj.bias`;
          expect((await bytesOf(model, name)).equals(await bytesOf(whole, name))).toBe(true);
        }
      }),
    );
  });

  it("units chosen and made up for on text lose far less than those chosen by their weights", async () => {
    const mlp = { share: 0.5 };
    const [blind, measured] = [await cut({ mlp }), await cut({ ...WITH_TEXT, mlp })];
    expect(blind.cuts).toEqual([{ axis: "mlp", from: 256, to: 128, chosen: "weights" }]);
    expect(await divergenceOf(measured.output)).toBeLessThan(0.5 * (await divergenceOf(blind.output)));
  });

  it.each([
    [0.75, 256, 192],
    [0.6, 256, 160],
    [0.9, 64, 58], // the nearest multiple of 32 would be all of them
    [0.9, 40, 32],
    [0.5, 12, 6],
  ])("a share of %d of %i units is %i", async (share, inner, units) => {
    expect(resolveMlpUnits({ share }, { n_inner: inner })).toBe(units);
  });

  it("a model without biases is cut, and float16 stays float16", async () => {
    const source = await writeTiny("no-bias", { bias: false, dtype: "F16" });
    const { output, config } = await cut({ mlp: { units: 8 } }, source);
    expect(config).toMatchObject({ n_inner: 8, bias: false });
    await opened(output, (model) =>
      expect([...model.tensors.values()].every(({ dtype }) => dtype === "F16")).toBe(true),
    );
  });
});

describe("repair", () => {
  it("a repair brings a tied model nearer to its source, and says by how much on text held out", async () => {
    const options = { ...WITH_TEXT, calibrationTokens: 4096, variant: "symmetric" } as const;
    const [plain, repaired] = [await cut({ ...options, repair: undefined }), await cut({ ...options, repair: true })];
    expect(plain.cuts).toEqual([]);
    expect(repaired.cuts).toMatchObject([{ axis: "repair", applied: true }]);
    const [{ before, after } = { before: 0, after: 0 }] = repaired.cuts as unknown as {
      before: number;
      after: number;
    }[];
    expect(after).toBeLessThan(before);
    expect(await divergenceOf(repaired.output)).toBeLessThan(0.9 * (await divergenceOf(plain.output)));
  });

  it("a repair after layers were cut brings the model nearer to its source, and is made where text held out gains", async () => {
    const options = { ...WITH_TEXT, layers: [1] };
    const [plain, repaired] = [await cut(options), await cut({ ...options, repair: undefined })];
    expect(repaired.cuts).toMatchObject([{ axis: "layers" }, { axis: "repair", applied: true }]);
    expect(await divergenceOf(repaired.output)).toBeLessThan(await divergenceOf(plain.output));
  });
});

describe("refusals", () => {
  it.each<[string, Partial<ConvertOptions>, string]>([
    ["nothing to cut", {}, "nothing would be cut: a dense model keeps its attention"],
    ["no layer", { layers: [] }, "--layers: a model needs one at least"],
    ["all layers", { layers: 2 }, "--layers: the model has 2, so that 2 would cut none"],
    ["a layer that is not there", { layers: [2] }, "--layers: there is no layer 2: the model has 0 to 1"],
    [
      "a list of as many layers with one that is not there",
      { layers: [0, 2] },
      "--layers: there is no layer 2: the model has 0 to 1",
    ],
    ["a layer that is named twice", { layers: [0, 0] }, "--layers: 0 is named twice"],
    ["a part of a layer", { layers: [0.5] }, "--layers: 0.5 is no whole number"],
    ["a number of layers that is none", { layers: Number.NaN }, "--layers: NaN is no whole number"],
    [
      "a part of a hidden unit",
      { mlp: { units: 8.5 } },
      "--mlp: hidden units are whole numbers, so that 8.5 cannot stay",
    ],
    ["all hidden units", { mlp: { units: 256 } }, "--mlp: the MLPs have 256 hidden units, so that 256 cannot stay"],
    [
      "a share of no units",
      { mlp: { share: 0.001 } },
      "--mlp: an MLP needs one hidden unit at least, so that 0 cannot stay (a share is rounded)",
    ],
    [
      "a repair of nothing",
      { ...WITH_TEXT, repair: true, vocabulary: { text: [TEXT] } },
      "there is nothing to repair: the vocabulary alone would be cut",
    ],
    ["a repair without text", { layers: 1, repair: true }, "a repair needs calibration text"],
    [
      "text too short for the ridge",
      { ...WITH_TEXT, calibrationTokens: 64, mlp: { units: 200 } },
      `${TEXT}: calibration too short for the ridge: 64 tokens for 200 hidden units`,
    ],
  ])("%s is refused in one line", async (_, options, message) => {
    expect((await failureOf(() => cut(options))).message).toBe(message);
  });

  it.each<[string, Partial<ConvertOptions>, string]>([
    ["the choice of layers", { ...WITH_TEXT, layers: 1 }, "the loss on the calibration text is not finite"],
    ["MLPs cut on text", { ...WITH_TEXT, mlp: { share: 0.5 } }, "h.1.mlp: what it computes is not finite"],
    ["MLPs cut without text", { mlp: { share: 0.5 } }, "h.1.mlp: weights are not finite"],
    ["a repair", { ...WITH_TEXT, layers: [1], repair: true }, "h.0.mlp: what it computes is not finite"],
  ])("damaged weights end %s with the place of the damage", async (_, options, fact) => {
    const source = path(`damaged-${count++}`);
    await cp(MODEL, source, { recursive: true });
    await poison(source, "h.1.mlp.c_fc.weight");
    const error = await failureOf(() => cut(options, source));
    expect([error.code, error.hint]).toEqual(["invalid-file", "the checkpoint is damaged"]);
    expect(error.message).toContain(fact);
  });

  it.each<Partial<ConvertOptions>>([
    { layers: 1 },
    { layers: [0], repair: true },
    { variant: "symmetric", voRank: 8 },
    { variant: "low-rank", strategy: "calibrated", qkRank: { share: 0.5 } },
  ])("%o is refused on one token, and made on two", async (options) => {
    const error = await failureOf(() => cut({ calibration: [TEXT], calibrationTokens: 1, ...options }));
    expect(error.message).toBe("1 token of calibration text: attention weighs several against one another");
    await cut({ calibration: [TEXT], calibrationTokens: 2, ...options });
  });

  it("text is refused for a model of one position", async () => {
    const source = await writeTiny("one-position", { positions: 1, vocab: 384 });
    const error = await failureOf(() => cut({ ...WITH_TEXT, layers: 1 }, source));
    expect(error.message).toBe(`${source}: has one position, so that no text tells of its attention`);
  });

  it.each<[string, Partial<ConvertOptions>]>([
    ["choosing layers", { layers: 1 }],
    ["cutting MLPs", { mlp: { share: 0.5 } }],
    ["repairing", { layers: [0], repair: true }],
  ])("an interruption while %s ends the conversion", async (phase, options) => {
    const abort = new AbortController();
    const onProgress: ConvertOptions["onProgress"] = (progress) => progress.phase === phase && abort.abort();
    const refused = cut({ ...WITH_TEXT, ...options, signal: abort.signal, onProgress });
    await expect(refused).rejects.toMatchObject({ code: "aborted" });
  });

  it("a classifier's layers are not chosen by a loss that it does not have", async () => {
    const source = await writeTiny("classifier", { labels: 2, vocab: 384, positions: 32 });
    const error = await failureOf(() => cut({ layers: 1, calibration: [TEXT] }, source));
    expect(error.message).toBe(`${source}: a classifier, whose loss on calibration text cannot be measured`);
  });
});
