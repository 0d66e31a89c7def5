// The comparison of two models: published counts, sums, what tying saves, and what a reader must be told.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ModelConfig } from "../../src/model/config.ts";
import { countParameters } from "../../src/model/parameters.ts";
import { VARIANTS } from "../../src/model/variants.ts";
import { createReport, type Report } from "../../src/report/report.ts";
import { renderReportText } from "../../src/report/report-blocks.ts";
import { formatReport, parseReport } from "../../src/report/report-schema.ts";
import { failureOf } from "../support/failure.ts";
import { fakeCheckpoint, GPT2_SMALL, recordOf, SHA, TINY } from "../support/fake-checkpoint.ts";

const symmetric: ModelConfig = { ...TINY, variant: "symmetric" };

function converted(from: ModelConfig, changes: Partial<ModelConfig>): Report {
  const before = fakeCheckpoint(from);
  const config = { ...from, ...changes };
  return createReport(before, fakeCheckpoint(config, { source: "out/nf", record: recordOf(before, config) }));
}

const group = (report: Report, name: string) => report.groups.find((row) => row.group === name);
const codes = (report: Report) => report.findings.map(({ code }) => code);
const textOf = (report: Report, code: string) => report.findings.find((finding) => finding.code === code)?.text;

describe("a report on narrow heads and forms A", () => {
  const L = 12;
  const all = (rank: number) => Array<number>(L).fill(rank);

  test("q and k of half the rank save what tying saves, and nothing is called tied", () => {
    const report = converted(GPT2_SMALL, { variant: "low-rank", qk_ranks: all(32) });
    expect(report.total.parameters.difference).toBe(-7087104);
    expect(report.breakdown).toMatchObject({
      tying: null,
      heads: {
        parameters: -7087104,
        bytes: -28348416,
        formula: "2 H (C + 1) sum(D - r) = 2 * 12 * 769 * 384",
      },
      noise: { parameters: 0, bytes: 0 },
      rest: { parameters: 0, bytes: 0 },
    });
    expect(codes(report)).toEqual([]);
    expect(group(report, "attention.q")?.parameters).toMatchObject({ percent: -50 });
    expect(group(report, "attention.qk")).toBeUndefined();
    const text = renderReportText(report);
    expect(text).toMatch(/^ranks +64 +q and k 32 of 64$/m);
    expect(text).toContain("ranks of the heads");
    expect(text).toContain("\nLow rank: ");
    expect(text).not.toMatch(/\btie|tying|tied/i);
  });

  test("ranks by layer and of v are summed as their formula says", () => {
    const qk_ranks = all(64).map((_, layer) => 8 + layer);
    const report = converted(GPT2_SMALL, { variant: "low-rank", qk_ranks, vo_ranks: all(48) });
    const q = 12 * 769 * qk_ranks.reduce((sum, rank) => sum + 64 - rank, 0);
    expect(report.breakdown.heads?.parameters).toBe(-(2 * q + 12 * (2 * 768 + 1) * 12 * 16));
    expect(report.breakdown.rest).toEqual({ parameters: 0, bytes: 0 });
    expect(report.after.config).toMatchObject({ qk_ranks, vo_ranks: all(48) });
    expect(renderReportText(report)).toMatch(/^ranks +64 +q and k 8 to 19 of 64, v 48 of 64$/m);
    expect(parseReport(JSON.parse(formatReport(report)), "r.json")).toEqual(report);
  });

  test("narrow values of a tied model are counted apart from the tie", () => {
    const { breakdown } = converted(GPT2_SMALL, { variant: "noise-distance", vo_ranks: all(32) });
    expect(breakdown).toMatchObject({
      tying: { parameters: -7087104 },
      heads: { parameters: -12 * 1537 * 12 * 32, formula: "H (2C + 1) sum(D - v) = 12 * 1537 * 384" },
      noise: { parameters: 4752 },
      rest: { parameters: 0, bytes: 0 },
    });
  });

  test("the forms A of a pairwise model are added to what one projection saves", () => {
    const report = converted(GPT2_SMALL, { variant: "pairwise" });
    expect(report.breakdown).toMatchObject({
      tying: { parameters: -7087104 },
      heads: { parameters: 12 * 12 * 64 ** 2, formula: "L H D^2 = 12 * 12 * 64^2" },
      rest: { parameters: 0, bytes: 0 },
    });
    const text = renderReportText(report);
    expect(text).toMatch(/^one projection for Q and K /m);
    expect(text).toMatch(/^forms A of the heads /m);
    expect(text).toMatch(/^ {2}s and A /m);
    expect(text).not.toMatch(/q = k|tying/);
  });

  test.each([
    ["a tied model", { variant: "symmetric" }, 7087104, -7087104],
    ["a model of other ranks", { variant: "low-rank", qk_ranks: all(16) }, null, 3543552],
  ] as const)("against %s the parts add up", (_, from, tying, heads) => {
    const [before, after] = [from, { variant: "low-rank", qk_ranks: all(32) } as const].map((form) =>
      fakeCheckpoint({ ...GPT2_SMALL, ...form }),
    ) as [ReturnType<typeof fakeCheckpoint>, ReturnType<typeof fakeCheckpoint>];
    const { breakdown, total } = createReport(before, after);
    expect(breakdown.tying?.parameters ?? null).toBe(tying);
    expect(breakdown.heads?.parameters).toBe(heads);
    expect(breakdown.rest).toEqual({ parameters: 0, bytes: 0 });
    expect(total.parameters.difference).toBe((tying ?? 0) + heads);
  });

  test("a low-rank model without a record is told to have unknown rank errors", () => {
    const report = createReport(
      fakeCheckpoint(TINY),
      fakeCheckpoint({ ...TINY, variant: "low-rank", qk_ranks: [2, 2] }),
    );
    expect(textOf(report, "no-record")).toBe(
      "after: there is no nfc.json, so rank errors and provenance are not known",
    );
  });
});

