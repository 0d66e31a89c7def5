// A character-level nanoGPT, which has no tokenizer: calibrated, scored, exported and distilled from its files of ids.
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { nfc, refused } from "../support/cli.ts";
import { MODEL } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("token-files");
const VOCABULARY = 65;
const IDS = Array.from({ length: 1200 }, (_, i) => (i * i + 7 * i) % VOCABULARY);
const ids16 = new Uint8Array(Uint16Array.from(IDS).buffer);

beforeAll(async () => {
  // As nanoGPT's checkpoints are once they are safetensors: Linear matrices, no biases, no model_type, no tokenizer.
  await writeCheckpoint(path("char"), {
    ...{ layout: "linear", bias: false, base: "transformer.", vocab: VOCABULARY, positions: 32, width: 32 },
    config: { n_layer: 2, n_head: 2, n_embd: 32, block_size: 32, bias: false, vocab_size: VOCABULARY, dropout: 0 },
  });
  writeFileSync(path("val.bin"), ids16);
  writeFileSync(path("meta.pkl"), Uint8Array.of(0x80, 4, 0x95));
  writeFileSync(path("val32.bin"), new Uint8Array(Uint32Array.from(IDS).buffer));
  writeFileSync(path("val.bin.gz"), gzipSync(ids16));
  const header = new Int32Array(256);
  header.set([20240520, 1, IDS.length]);
  writeFileSync(path("shard.bin"), Buffer.concat([new Uint8Array(header.buffer), ids16]));
});

async function score(model: string, text: string): Promise<{ perplexity: number; tokens: number }> {
  const { code, stdout, stderr } = await nfc([
    "eval",
    model,
    "--text",
    text,
    "--json",
    "--no-record",
    "--threads",
    "1",
  ]);
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return JSON.parse(stdout);
}

describe("a model without a tokenizer", () => {
  it("is scored on its ids, the same from every kind of file", async () => {
    const { perplexity, tokens } = await score(path("char"), path("val.bin"));
    expect(tokens).toBe(IDS.length - Math.ceil(IDS.length / 32));
    expect(perplexity).toBeGreaterThan(1);
    for (const file of ["val32.bin", "val.bin.gz", "shard.bin"])
      expect(await score(path("char"), path(file))).toMatchObject({ perplexity, tokens });
  });

  it("is calibrated, distilled and exported with its ids", async () => {
    const convert = ["convert", path("char"), "-o", path("tied"), "--calibration", path("val.bin"), "--threads", "1"];
    expect(await nfc(convert)).toMatchObject({ code: 0 });
    expect(JSON.parse(readFileSync(path("tied/nfc.json"), "utf8")).tie.calibration).toMatchObject({ tokens: 1184 });
    const distill = ["distill", path("tied"), "--teacher", path("char"), "--data", path("shard.bin")];
    const run = [
      "--steps",
      "2",
      "--batch-size",
      "2",
      "--cache",
      path("cache"),
      "--threads",
      "1",
      "-o",
      path("distilled"),
    ];
    expect(await nfc([...distill, ...run])).toMatchObject({ code: 0 });
    const files = ["--text", path("val.bin"), "--calibration", path("val.bin.gz"), "--precision", "fp32,q4"];
    const exported = await nfc(["export", path("distilled"), "--onnx", "-o", path("onnx"), ...files, "--threads", "1"]);
    expect(exported).toMatchObject({ code: 0 });
    expect(existsSync(path("onnx/onnx/model_q4.onnx"))).toBe(true);
  });

  it("cannot read text, and says so in one line", async () => {
    writeFileSync(path("a.txt"), "some text\n");
    const stderr = await refused(["eval", path("char"), "--text", path("a.txt")]);
    expect(stderr).toContain("no tokenizer.json");
  });

  it("ids and text together are refused", async () => {
    writeFileSync(path("a.txt"), "some text\n");
    const stderr = await refused(["eval", MODEL, "--text", path("a.txt"), path("val.bin")]);
    expect(stderr).toContain("holds token ids");
  });
});

describe("data that is not read", () => {
  it("is refused by what it is, wherever data is named", async () => {
    mkdirSync(path("data"));
    writeFileSync(path("data/train.parquet"), "PAR1\x15\0PAR1");
    copyFileSync(path("val.bin"), path("data/x.txt"));
    const parquet = path("data/train.parquet");
    const commands = [
      ["eval", MODEL, "--text", parquet],
      ["convert", MODEL, "-o", path("out"), "--calibration", parquet],
      ["export", MODEL, "-o", path("out"), "--onnx", "--text", parquet],
      ["distill", MODEL, "--teacher", MODEL, "--data", parquet, "-o", path("out")],
      ["distill", MODEL, "--teacher", MODEL, "--data", path("data"), "-o", path("out")],
      ["finetune", MODEL, "--data", path("val.bin"), "--valid", parquet, "-o", path("out")],
    ];
    for (const command of commands) {
      const stderr = await refused(command);
      expect(stderr).toMatch(/is a Parquet file, not text|holds train\.parquet, a data set that is not read/);
      expect(existsSync(path("out"))).toBe(false);
    }
  });
});
