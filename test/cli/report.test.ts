// nfc report on the fixture: two checkpoints, several models, and the page of either.
import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { parseReport } from "../../src/report/report-schema.ts";
import { nfc, ok } from "../support/cli.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("cli-report");
const THREADS = ["--threads", "1"];
let tied = "";

beforeAll(async () => {
  const text = path("short.txt");
  writeFileSync(text, readFileSync(TEXT, "utf8").slice(0, 3000));
  tied = path("tied");
  await ok("convert", MODEL, "-o", tied, "--calibration", text, "--calibration-tokens", "256", ...THREADS);
});

describe("nfc report", () => {
  it("nfc report compares two models as text and as Markdown", async () => {
    const { stdout, stderr } = await ok("report", MODEL, tied);
    expect(stderr).toBe("");
    expect(stdout).toContain("128,768");
    const markdown = (await ok("report", MODEL, tied, "--format", "markdown", "--layers", "--heads")).stdout;
    expect(markdown).toMatch(/^\|.+\|$/m);
    expect(markdown).toContain("h.1");
  });

  it.each([[["--json"]], [["--format", "json"]]])(
    "nfc report %j gives an object that fits the schema",
    async (flags) => {
      const { stdout } = await ok("report", MODEL, tied, "--title", "A title", ...flags);
      expect(parseReport(JSON.parse(stdout), "stdout").title).toBe("A title");
    },
  );
});

describe("nfc report --brotli", () => {
  /** Bytes after brotli at quality 5, each file by itself. */
  const compress = (...files: string[]) => {
    const { BROTLI_PARAM_QUALITY, BROTLI_PARAM_SIZE_HINT } = constants;
    return files
      .map((file) => readFileSync(file))
      .map((bytes) => ({ [BROTLI_PARAM_QUALITY]: 5, [BROTLI_PARAM_SIZE_HINT]: bytes.length, bytes }))
      .reduce((sum, { bytes, ...params }) => sum + brotliCompressSync(bytes, { params }).length, 0);
  };

  it("the report has the bytes after brotli of the models, of each exported file, and of what a browser adds", async () => {
    const [onnx, page] = [path("web"), path("web.html")];
    await ok("export", tied, "-o", onnx, "--onnx", "--precision", "fp32,q4", ...THREADS);
    const plain = (await ok("report", MODEL, tied, onnx)).stdout;
    const report = parseReport(
      JSON.parse((await ok("report", MODEL, tied, onnx, "--brotli", "--json")).stdout),
      "stdout",
    );
    expect(report.before.files.brotli).toBe(compress(`${MODEL}/model.safetensors`));
    const [summary] = report.exports;
    expect(summary?.files.map(({ brotli }) => brotli)).toEqual(
      ["model.onnx", "model_q4.onnx"].map((file) => compress(`${onnx}/onnx/${file}`)),
    );
    const names = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
    expect(summary?.others).toMatchObject({ names, brotli: compress(...names.map((name) => `${onnx}/${name}`)) });
    const { stdout } = await ok("report", MODEL, tied, onnx, "--brotli");
    expect(stdout).toMatch(/^precision +file +MB +brotli +of float32$/m);
    expect(stdout).toMatch(/^A browser also downloads config\.json, .*: [\d.]+ kB, [\d.]+ kB after brotli$/m);
    expect(plain).not.toContain("brotli");
    await ok("report", MODEL, tied, onnx, "--brotli", "--html", page, "--sentence", "");
    expect(readFileSync(page, "utf8")).toMatch(/of float32; [\d.]+ kB after brotli/);
  });

  it("a comparison has a column for it, external data included", async () => {
    const onnx = path("external");
    await ok("export", tied, "-o", onnx, "--onnx", "--external-data", ...THREADS);
    const { models } = JSON.parse((await ok("report", MODEL, onnx, "--brotli", "--json")).stdout);
    expect(models.map(({ brotli }: { brotli: number }) => brotli)).toEqual([
      compress(`${MODEL}/model.safetensors`),
      compress(`${onnx}/onnx/model.onnx`, `${onnx}/onnx/model.onnx_data`),
    ]);
    expect((await ok("report", MODEL, onnx, "--brotli")).stdout).toMatch(/^model .* MB +% +brotli$/m);
  });
});

describe("nfc report of other than two checkpoints", () => {
  it("nfc report of one model, of three or of exports is a table, as text, Markdown, JSON and page", async () => {
    const onnx = path("onnx");
    await ok("export", tied, "-o", onnx, ...THREADS);
    const file = `${onnx}/onnx/model.onnx`;
    for (const models of [[MODEL], [MODEL, tied, MODEL], [MODEL, file], [onnx, tied]]) {
      const { models: rows } = JSON.parse((await ok("report", ...models, "--json")).stdout);
      expect(rows.map(({ source }: { source: string }) => source)).toEqual(
        models.map((model) => (model === onnx ? file : model)),
      );
    }
    expect((await ok("report", MODEL, file)).stdout).toMatch(/^Models\n\nmodel +weights/);
    expect((await ok("report", MODEL, file, "--format", "markdown")).stdout).toMatch(/^### Models/);
    const page = path("comparison.html");
    await ok("report", MODEL, file, "--html", page);
    expect(readFileSync(page, "utf8")).toContain("<h1>2 models</h1>");
  });

  it.each([
    [["--heads"], "--layers, --heads and --glue are for two checkpoints"],
    [["--glue", "out"], "--layers, --heads and --glue are for two checkpoints"],
    [["--open"], "--open opens the page of --html"],
  ])("nfc report of one model refuses %j", async (flags, message) => {
    const { code, stderr } = await nfc(["report", MODEL, ...flags]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe("nfc report --html", () => {
  it("--html replaces only pages, even with --force", async () => {
    const file = path("mine.txt");
    writeFileSync(file, "mine");
    const { code, stderr } = await nfc(["report", MODEL, "--html", file, "--force"]);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: `nfc: ${file}: is there, and is not a page of nfc, which --force replaces; choose another name, or remove it\n`,
    });
    expect(readFileSync(file, "utf8")).toBe("mine");
  });

  it("--html writes one page, and keeps an existing one without --force", async () => {
    const page = path("report.html");
    const { stdout } = await ok("report", MODEL, tied, "--html", page, "--title", "<b>A & B</b>");
    expect(stdout).toBe(`${page}\n`);
    const text = readFileSync(page, "utf8");
    expect(text).toContain("<h1>&lt;b&gt;A &amp; B&lt;/b&gt;</h1>");
    expect(text).toContain("Attention before and after");
    const again = await nfc(["report", MODEL, tied, "--html", page]);
    expect({ code: again.code, stderr: again.stderr }).toEqual({
      code: 2,
      stderr: `nfc: ${page}: exists already; choose another name, or replace it with --force\n`,
    });
    await ok("report", MODEL, tied, "--html", page, "--force", "--sentence", "");
    expect(readFileSync(page, "utf8")).not.toContain("Attention before and after");
  });
});