describe("a report on GPT-2 small", () => {
  test("tying Q and K takes 124,439,808 parameters to 117,352,704, which is 5.70 % less", () => {
    const { total, breakdown } = converted(GPT2_SMALL, { variant: "symmetric" });
    expect(total.parameters).toMatchObject({ before: 124439808, after: 117352704, difference: -7087104 });
    expect(total.parameters.percent?.toFixed(2)).toBe("-5.70");
    expect(total.bytes).toMatchObject({ before: 4 * 124439808, after: 4 * 117352704 });
    expect(breakdown).toMatchObject({
      tying: { parameters: -7087104, bytes: -28348416, formula: "L(C^2 + C) = 12 * (768^2 + 768)" },
      noise: { parameters: 0, bytes: 0 },
      rest: { parameters: 0, bytes: 0 },
    });
  });

  test.each([
    ["noise-shared", 24],
    ["noise-per-head", 288],
    ["noise-distance", 4752],
  ] as const)("%s adds %d noise parameters, counted apart from the tie", (variant, noise) => {
    const report = converted(GPT2_SMALL, { variant });
    expect(report.breakdown.noise).toEqual({ parameters: noise, bytes: 4 * noise });
    expect(report.breakdown.tying?.parameters).toBe(-7087104);
    expect(report.total.parameters.difference).toBe(noise - 7087104);
  });

  test("attention is split into q, k, v and out before, and q = k, v and out after", () => {
    const report = converted(GPT2_SMALL, { variant: "symmetric" });
    const part = 12 * (768 * 768 + 768);
    expect(group(report, "attention.q")?.parameters).toEqual({
      before: part,
      after: 0,
      difference: -part,
      percent: -100,
    });
    expect(group(report, "attention.k")?.parameters).toMatchObject({ before: part, after: 0 });
    expect(group(report, "attention.qk")?.parameters).toEqual({
      before: 0,
      after: part,
      difference: part,
      percent: null,
    });
    expect(group(report, "attention.v")?.parameters).toMatchObject({ before: part, after: part });
    expect(group(report, "attention.out")?.parameters).toMatchObject({ before: part, after: part });
  });

  test("every layer loses C^2 + C, and nothing changes outside the layers", () => {
    const { layers } = converted(GPT2_SMALL, { variant: "symmetric" });
    expect(layers.map(({ layer }) => layer)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, null]);
    expect(layers.slice(0, 12).map(({ parameters }) => parameters.difference)).toEqual(Array(12).fill(-590592));
    expect(layers[12]?.parameters).toMatchObject({ before: 39385344, difference: 0 });
    expect(layers[12]?.groups.map((row) => row.group)).toEqual(["embeddings", "norms"]);
  });

  test("the token embedding is 31.02 % of the model, and the head is tied to it", () => {
    const { before, after } = converted(GPT2_SMALL, { variant: "symmetric" });
    expect(before.embedding.parameters).toBe(50257 * 768);
    expect(before.embedding.percent.toFixed(2)).toBe("31.02");
    expect(after.embedding.percent.toFixed(2)).toBe("32.89");
    expect(before.head).toEqual({ storage: "tied", parameters: 0, bytes: 0 });
  });

  test("a separate head costs more than the tie saves, and the report says so", () => {
    const report = converted(GPT2_SMALL, { variant: "symmetric", tied_head: false });
    expect(report.after.head).toEqual({ storage: "separate", parameters: 38597376, bytes: 154389504 });
    expect(group(report, "head")?.parameters).toMatchObject({ before: 0, after: 38597376 });
    expect(report.breakdown.rest.parameters).toBe(38597376);
    expect(textOf(report, "head-separate")).toBe(
      "after: the head is a matrix of its own, not the token embedding: 38,597,376 parameters, 154.4 MB: " +
        "more than tying Q and K saves (28.3 MB)",
    );
    expect(textOf(report, "grown")).toMatch(/31,510,272 more parameters, 126\.0 MB more \(\+25\.32 %\)/);
  });

  test("a copied head counts no parameters, and the report names its bytes", () => {
    const copy = { name: "lm_head.weight", dtype: "F32", shape: [50257, 768] } as const;
    const after = fakeCheckpoint(GPT2_SMALL, { unused: [{ ...copy, shape: [...copy.shape] }], prefix: "transformer." });
    const report = createReport(fakeCheckpoint(GPT2_SMALL), after);
    expect(report.total.parameters.difference).toBe(0);
    expect(report.after.head).toEqual({ storage: "copied", parameters: 0, bytes: 154389504 });
    expect(report.after.files.extra).toEqual({ tensors: 1, bytes: 154389504 });
    expect(textOf(report, "head-copied")).toContain(
      "stored twice, as a copy of the token embedding, 154.4 MB: more than",
    );
    expect(codes(report)).not.toContain("extra-bytes");
  });
});

