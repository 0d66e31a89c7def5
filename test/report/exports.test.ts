// Exports in a report: sizes, ratios and recorded quality, as JSON, text and Markdown; hostile names do no harm.
import { describe, expect, test } from "vitest";
import type { ExportEntry } from "../../src/checkpoint/nfc-record.ts";
import type { ExportedFile, ExportedModel } from "../../src/inference/exported/exported-model.ts";
import { nameModelFile, type Precision } from "../../src/model/precision.ts";
import { createReport, type Report } from "../../src/report/report.ts";
import { renderReportMarkdown, renderReportText } from "../../src/report/report-blocks.ts";
import { formatReport, parseReport } from "../../src/report/report-schema.ts";
import { fakeCheckpoint, GPT2_SMALL, recordOf, SHA } from "../support/fake-checkpoint.ts";

const config = { ...GPT2_SMALL, variant: "symmetric" } as const;
const WEIGHTS = 4 * 117352704;
const SIZES = { fp32: WEIGHTS, int8: WEIGHTS / 4, q4: 70000000 };

function entry(precision: keyof typeof SIZES, perplexity?: Partial<ExportEntry["perplexity"]>): ExportEntry {
  const text = { file: "valid.txt", sha256: SHA("a"), tokens: 1000, length: 256, stride: 256, perplexity: 60 };
  const compared = { kl: null, agreement: null, logitError: null };
  return {
    ...{ precision, file: `onnx/${nameModelFile(precision)}`, bytes: SIZES[precision] },
    ...(perplexity && { perplexity: { ...text, ...compared, ...perplexity } }),
  };
}

function exportOf(entries?: ExportEntry[], source = "out/onnx"): ExportedModel {
  const record = { ...recordOf(fakeCheckpoint(GPT2_SMALL), config), ...(entries && { exports: entries }) };
  const files = new Map(
    Object.entries(SIZES).map(([name, bytes]): [Precision, ExportedFile] => {
      const precision = name as Precision;
      const dtypes = { cacheDtype: "float32", logitsDtype: "float32", halfFloats: false } as const;
      return [precision, { precision, path: `/x/onnx/${nameModelFile(precision)}`, data: [], bytes, ...dtypes }];
    }),
  );
  return { source, folder: "/x", config, rawConfig: {}, record, files };
}

const MEASURED = [
  entry("fp32", {}),
  entry("int8", { perplexity: 60.3, source: 60, kl: 0.0012, agreement: 0.98, logitError: 0.1 }),
  entry("q4"),
];

function reportOn(...exports: ExportedModel[]): Report {
  const before = fakeCheckpoint(GPT2_SMALL);
  const after = fakeCheckpoint(config, { record: recordOf(before, config) });
  return createReport(before, after, { exports });
}

describe("the exports in a report", () => {
  test("every export has its size, its ratio to the float32 weights, and what nfc.json says", () => {
    const [summary] = reportOn(exportOf(MEASURED)).exports;
    expect(summary).toMatchObject({ source: "out/onnx", variant: "symmetric", parameters: 117352704 });
    expect(summary?.files.map(({ file, bytes, ratio }) => [file, bytes, Number(ratio.toFixed(4))])).toEqual([
      ["onnx/model.onnx", WEIGHTS, 1],
      ["onnx/model_quantized.onnx", WEIGHTS / 4, 0.25],
      ["onnx/model_q4.onnx", 70000000, 0.1491],
    ]);
    expect(summary?.files[1]?.quality).toEqual({
      ...{ file: "valid.txt", sha256: SHA("a"), tokens: 1000, float32: 60, perplexity: 60.3 },
      ...{ kl: 0.0012, agreement: 0.98, logitError: 0.1 },
    });
    expect(summary?.files[2]?.quality).toBeNull();
  });

  test("a record does not count where the file now has another size", () => {
    const stale = { ...(MEASURED[1] as ExportEntry), bytes: 5 };
    expect(reportOn(exportOf([stale])).exports[0]?.files[1]?.quality).toBeNull();
  });

  test("the text has one table per export, without empty columns", () => {
    const text = renderReportText(reportOn(exportOf(MEASURED), exportOf(undefined, "out/other")));
    expect(text).toContain(
      [
        "Exported, out/onnx: symmetric, 117,352,704 parameters, measured on valid.txt (1,000 tokens)",
        "precision  file                            MB  of float32  perplexity        %  KL (nats)  top-1 agreement",
        "---------  -------------------------  -------  ----------  ----------  -------  ---------  ---------------",
        "fp32       onnx/model.onnx            469.411       1.000       60.00",
        "int8       onnx/model_quantized.onnx  117.353       0.250       60.30  +0.50 %     0.0012          98.00 %",
        "q4         onnx/model_q4.onnx          70.000       0.149",
        "",
        "Exported, out/other: symmetric, 117,352,704 parameters",
        "precision  file                            MB  of float32",
      ].join("\n"),
    );
  });

  test("the Markdown has a table of the exports", () => {
    expect(renderReportMarkdown(reportOn(exportOf(MEASURED)))).toContain(
      [
        "Exported, `out/onnx`: symmetric, 117,352,704 parameters, measured on valid.txt (1,000 tokens)",
        "",
        "| precision | file | MB | of float32 | perplexity | % | KL (nats) | top-1 agreement |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| fp32 | `onnx/model.onnx` | 469.411 | 1.000 | 60.00 |  |  |  |",
        "| int8 | `onnx/model_quantized.onnx` | 117.353 | 0.250 | 60.30 | +0.50 % | 0.0012 | 98.00 % |",
        "| q4 | `onnx/model_q4.onnx` | 70.000 | 0.149 |  |  |  |  |",
      ].join("\n"),
    );
  });

  test("exports measured on several texts name the text in every line", () => {
    const [fp32, int8] = MEASURED as [ExportEntry, ExportEntry];
    const other = { ...int8, perplexity: { ...int8.perplexity, file: "b.txt", stride: 128 } } as ExportEntry;
    const text = renderReportText(reportOn(exportOf([fp32, other])));
    expect(text).toMatch(/^fp32 .* 60\.00 +valid\.txt \(1,000 tokens\)$/m);
    expect(text).toMatch(/^int8 .* 98\.00 % +b\.txt, stride 128 \(1,000 tokens\)$/m);
  });

  test("hostile names of exports break neither lines nor tables", () => {
    const evil = "a\u001b[2J|b\n@all <img>";
    const report = reportOn(exportOf([entry("fp32", { file: evil })], evil));
    expect(renderReportText(report)).not.toContain("\u001b");
    expect(renderReportText(report)).not.toContain("b\n@all");
    const markdown = renderReportMarkdown(report);
    expect(markdown).not.toContain("\u001b");
    expect(markdown).not.toMatch(/\n@all|[^`]@all|[^\\]<img/);
    expect(markdown).toContain("a\\\\u\\{1b\\}\\[2J\\|b\\\\u\\{a\\}`@`all &lt;img&gt;");
  });

  test("exports are written and read back, and an older report without them has none", () => {
    const report = JSON.parse(formatReport(reportOn(exportOf(MEASURED))));
    expect(parseReport(report, "r.json").exports).toEqual(report.exports);
    const { exports, ...older } = report;
    expect(exports).toHaveLength(1);
    expect(parseReport(older, "r.json").exports).toEqual([]);
  });
});
