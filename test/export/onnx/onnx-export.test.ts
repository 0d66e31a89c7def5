// What nfc.json says of exported files: sizes, rounding, calibration, and what each loses on a text.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { ExportEntry } from "../../../src/checkpoint/nfc-record.ts";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { streamTokens } from "../../../src/checkpoint/tokens.ts";
import { evaluate } from "../../../src/inference/score/evaluate.ts";
import { sha256File } from "../../../src/io/sha256.ts";
import type { Precision } from "../../../src/model/precision.ts";
import { exported, modelOf, TEXTLESS as PRECISIONS } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { opened, TEXT } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("export-entries");
const text = path("some text.txt");
let model = "";
let all: ExportEntry[] = [];

beforeAll(async () => {
  writeFileSync(text, readFileSync(TEXT, "utf8").slice(0, 1500));
  model = await modelOf("noise-distance", path("model"));
  ({ exports: all } = await exported(model, path("all"), { precisions: PRECISIONS, texts: [text] }));
});

const entryOf = (entries: readonly ExportEntry[], precision: Precision) =>
  entries.find((entry) => entry.precision === precision) as ExportEntry;
describe("an ONNX export with a text", () => {
  it("every file has its perplexity beside that of the float32 model, as eval measures it", async () => {
    const { perplexity, tokens, length, stride } = await opened(model, async (checkpoint) => {
      const tokenizer = await loadTokenizer(checkpoint.folder, checkpoint.config);
      return evaluate(checkpoint, { tokens: streamTokens([text], tokenizer), threads: 1 });
    });
    expect(all.map(({ precision }) => precision)).toEqual(PRECISIONS);
    for (const { precision, perplexity: measured } of all) {
      const { source, ...rest } = measured as NonNullable<ExportEntry["perplexity"]>;
      expect(rest).toMatchObject({ file: "some text.txt", sha256: await sha256File(text), tokens, length, stride });
      expect(source, precision).toBeCloseTo(perplexity, 3);
    }
    expect(entryOf(all, "fp32").perplexity?.perplexity).toBeCloseTo(perplexity, 3);
  });

  it("the loss of quality is zero in fp32 and largest in 4 bits", () => {
    const lost = (precision: Precision) => entryOf(all, precision).perplexity?.kl as number;
    expect(lost("fp32")).toBeLessThan(1e-9);
    expect(entryOf(all, "fp32").perplexity?.agreement).toBe(1);
    for (const precision of ["fp16", "int8", "uint8"] as const) expect(lost(precision)).toBeLessThan(lost("q4") / 3);
    expect(Math.abs(lost("q4f16") / lost("q4") - 1)).toBeLessThan(0.05);
  });

  it("nfc.json has the exports that the command returns", () => {
    expect(JSON.parse(readFileSync(path("all/nfc.json"), "utf8")).exports).toEqual(all);
  });

  it.each(["texts", "calibration"] as const)(
    "a missing or damaged file among the %s is refused before anything is written",
    async (kind) => {
      writeFileSync(path("bad.jsonl"), '{"text": "a good line"}\n{"text": \n');
      for (const [name, code] of [
        ["nothing.txt", "not-found"],
        ["bad.jsonl", "invalid-file"],
      ] as const) {
        const before = readdirSync(path());
        const phases: string[] = [];
        const onProgress = ({ phase }: { phase: string }) => phases.push(phase);
        const given = kind === "texts" ? { texts: [text, path(name)] } : { calibration: { file: path(name) } };
        const error = await failureOf(() =>
          exported(model, path("no"), { precisions: ["fp32", "q4"], onProgress, ...given }),
        );
        expect(error.code).toBe(code);
        expect(error.message).toContain(path(name));
        expect(phases).toEqual([]);
        expect(readdirSync(path())).toEqual(before);
      }
    },
  );
});

describe("the entry of each exported file", () => {
  it("every entry has its file's size and rounding, and no field that does not apply", () => {
    const described = all.map(({ perplexity, bytes, ...entry }) => {
      expect(bytes).toBe(statSync(path("all", entry.file)).size);
      return entry;
    });
    const blocks = { block: 32, symmetric: false, method: "least-squares", embeddingBits: 4 };
    expect(described).toEqual([
      { precision: "fp32", file: "onnx/model.onnx" },
      { precision: "fp16", file: "onnx/model_fp16.onnx" },
      { precision: "int8", file: "onnx/model_quantized.onnx", reduceRange: false },
      { precision: "uint8", file: "onnx/model_uint8.onnx", ...blocks, embeddingBits: 8 },
      { precision: "q4", file: "onnx/model_q4.onnx", ...blocks },
      { precision: "q4f16", file: "onnx/model_q4f16.onnx", ...blocks },
      { precision: "q2", file: "onnx/model_q2.onnx", ...blocks, method: "extremes" },
    ]);
  });

  it("the size of an entry includes external data", async () => {
    const folder = path("external");
    const { exports } = await exported(model, folder, { weights: "external", precisions: ["fp32", "q4"] });
    for (const { file, bytes } of exports)
      expect(bytes).toBe(statSync(join(folder, file)).size + statSync(join(folder, `${file}_data`)).size);
  });

  it("calibration is noted where it chose the blocks", async () => {
    const calibration = { file: TEXT, tokens: 128 };
    const quantization = { block: 16, symmetric: true, reduceRange: true };
    const options = { precisions: ["int8", "q4"], calibration, quantization } as const;
    const { exports } = await exported(model, path("calibrated"), options);
    expect(exports).toMatchObject([
      { precision: "int8", reduceRange: true },
      { precision: "q4", method: "gptq" },
    ]);
    expect(entryOf(exports, "int8")).not.toHaveProperty("method");
    expect(entryOf(exports, "q4")).toMatchObject({
      ...{ block: 16, symmetric: true },
      calibration: { file: "text.txt", sha256: await sha256File(TEXT), tokens: 128 },
    });
  });
});