describe("a report on any two models", () => {
  const dimensions = fc.record({
    n_layer: fc.integer({ min: 1, max: 4 }),
    n_head: fc.constantFrom(1, 2, 4),
    n_embd: fc.constantFrom(4, 8, 16),
    n_inner: fc.integer({ min: 1, max: 40 }),
    n_positions: fc.integer({ min: 17, max: 64 }),
    vocab_size: fc.integer({ min: 1, max: 99 }),
    tied_head: fc.boolean(),
    bias: fc.boolean(),
    variant: fc.constantFrom(...VARIANTS),
  });
  const model = fc.record({
    dimensions,
    dtypes: fc.array(fc.constantFrom("F64", "F32", "F16", "BF16"), { minLength: 1, maxLength: 5 }),
  });

  test("groups, layers and the parts of the difference add up to the totals, and the report passes its own schema", () => {
    fc.assert(
      fc.property(model, model, (first, second) => {
        const [before, after] = [first, second].map(({ dimensions, dtypes }) => {
          const config = { ...TINY, ...dimensions };
          return fakeCheckpoint(config, { dtype: (name) => dtypes[name.length % dtypes.length] ?? "F32" });
        }) as [ReturnType<typeof fakeCheckpoint>, ReturnType<typeof fakeCheckpoint>];
        const report = createReport(before, after);
        expect(parseReport(JSON.parse(formatReport(report)), "report.json")).toEqual(report);
        expect(report.total.parameters.before).toBe(countParameters(before.config));
        expect(report.total.bytes.after).toBe([...after.tensors.values()].reduce((sum, t) => sum + t.byteLength, 0));
        const { tying, heads, noise, rest } = report.breakdown;
        for (const unit of ["parameters", "bytes"] as const) {
          const parts = (tying?.[unit] ?? 0) + (heads?.[unit] ?? 0) + noise[unit] + rest[unit];
          expect(parts).toBe(report.total[unit].difference);
          for (const layer of report.layers) {
            expect(layer.groups.reduce((sum, row) => sum + row[unit].after, 0)).toBe(layer[unit].after);
          }
        }
      }),
      { numRuns: 50 },
    );
  });

  test("the same model twice has no difference, and the report says so", () => {
    const report = createReport(fakeCheckpoint(symmetric), fakeCheckpoint(symmetric));
    expect(report.total.parameters).toMatchObject({ difference: 0, percent: 0 });
    expect(report.breakdown.tying).toBeNull();
    expect(codes(report)).toEqual(["same-size", "no-record"]);
  });

  test("two reports on the same models are the same text", () => {
    const text = () => formatReport(converted(TINY, { variant: "noise-distance" }));
    expect(text()).toBe(text());
  });

  test("a model that was already tied is compared without a tie", () => {
    const report = createReport(fakeCheckpoint(symmetric), fakeCheckpoint({ ...TINY, variant: "noise-per-head" }));
    expect(report.breakdown).toMatchObject({ tying: null, noise: { parameters: 8 }, rest: { parameters: 0 } });
    expect(textOf(report, "grown")).toBe("after has 8 more parameters, 32 B more (+0.43 %)");
  });

  test("other dimensions are named, and no part of the difference is put down to tying", () => {
    const report = converted(TINY, { variant: "symmetric", n_layer: 3, vocab_size: 12 });
    expect(report.breakdown.tying).toBeNull();
    expect(textOf(report, "other-config")).toBe(
      "the models differ in more than attention: n_layer 2 -> 3, vocab_size 11 -> 12",
    );
    expect(report.layers.map(({ layer, parameters }) => [layer, parameters.before])).toEqual([
      [0, 872],
      [1, 872],
      [2, 0],
      [null, 264],
    ]);
  });

  test("without biases the tie removes L C^2", () => {
    const report = converted({ ...TINY, bias: false }, { variant: "symmetric" });
    expect(report.breakdown.tying).toMatchObject({ parameters: -128, formula: "L C^2 = 2 * 8^2 (no biases)" });
  });

  test("the tie of a dense model made from a tied one counts with a plus", () => {
    const report = createReport(fakeCheckpoint(symmetric), fakeCheckpoint(TINY));
    expect(report.breakdown.tying).toMatchObject({ parameters: 144, bytes: 576 });
  });
});

