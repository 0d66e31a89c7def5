// Several models side by side: what is listed, what it weighs, whose quality it is, and names that would rather be markup.
import { cpSync, mkdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { countParameters } from "../../../src/model/parameters.ts";
import { compareModels } from "../../../src/report/comparison/compare-models.ts";
import { renderComparisonPage } from "../../../src/report/comparison/comparison-page.ts";
import { type Comparison, comparisonSchema } from "../../../src/report/comparison/comparison-schema.ts";
import {
  makeModelTable,
  renderComparisonMarkdown,
  renderComparisonText,
} from "../../../src/report/comparison/comparison-text.ts";
import { exported, modelOf } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL, opened } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("comparison");
const names = ({ models }: Comparison) => models.map(({ source }) => source.replace(path(""), ""));
let tied = "";
beforeAll(async () => {
  tied = await modelOf("symmetric", path("sym"));
  await exported(tied, path("onnx"), { precisions: ["fp32", "int8", "q4"] });
});

/** Rewrites nfc.json of a folder. */
function change(folder: string, edit: (record: Record<string, unknown>) => void): void {
  const file = join(folder, "nfc.json");
  const record = JSON.parse(readFileSync(file, "utf8"));
  edit(record);
  writeFileSync(file, JSON.stringify(record));
}

describe("compareModels", () => {
  it("checkpoints, folders of exports and ONNX files come in the order given, precisions in their own", async () => {
    const found = await compareModels([MODEL, tied, path("onnx")]);
    expect(comparisonSchema.parse(found)).toEqual(found);
    const files = ["", "_quantized", "_q4"].map((suffix) => path(`onnx/onnx/model${suffix}.onnx`));
    expect(found.models.map(({ source }) => source)).toEqual([MODEL, tied, ...files]);
    const rows = found.models.map(({ kind, weights, variant }) => `${kind} ${weights} ${variant}`);
    expect(rows).toEqual([
      "safetensors F32 dense",
      "safetensors F32 symmetric",
      "onnx fp32 symmetric",
      "onnx int8 symmetric",
      "onnx q4 symmetric",
    ]);
  });

  it("every file of a model has the same number of parameters, and its size on disk", async () => {
    const { models } = await compareModels([MODEL, tied, path("onnx")]);
    const [dense, symmetric] = await Promise.all(
      [MODEL, tied].map((model) => opened(model, ({ config }) => countParameters(config))),
    );
    expect(models.map(({ parameters }) => parameters)).toEqual([dense, symmetric, symmetric, symmetric, symmetric]);
    for (const { kind, source, bytes, groups, parameters } of models) {
      expect(bytes).toBe(statSync(kind === "onnx" ? source : join(source, "model.safetensors")).size);
      expect(groups.reduce((sum, group) => sum + (group.parameters as number), 0)).toBe(parameters);
      expect(groups.reduce((sum, group) => sum + group.bytes, 0)).toBeLessThan(bytes);
    }
    expect(models[0]?.change).toBeNull();
    expect(models[1]?.change?.parameters).toBeCloseTo(100 * ((symmetric as number) / (dense as number) - 1), 10);
  });

  it("external data counts by the header's figures, and need not exist", async () => {
    const output = path("external");
    await exported(tied, output, { weights: "external" });
    const all = statSync(`${output}/onnx/model.onnx`).size + statSync(`${output}/onnx/model.onnx_data`).size;
    renameSync(`${output}/onnx/model.onnx_data`, path("elsewhere"));
    const [model] = (await compareModels([`${output}/onnx/model.onnx`])).models;
    expect(Math.abs((model?.bytes as number) - all)).toBeLessThan(4096); // alignment between the tensors
  });

  it("a folder with weights and exports gives both, and a link out of it is not followed", async () => {
    const both = path("both");
    cpSync(tied, both, { recursive: true });
    cpSync(path("onnx/onnx"), join(both, "onnx"), { recursive: true });
    expect(names(await compareModels([both]))).toHaveLength(4);
    symlinkSync(path("onnx/onnx/model.onnx"), join(both, "onnx", "z.onnx"));
    expect((await failureOf(() => compareModels([both]))).message).toContain("is a link that leads out of");
  });

  it("an ONNX file of any name is read without config.json and nfc.json", async () => {
    mkdirSync(path("plain"));
    cpSync(path("onnx/onnx/model.onnx"), path("plain/decoder_model.onnx"));
    const [model] = (await compareModels([path("plain")])).models;
    expect(model).toMatchObject({ kind: "onnx", weights: "F32", variant: null, quality: [] });
  });

  it("the comparison shows what nfc.json noted, and for a file only if its size still matches", async () => {
    const folder = path("noted");
    cpSync(tied, folder, { recursive: true });
    const text = { file: "valid.txt", sha256: "0".repeat(64), tokens: 1000, length: 8, stride: 8 };
    change(folder, (record) => {
      record.perplexity = [{ ...text, perplexity: 12.5 }];
      record.history = [{ step: "finetune", task: "cola", dev: { metrics: { matthews: 0.25, accuracy: 0.7 } } }];
    });
    cpSync(path("onnx"), path("noted-onnx"), { recursive: true });
    const bytes = statSync(path("onnx/onnx/model_q4.onnx")).size;
    const unknown = { kl: null, agreement: null, logitError: null };
    const entry = (perplexity: number, size: number) => ({
      ...{ precision: "q4", file: "onnx/model_q4.onnx", bytes: size },
      perplexity: { ...text, perplexity, ...unknown },
    });
    change(path("noted-onnx"), (record) => {
      record.exports = [entry(13.5, bytes)];
    });
    const found = await compareModels([folder, path("noted-onnx")]);
    const { heading, rows } = makeModelTable(found);
    expect(heading?.slice(7)).toEqual(["perplexity, valid.txt", "matthews, cola"]);
    expect(rows.map((row) => row.slice(7))).toEqual([
      ["12.50", "0.2500"],
      ["", ""],
      ["", ""],
      ["13.50", ""],
    ]);
    change(path("noted-onnx"), (record) => {
      record.exports = [entry(13.5, bytes + 1)];
    });
    expect((await compareModels([path("noted-onnx")])).models.flatMap(({ quality }) => quality)).toEqual([]);
  });

  it.each([
    ["nope", "nope: no such file or folder"],
    ["nope.onnx", "nope.onnx: no such file or folder"],
  ])("a model that does not exist, %s, is refused in one line", async (name, message) => {
    expect((await failureOf(() => compareModels([MODEL, path(name)]))).message).toBe(path(message));
  });
});

