// The report in a terminal: a snapshot for a tiny model, the optional tables, and hostile names.
import { describe, expect, test } from "vitest";
import type { ModelConfig } from "../../src/model/config.ts";
import { createReport, type Report } from "../../src/report/report.ts";
import { renderReportText, reportLine } from "../../src/report/report-blocks.ts";
import { formatReport, parseReport } from "../../src/report/report-schema.ts";
import { fakeCheckpoint, GPT2_SMALL, recordOf, SHA, TINY } from "../support/fake-checkpoint.ts";

function tinyReport(variant: ModelConfig["variant"] = "noise-per-head"): Report {
  const before = fakeCheckpoint(TINY, { notes: ["2 attention mask buffers dropped (not parameters)"] });
  const config: ModelConfig = { ...TINY, variant };
  const record = recordOf(before, config, {
    tool: { name: "nfc", version: "1.2.3" },
    perplexity: [{ file: "valid.txt", sha256: SHA("c"), tokens: 245760, perplexity: 87.4, source: 62.2 }],
    history: [{ step: "distill" }, { step: "finetune" }],
  });
  const after = fakeCheckpoint(config, { source: "out/nf", record });
  return createReport(before, after, { title: "A tiny model" });
}

describe("the report as text", () => {
  test("the text for a tiny model is exactly this", async () => {
    await expect(renderReportText(tinyReport())).toMatchFileSnapshot("snapshots/report.txt");
  });

  test("the text with layers and heads is exactly this", async () => {
    const text = renderReportText(tinyReport(), { layers: true, heads: true });
    await expect(text).toMatchFileSnapshot("snapshots/report-layers-heads.txt");
  });

  test("the text of GPT-2 small has the published figures, in lines that fit a terminal", () => {
    const report = createReport(fakeCheckpoint(GPT2_SMALL), fakeCheckpoint({ ...GPT2_SMALL, variant: "symmetric" }));
    const lines = renderReportText(report).split("\n");
    expect(lines).toContain("total       124,439,808  117,352,704  -7,087,104    -5.70 %");
    expect(lines.filter((line) => !line.startsWith("note:")).every((line) => line.length <= 100)).toBe(true);
    expect(reportLine(report)).toBe("124,439,808 -> 117,352,704 parameters (-5.70 %), 497.8 MB -> 469.4 MB");
  });

  test("layers and heads are shown only when asked for", () => {
    const text = renderReportText(tinyReport());
    expect(text).not.toMatch(/h\.0|worst head/);
    expect(renderReportText(tinyReport(), { layers: true })).toMatch(/^h\.1 +872 /m);
    expect(renderReportText(tinyReport(), { heads: true })).toMatch(/^layer +head 0 +1$/m);
  });

  test("each further cut of the second model is told in one line", () => {
    const cuts = [{ axis: "layers", from: 2, to: 1, kept: [1], chosen: "listed" }];
    const before = fakeCheckpoint(TINY);
    const record = recordOf(before, TINY, { tie: null, cuts });
    const report = createReport(before, fakeCheckpoint(TINY, { record }));
    expect(report.after.provenance?.cuts).toEqual([{ axis: "layers", text: "layers 2 -> 1: 1 stay" }]);
    expect(renderReportText(report)).toMatch(/^ {2}layers 2 -> 1: 1 stay$/m);
    expect(parseReport(JSON.parse(formatReport(report)), "r.json")).toEqual(report);
  });

  test("the rounding that the second model was trained for is told in one line", () => {
    const before = fakeCheckpoint(TINY);
    const quantization = { precision: "q4", block: 32, symmetric: false } as const;
    const record = { ...recordOf(before, TINY, { tie: null }), quantization };
    const report = createReport(before, fakeCheckpoint(TINY, { record }));
    expect(report.after.provenance?.quantization).toEqual(quantization);
    expect(renderReportText(report)).toMatch(/^ {2}trained for q4 in blocks of 32$/m);
    expect(parseReport(JSON.parse(formatReport(report)), "r.json")).toEqual(report);
  });

  test("groups that both models lack are left out", () => {
    expect(renderReportText(tinyReport())).not.toMatch(/^head +\d/m);
    expect(renderReportText(tinyReport("symmetric"))).not.toMatch(/^noise +\d/m);
  });

  test("the errors of many heads are split into several tables", () => {
    const config: ModelConfig = { ...TINY, n_embd: 25, n_head: 25, variant: "symmetric" };
    const before = fakeCheckpoint({ ...config, variant: "dense" });
    const report = createReport(before, fakeCheckpoint(config, { record: recordOf(before, config) }));
    const text = renderReportText(report, { heads: true });
    expect(text).toMatch(/^layer +head 0 .* 11$/m);
    expect(text).toMatch(/^layer +head 12 .* 23$/m);
    expect(text).toMatch(/^layer +head 24$/m);
  });

  test("KL and agreement are shown where they were measured, with gaps elsewhere", () => {
    const report = createReport(fakeCheckpoint(TINY), fakeCheckpoint(TINY), {
      measurements: [
        { file: "a.txt", tokens: 1000, before: 60, after: 66, kl: 0.25, agreement: 0.5 },
        { file: "b.txt", tokens: 2000, after: 70 },
      ],
    });
    const text = renderReportText(report);
    expect(text).toMatch(/^a\.txt +1,000 +60\.00 +66\.00 +\+10\.00 % +0\.2500 +50\.00 %$/m);
    expect(text).toMatch(/^b\.txt +2,000 +70\.00$/m);
  });

  test("perplexities of almost no text are left out, and named", () => {
    const reportOf = (tokens: number) => {
      const before = fakeCheckpoint(TINY);
      const perplexity = [{ file: "two.txt", sha256: SHA("c"), tokens, perplexity: 3 }];
      return createReport(before, fakeCheckpoint(TINY, { record: recordOf(before, TINY, { perplexity }) }));
    };
    expect(reportOf(2).perplexity).toEqual([]);
    expect(renderReportText(reportOf(2))).toContain(
      "after: too short to tell quality, and left out: two.txt (2 tokens)",
    );
    expect(reportOf(256).perplexity).toHaveLength(1);
    expect(renderReportText(reportOf(256))).not.toContain("too short");
  });

  test("a report without a title has the names of the models, and no line for a tie or provenance that is not there", () => {
    const text = renderReportText(createReport(fakeCheckpoint(TINY), fakeCheckpoint(TINY)));
    expect(text).toMatch(/^models\/base -> models\/base\n/);
    expect(text).not.toMatch(/Tie|made by|Where the difference|opened/);
    expect(text).toMatch(/note: both models have the same parameters and bytes in every group\n$/);
  });

  test("a name from a file can neither move the cursor nor fake a line", () => {
    const evil = "x\u001b[2J\ntotal 0\r\u202e";
    const before = fakeCheckpoint(TINY, { source: evil, notes: [evil] });
    const config: ModelConfig = { ...TINY, variant: "symmetric" };
    const record = recordOf(before, config, {
      tool: { name: evil, version: evil },
      tie: { strategy: evil, calibration: { file: evil, sha256: SHA("a"), tokens: 1 }, errors: [[0.5]] },
      command: [evil],
      history: [{ step: evil }],
      perplexity: [{ file: evil, sha256: SHA("b"), tokens: 2, perplexity: 3 }],
    });
    const after = fakeCheckpoint(config, { source: evil, record, notes: [evil] });
    const text = renderReportText(createReport(before, after, { title: evil }), { layers: true, heads: true });
    expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(text).not.toMatch(/^total 0/m);
  });
});