describe("the precision in a report", () => {
  test("another precision is named, and each tensor counts in its own", () => {
    const before = fakeCheckpoint(TINY);
    const after = fakeCheckpoint(symmetric, { dtype: (name) => (name.startsWith("h.0.") ? "F16" : "F32") });
    const report = createReport(before, after);
    expect(report.after.dtypes).toEqual([
      { dtype: "F32", tensors: 16, parameters: 1064, bytes: 4256 },
      { dtype: "F16", tensors: 12, parameters: 800, bytes: 1600 },
    ]);
    expect(report.layers[0]?.bytes).toMatchObject({ before: 3488, after: 1600 });
    expect(report.breakdown).toMatchObject({ tying: { bytes: -576 }, rest: { bytes: -1600 } });
    expect(codes(report)).not.toContain("other-precision");
    const half = createReport(before, fakeCheckpoint(TINY, { dtype: "F16" }));
    expect(textOf(half, "other-precision")).toBe("the precision differs (F32 -> F16): bytes change with it");
    expect(half.total).toMatchObject({ parameters: { difference: 0 }, bytes: { percent: -50 } });
  });

  test("every part of c_attn counts bytes in the dtype of its layer's c_attn", () => {
    const after = fakeCheckpoint(symmetric, { dtype: (name) => (name.includes("c_attn") ? "BF16" : "F32") });
    const report = createReport(fakeCheckpoint(TINY), after);
    expect(group(report, "attention.qk")?.bytes.after).toBe(2 * 144);
    expect(group(report, "attention.v")?.bytes).toMatchObject({ before: 4 * 144, after: 2 * 144 });
  });
});