describe("texts of a comparison", () => {
  it("the comparison is aligned lines in text and tables in Markdown, with an optional heading", async () => {
    const found = await compareModels([MODEL, tied], { title: "Two" });
    const text = renderComparisonText(found);
    expect(text).toMatch(/^Two\n\nmodel +weights +variant +parameters +% +MB +%\n-+/);
    expect(text).toContain("-6.46 %");
    const markdown = renderComparisonMarkdown(found);
    expect(markdown).toMatch(/^### Two\n\n\| model \| weights \|/);
    expect(markdown.match(/^\| model.+\n\| --- \| --- \| --- \| ---: \|/m)).not.toBeNull();
  });

  it("hostile names stay text in every format", async () => {
    const found = await compareModels([tied]);
    const hostile = '<script>alert(1)</script>|`x`\u001b[2J\u202e"';
    const [model] = found.models;
    const spoilt: Comparison = {
      ...found,
      title: hostile,
      models: [{ ...(model as Comparison["models"][number]), source: hostile, notes: [hostile] }],
    };
    for (const text of [renderComparisonText(spoilt), renderComparisonMarkdown(spoilt), renderComparisonPage(spoilt)])
      for (const character of ["\u001b", "\u202e"]) expect(text).not.toContain(character);
    for (const text of [renderComparisonMarkdown(spoilt).replace(/\\</g, ""), renderComparisonPage(spoilt)])
      expect(text).not.toContain("<script");
  });

  it("the page has the tables and a chart with a description", async () => {
    const page = renderComparisonPage(await compareModels([MODEL, tied, path("onnx")]));
    expect(page).toMatch(/<svg [^>]*role="img"[^>]*><title>Bytes of every model<\/title><desc>.*-6\.\d\d %/);
    for (const words of ["5 models", "Parameters by group", "Megabytes by group", "model_q4.onnx"])
      expect(page).toContain(words);
    expect(page).not.toMatch(/NaN|undefined|<script/);
  });
});
