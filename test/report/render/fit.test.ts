// Text in the width of a terminal: lines break between words, tables fold at their columns, and nothing is lost.
import { describe, expect, it } from "vitest";
import { fitText, shortenLine, shortenMiddle } from "../../../src/report/render/fit.ts";
import { alignTable } from "../../../src/report/render/text.ts";

const EXPORTS = [
  ["precision", "file", "size", "verified", "perplexity", "KL", "agreement"],
  ["fp32", "onnx/model.onnx", "492.6 kB", "0.0e+0", "1.780", "0.0000", "100.00 %"],
  ["int8", "onnx/model_quantized.onnx", "147.1 kB", "2.2e-1", "1.781", "0.0001", "98.42 %"],
];

function table(rows: readonly (readonly string[])[], align = "llr"): string {
  return alignTable(rows, { align, rulesBefore: [1] }).join("\n");
}

describe("tables", () => {
  it("a table that fits stays as it is, with what stands around it", () => {
    const text = `out: a, b\n${table(EXPORTS)}\nKL 0.2536 nats a token, agreement 80.01 %\n`;
    expect(fitText(text, 120)).toBe(text);
  });

  it("columns that have no room go below the others, beside the first column again", () => {
    expect(fitText(`${table(EXPORTS)}\nfiles load and draw fresh noise at each run`, 60).split("\n")).toEqual([
      "precision  file                           size  verified",
      "---------  -------------------------  --------  --------",
      "fp32       onnx/model.onnx            492.6 kB    0.0e+0",
      "int8       onnx/model_quantized.onnx  147.1 kB    2.2e-1",
      "",
      "precision  perplexity      KL  agreement",
      "---------  ----------  ------  ---------",
      "fp32            1.780  0.0000   100.00 %",
      "int8            1.781  0.0001    98.42 %",
      "files load and draw fresh noise at each run",
    ]);
  });

  it("a column of percent goes below together with the column that it belongs to", () => {
    const rows = [
      ["model", "parameters", "%", "MB", "%"],
      ["a", "5,853,184", "", "23.420", ""],
      ["b", "5,459,224", "-6.73 %", "21.844", "-6.73 %"],
    ];
    expect(fitText(table(rows, "lr"), 38).split("\n")).toEqual([
      "model  parameters        %",
      "-----  ----------  -------",
      "a       5,853,184",
      "b       5,459,224  -6.73 %",
      "",
      "model      MB        %",
      "-----  ------  -------",
      "a      23.420",
      "b      21.844  -6.73 %",
    ]);
  });

  it("long names are shortened in the middle, and cells of words take several lines", () => {
    const rows = [
      ["model", "what it is", "perplexity"],
      ["/home/somebody/experiments/gpt2-small-noise-distance", "the one that was distilled last", "62.10"],
    ];
    expect(fitText(table(rows), 60).split("\n")).toEqual([
      "model                                  what it    perplexity",
      "                                       is",
      "-------------------------------------  ---------  ----------",
      "/home/somebo…pt2-small-noise-distance  the one         62.10",
      "                                       that was",
      "                                       distilled",
      "                                       last",
    ]);
  });

  it("an indent of a label, the rule before a sum and empty cells stay", () => {
    const rows = [
      ["Parameters", "before", "after", "difference"],
      ["attention", "33,280", "24,960", "-8,320"],
      ["  q", "8,320", "", ""],
      ["total", "128,768", "120,712", "-8,056"],
    ];
    const fitted = fitText(alignTable(rows, { align: "lr", rulesBefore: [1, 3] }).join("\n"), 32).split("\n");
    expect(fitted.slice(0, 6)).toEqual([
      "Parameters   before    after",
      "----------  -------  -------",
      "attention    33,280   24,960",
      "  q           8,320",
      "----------  -------  -------",
      "total       128,768  120,712",
    ]);
    expect(fitted.slice(6)).toEqual([
      "",
      "Parameters  difference",
      "----------  ----------",
      "attention       -8,320",
      "  q",
      "----------  ----------",
      "total           -8,056",
    ]);
  });

  it.each([24, 30, 40, 60, 80])("no line of a table is wider than %d, and no short word is lost", (width) => {
    const rows = [...EXPORTS, ["a long name of words", "x/".repeat(60), "1 B", "", "", "", ""]];
    const fitted = fitText(table(rows), width);
    const sizes = fitted.split("\n").map((line) => [...line].length);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(Math.max(width, 2 * 24 + 2));
    for (const word of rows.flat().flatMap((cell) => cell.split(" ")))
      if (word.length <= 24) expect(fitted).toContain(word);
  });
});

describe("lines", () => {
  it("a line breaks between words, below its label", () => {
    expect(
      fitText("files          model-1.safetensors, model-2.safetensors, model-3.safetensors", 50).split("\n"),
    ).toEqual([
      "files          model-1.safetensors,",
      "               model-2.safetensors,",
      "               model-3.safetensors",
    ]);
    expect(fitText("note: the model is worse than its source until it is trained", 40).split("\n")).toEqual([
      "note: the model is worse than its source",
      "      until it is trained",
    ]);
    expect(fitText("  nfc convert a -o b --calibration c", 20)).toBe("  nfc convert a -o\n    b --calibration\n    c");
  });

  it("a word that is longer than the line stays whole, on a line of its own", () => {
    const path = `/home/${"x".repeat(60)}/model.safetensors`;
    expect(fitText(`nfc: ${path}: no such file or folder; check the path`, 40).split("\n")).toEqual([
      "nfc:",
      `  ${path}:`,
      "  no such file or folder; check the path",
    ]);
  });
});

it("a shortened name has the size that was asked for, and keeps more of its end", () => {
  expect(shortenMiddle("onnx/model.onnx", 15)).toBe("onnx/model.onnx");
  expect(shortenMiddle("/home/me/out/model.onnx", 12)).toBe("/ho…del.onnx");
  expect([...shortenMiddle("😀".repeat(9), 5)]).toHaveLength(5);
});

it("a shortened line keeps its start and its end, in whole words", () => {
  const line =
    "distilling loss 2.981  (nll 4.235, kl 0.369)  lr 0.00076  1217 tokens/s  held-out 81.27  0:07 left (12/20)";
  expect(shortenLine(line, 200)).toBe(line);
  expect(shortenLine(line, 90)).toBe(
    "distilling loss 2.981  lr 0.00076  1217 tokens/s  held-out 81.27  0:07 left (12/20)",
  );
  expect(shortenLine(line, 60)).toBe("distilling loss … tokens/s held-out 81.27 0:07 left (12/20)");
  for (let size = 8; size < 110; size++) expect([...shortenLine(line, size)].length).toBeLessThanOrEqual(size);
});