describe("findings of a report", () => {
  test.each(["noise-shared", "noise-per-head"] as const)(
    "the constant mean of %s changes nothing in mean mode",
    (variant) => {
      expect(textOf(converted(TINY, { variant }), "constant-mean")).toMatch(
        /the softmax cannot see.*what symmetric computes/,
      );
    },
  );

  test.each(["symmetric", "noise-distance"] as const)("%s has no constant mean to warn of", (variant) => {
    expect(codes(converted(TINY, { variant }))).toEqual([]);
  });

  test.each([
    ["low-rank", "after: Q and K are of low rank, but filled up with zero columns: it is not smaller"],
    ["pairwise", "after: Q and K are one projection, but stored twice ([sA, s, v]): it is not smaller"],
    ["symmetric", "after: Q and K are tied, but stored twice ([s, s, v]): it is not smaller"],
  ])("a %s model written out as plain GPT-2 is called no smaller", (expanded, text) => {
    const before = fakeCheckpoint(TINY);
    const record = { ...recordOf(before, TINY), tie: null, history: [{ step: "export", gpt2: true, expanded }] };
    expect(textOf(createReport(before, fakeCheckpoint(TINY, { record })), "expanded")).toBe(text);
  });

  test("tied weights written out as [s, s, v] are not smaller", () => {
    const before = fakeCheckpoint(TINY);
    const after = fakeCheckpoint(TINY, { record: recordOf(before, TINY) });
    expect(textOf(createReport(before, after), "expanded")).toBe(
      "after: Q and K are tied, but stored twice ([s, s, v]): it is not smaller",
    );
  });

  test("mask buffers and padding rows in a file count as no parameters", () => {
    const masks = [{ name: "h.0.attn.bias", dtype: "BOOL", shape: [1, 1, 20, 20] }] as const;
    const before = fakeCheckpoint(TINY, {
      unused: masks.map((mask) => ({ ...mask, shape: [...mask.shape] })),
      padding: 5,
    });
    const report = createReport(before, fakeCheckpoint(symmetric));
    expect(report.before.files.extra).toEqual({ tensors: 1, bytes: 400 + 5 * 8 * 4 });
    expect(textOf(report, "extra-bytes")).toContain("before: 560 B of its files are not parameters");
  });

  test("a tied model without nfc.json has no tie errors and no provenance", () => {
    const report = createReport(fakeCheckpoint(TINY), fakeCheckpoint(symmetric));
    expect(report).toMatchObject({ tie: null, after: { provenance: null } });
    expect(codes(report)).toEqual(["no-record"]);
  });

  test("the report says so when a record has no tie errors", () => {
    const before = fakeCheckpoint(TINY);
    const report = createReport(
      before,
      fakeCheckpoint(symmetric, { record: recordOf(before, symmetric, { tie: null }) }),
    );
    expect(codes(report)).toEqual(["no-tie-errors"]);
  });

  test("the report says so when the second model was made from another source than the first", () => {
    const other = fakeCheckpoint({ ...TINY, vocab_size: 12 });
    const after = fakeCheckpoint(symmetric, { record: recordOf(other, symmetric) });
    expect(codes(createReport(fakeCheckpoint(TINY), after))).toEqual(["other-source"]);
  });
});

describe("tie errors in a report", () => {
  test("tie errors of more layers or heads than the model has are refused", async () => {
    const before = fakeCheckpoint(TINY);
    for (const errors of [Array(100_000).fill([0.1]), [Array(100_000).fill(0.1)]]) {
      const tie = { strategy: "mean", calibration: null, errors };
      const after = fakeCheckpoint(symmetric, { record: recordOf(before, symmetric, { tie }) });
      const { code, message } = await failureOf(() => createReport(before, after));
      expect(code).toBe("mismatch");
      expect(message).toMatch(/nfc\.json has tie errors of more than 2 layers of 2 heads$/);
    }
  });

  test("every layer and the model have a minimum, median and maximum of tie errors", () => {
    const report = converted({ ...TINY, n_head: 4 }, { variant: "symmetric" });
    expect(report.tie).toEqual({
      strategy: "calibrated",
      calibration: { file: "train.txt", sha256: SHA("a"), tokens: 65536 },
      min: 0.125,
      median: 0.28125,
      max: 0.4375,
      layers: [
        { layer: 0, min: 0.125, median: 0.21875, max: 0.3125, errors: [0.125, 0.1875, 0.25, 0.3125] },
        { layer: 1, min: 0.25, median: 0.34375, max: 0.4375, errors: [0.25, 0.3125, 0.375, 0.4375] },
      ],
    });
  });

  test("the median error of an odd number of heads is the middle one", () => {
    const wide = { ...symmetric, n_head: 4 };
    const before = fakeCheckpoint({ ...TINY, n_head: 4 });
    const tie = { strategy: "mean", calibration: null, errors: [[0.5, 0.1, 0.2]] };
    const report = createReport(before, fakeCheckpoint(wide, { record: recordOf(before, wide, { tie }) }));
    expect(report.tie).toMatchObject({ strategy: "mean", calibration: null, median: 0.2 });
  });

  test("a tie without any head has no summary", () => {
    const before = fakeCheckpoint(TINY);
    const tie = { strategy: "mean", calibration: null, errors: [[], []] };
    const report = createReport(before, fakeCheckpoint(symmetric, { record: recordOf(before, symmetric, { tie }) }));
    expect(report.tie).toBeNull();
  });
});

describe("perplexities in a report", () => {
  const entry = { file: "valid.txt", sha256: SHA("c"), tokens: 1000, perplexity: 87.4, source: 62.2 };
  const measured = { file: "valid.txt", sha256: SHA("c"), tokens: 1000, kl: null, agreement: null };
  const withEntry = (source: string) => {
    const before = fakeCheckpoint(TINY, { source });
    const record = recordOf(fakeCheckpoint(TINY, { source: "models/base" }), symmetric, { perplexity: [entry] });
    return [before, fakeCheckpoint(symmetric, { record })] as const;
  };

  test("nfc.json gives the perplexity of the model, and of its source if that is the first model", () => {
    expect(createReport(...withEntry("elsewhere/base/")).perplexity).toEqual([
      { ...measured, before: 62.2, after: 87.4 },
    ]);
    expect(createReport(...withEntry("/x/base/model.safetensors")).perplexity[0]?.before).toBe(62.2);
    expect(createReport(...withEntry("hf://owner/base@main")).perplexity[0]?.before).toBe(62.2);
  });

  test("the perplexity of another source is not shown as the first model's", () => {
    expect(createReport(...withEntry("models/other")).perplexity).toEqual([{ ...measured, before: null, after: 87.4 }]);
  });

  test("the first model's perplexity may come from its own record", () => {
    const before = fakeCheckpoint(symmetric, {
      record: recordOf(fakeCheckpoint(TINY), symmetric, { perplexity: [{ ...entry, perplexity: 70 }] }),
    });
    expect(createReport(before, fakeCheckpoint(symmetric)).perplexity).toEqual([
      { ...measured, before: 70, after: null },
    ]);
  });

  test("a new measurement replaces that of the record for the same text, and texts are sorted by name", () => {
    const [before, after] = withEntry("models/base");
    const report = createReport(before, after, {
      measurements: [
        { file: "valid.txt", sha256: SHA("c"), tokens: 1000, after: 80, kl: 0.31, agreement: 0.75 },
        { file: "a.txt", tokens: 900, before: 10, after: 11 },
        { file: "a.txt", tokens: 500, before: 12 },
      ],
    });
    expect(report.perplexity).toEqual([
      { file: "a.txt", sha256: null, tokens: 500, before: 12, after: null, kl: null, agreement: null },
      { file: "a.txt", sha256: null, tokens: 900, before: 10, after: 11, kl: null, agreement: null },
      { ...measured, before: 62.2, after: 80, kl: 0.31, agreement: 0.75 },
    ]);
  });
});

describe("the provenance in a report", () => {
  test("source files with their hashes, the command and the history come from nfc.json", () => {
    const before = fakeCheckpoint(TINY);
    const history = [{ step: "distill", steps: 300 }];
    const record = recordOf(before, symmetric, { history, notes: ["a note"] });
    const report = createReport(before, fakeCheckpoint(symmetric, { record }), { title: "A title" });
    expect(report.after.provenance).toEqual({
      tool: { name: "nfc", version: "0.1.0" },
      cuts: [],
      command: ["nfc", "convert", "models/base", "-o", "out/nf"],
      source: {
        path: "models/base",
        parameters: countParameters(TINY),
        files: [{ name: "model.safetensors", bytes: before.reader.byteLength, sha256: SHA("b") }],
      },
      history,
      quantization: null,
      notes: ["a note"],
    });
    expect(report.title).toBe("A title");
    expect(report.before).toMatchObject({
      source: "models/base",
      files: { names: ["model.safetensors"] },
      provenance: null,
    });
  });
});
