// nfc eval on exported files: the table, the JSON, what is noted in nfc.json, and folders that are refused in one line.
import {
  copyFileSync,
  cpSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import type { ExportEntry, NfcRecord } from "../../src/checkpoint/nfc-record.ts";
import { nfc, refused } from "../support/cli.ts";
import { exported, modelOf } from "../support/exported.ts";
import { digest, MODEL, TEXT } from "../support/fixture.ts";
import { poison } from "../support/poison.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("eval-export");
const THREADS = ["--threads", "1"];
let tied = "";
/** The export of `tied`; its "q4" is the dense fixture, which differs from it. */
let master = "";
let text = "";
let count = 0;

beforeAll(async () => {
  text = path("short.txt");
  writeFileSync(text, readFileSync(TEXT, "utf8").slice(0, 1500));
  tied = await modelOf("noise-distance", path("tied"));
  master = path("master");
  await exported(tied, master);
  await exported(MODEL, path("dense"));
  copyFileSync(path("dense/onnx/model.onnx"), `${master}/onnx/model_q4.onnx`);
});

/** A copy of the export, to be changed. */
function fresh(): string {
  const folder = path(`m${count++}`);
  cpSync(master, folder, { recursive: true });
  return folder;
}

async function ok(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await nfc(["eval", ...args, "--text", text, ...THREADS]);
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return { stdout, stderr };
}

interface Evaluated {
  reference: string | null;
  referencePerplexity: number | null;
  precisions: {
    precision: string;
    file: string;
    bytes: number;
    perplexity: number;
    percent: number | null;
    bitsPerByte: number;
    kl: number | null;
    agreement: number | null;
    logitError: number | null;
  }[];
}

const json = async (...args: string[]): Promise<Evaluated> =>
  JSON.parse((await ok(...args, "--json", "--quiet")).stdout) as Evaluated;
const recordOf = (folder: string) => JSON.parse(readFileSync(`${folder}/nfc.json`, "utf8")) as NfcRecord;
const exportsOf = (folder: string): ExportEntry[] => recordOf(folder).exports ?? [];

describe("nfc eval of an export", () => {
  it("nfc eval of an export prints what each file costs, and what was scored", async () => {
    const { stdout } = await ok(master, "--no-record");
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^precision +MB +perplexity +% +KL \(nats\) +top-1 agreement +tokens\/s$/);
    expect(lines[2]).toMatch(/^fp32 +0\.\d{3} +\d+\.\d{3} +[\d,]+$/);
    expect(lines[3]).toMatch(/^q4 +0\.\d{3} +\d+\.\d{3} +[+-]\d+\.\d\d % +\d\.\d{4} +\d+\.\d\d % +[\d,]+$/);
    expect(lines[4]).toMatch(/^[\d,]+ tokens in \d+ windows of 64, stride 64$/);
    expect(lines).toHaveLength(5);
  });

  it("--precision scores the files named, and the fp32 file for comparison", async () => {
    const result = await json(master, "--precision", "q4", "--length", "48", "--stride", "32", "--no-record");
    expect(result).toMatchObject({ model: master, reference: "fp32", precisions: [{ length: 48, stride: 32 }, {}] });
    const [fp32, q4] = result.precisions;
    expect(fp32?.bitsPerByte).toBeGreaterThan(0);
    expect(fp32).toMatchObject({
      precision: "fp32",
      file: "onnx/model.onnx",
      percent: null,
      kl: null,
      agreement: null,
    });
    expect(q4).toMatchObject({ precision: "q4", file: "onnx/model_q4.onnx" });
    expect(q4?.percent).toBeCloseTo(100 * ((q4?.perplexity as number) / (fp32?.perplexity as number) - 1), 9);
    expect(q4?.kl).toBeGreaterThan(0);
    expect(result.referencePerplexity).toBe(fp32?.perplexity);
    expect((await json(master, "--precision", "fp32", "--no-record")).precisions).toHaveLength(1);
  });

  it("--against compares every file with that checkpoint, in a line of its own", async () => {
    const flags = ["--precision", "q4", "--against", MODEL, "--no-record"];
    const { reference, referencePerplexity, precisions } = await json(master, ...flags);
    expect(reference).toBe(MODEL);
    expect(precisions.map(({ precision }) => precision)).toEqual(["q4"]);
    expect(precisions[0]?.perplexity).toBeCloseTo(referencePerplexity as number, 4);
    expect(precisions[0]?.agreement).toBe(1);
    const lines = (await ok(master, ...flags)).stdout.split("\n");
    expect(lines[2]).toMatch(new RegExp(`^${MODEL} +\\d+\\.\\d{3}$`));
    expect(lines[3]).toMatch(/^q4 .* [+-]?0\.00 % +-?0\.0000 +100\.00 % +[\d,]+$/);
  });

  it("an export without the fp32 file and --against gets perplexities only", async () => {
    const folder = fresh();
    rmSync(`${folder}/onnx/model.onnx`);
    const { reference, precisions } = await json(folder, "--no-record");
    expect({ reference, precisions }).toMatchObject({ reference: null, precisions: [{ precision: "q4", kl: null }] });
    expect((await ok(folder, "--no-record")).stdout).toMatch(/^precision +MB +perplexity +tokens\/s\n/);
  });

  it("nfc eval of a folder with safetensors scores the checkpoint, unless a precision is named", async () => {
    await exported(tied, path("both"), { safetensors: {} });
    expect((await ok(path("both"), "--no-record")).stdout).toMatch(/^model +perplexity +nll\n/);
    const flags = ["--precision", "fp32", "--no-record"];
    expect((await ok(path("both"), ...flags)).stdout).toMatch(/^precision +MB +perplexity +tokens\/s\n/);
  });
});

describe("the record that nfc eval of an export writes", () => {
  it("nfc.json gets an entry for each file, next to what it holds already", async () => {
    const folder = fresh();
    const before = recordOf(folder);
    const { stderr } = await ok(folder);
    expect(stderr).toContain(`note: perplexities noted in ${folder}/nfc.json (--no-record leaves them out)\n`);
    const [fp32, q4, ...rest] = exportsOf(folder);
    expect(rest).toEqual([]);
    expect(recordOf(folder)).toEqual({ ...before, exports: [fp32, q4] });
    const on = { file: "short.txt", tokens: expect.any(Number), length: 64, stride: 64 };
    expect(fp32).toMatchObject({ precision: "fp32", file: "onnx/model.onnx", perplexity: { ...on, kl: null } });
    expect(q4).toMatchObject({
      file: "onnx/model_q4.onnx",
      perplexity: { ...on, source: fp32?.perplexity?.perplexity },
    });
    expect(q4?.perplexity?.agreement).toBeLessThan(1);
    expect(q4?.perplexity?.logitError).toBeGreaterThan(0);
  });

  it("the entry of a file is kept, unless the file is gone or has another size", async () => {
    const folder = fresh();
    const { size: bytes } = statSync(`${folder}/onnx/model_q4.onnx`);
    const entry = { precision: "q4", file: "onnx/model_q4.onnx", bytes, block: 32, symmetric: true };
    const other = { precision: "fp32", file: "onnx/model.onnx", bytes: 1, block: 64 };
    const gone = { precision: "fp16", file: "onnx/model_fp16.onnx", bytes: 5 };
    writeFileSync(`${folder}/nfc.json`, JSON.stringify({ ...recordOf(folder), exports: [other, entry, gone] }));
    await ok(folder);
    expect(exportsOf(folder).map(({ precision }) => precision)).toEqual(["fp32", "q4"]);
    expect(exportsOf(folder)[0]).not.toHaveProperty("block");
    expect(exportsOf(folder)[1]).toMatchObject({
      bytes,
      block: 32,
      symmetric: true,
      perplexity: { file: "short.txt" },
    });
  });

  it("only the checkpoint that was exported counts as the float32 model", async () => {
    const folder = fresh();
    await ok(folder, "--against", MODEL);
    expect(exportsOf(folder)[0]?.perplexity).toMatchObject({ kl: null, agreement: null, logitError: null });
    expect(exportsOf(folder)[0]?.perplexity).not.toHaveProperty("source");
    await ok(folder, "--against", tied);
    const [fp32, q4] = exportsOf(folder);
    expect(fp32?.perplexity).toMatchObject({ agreement: 1, source: expect.any(Number) });
    expect(fp32?.perplexity?.bitsPerByte).toBeGreaterThan(0);
    expect(q4?.perplexity?.kl).toBeGreaterThan(0.001);
    await ok(folder, "--against", MODEL);
    expect(exportsOf(folder)).toEqual([fp32, q4].map((entry) => expect.objectContaining({ file: entry?.file })));
    expect(exportsOf(folder)[1]?.perplexity?.kl).toBe(q4?.perplexity?.kl);
  });

  it("nothing is noted with --no-record, for files that draw noise, and without an nfc.json", async () => {
    const before = digest(master);
    await ok(master, "--no-record");
    expect(digest(master)).toEqual(before);
    await exported(tied, path("sampled"), { noise: { kind: "generated", seed: 1 } });
    await ok(path("sampled"));
    expect(recordOf(path("sampled"))).not.toMatchObject({ exports: [{ perplexity: expect.anything() }] });
    const foreign = fresh();
    rmSync(`${foreign}/nfc.json`);
    expect((await ok(foreign)).stderr).not.toContain("noted");
  });
});

describe("refusals of nfc eval of an export", () => {
  const evaluate = (folder: string, ...flags: string[]) =>
    refused(["eval", folder, "--text", text, ...THREADS, ...flags]);

  it("flags that do not fit an export are refused in one line", async () => {
    expect(await evaluate(master, "--noise", "sample")).toBe(
      `${master}: --noise is for checkpoints: exported files have theirs in the graph; export with --noise sample, and leave the flag out here`,
    );
    expect(await evaluate(master, "--precision", "q5")).toContain(
      "not a list of fp32, fp16, int8, uint8, mixed, q4, q4f16, q2",
    );
    expect(await evaluate(master, "--precision", "int8")).toContain(`${master}: has no int8 file; it has fp32, q4`);
    expect(await evaluate(tied, "--precision", "int8")).toContain("holds no folder onnx");
    expect(await evaluate(master, "--length", "65")).toContain("window length 65");
    expect(await evaluate(master, "--against", path("nowhere"))).toContain(
      `${path("nowhere")}: no such file or folder`,
    );
  });

  it("an export with logits that are not finite is refused in one line", async () => {
    const folder = path("nan");
    await exported(tied, folder, { weights: "shared" });
    await poison(folder, "ln_f.weight");
    expect(await evaluate(folder, "--precision", "fp32")).toContain("model.onnx: its loss is not finite");
  });

  it.each([
    ["n_head", { n_head: 2 }],
    ["n_layer", { n_layer: 3 }],
    ["vocab_size", { vocab_size: 400 }],
  ])("a config.json that disagrees with the graph about %s is refused in one line", async (_, change) => {
    const folder = fresh();
    const file = `${folder}/config.json`;
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...change }));
    const line = await evaluate(folder);
    expect(line).toContain("model.onnx");
    expect(line).toContain(String(Object.values(change)[0]));
  });

  it.each<[string, (folder: string) => void]>([
    ["no config.json", (folder) => rmSync(`${folder}/config.json`)],
    ["no tokenizer", (folder) => rmSync(`${folder}/tokenizer.json`)],
    ["an nfc.json that is none", (folder) => writeFileSync(`${folder}/nfc.json`, "{")],
    ["a model file cut short", (folder) => truncateSync(`${folder}/onnx/model.onnx`, 5000)],
    ["an empty model file", (folder) => truncateSync(`${folder}/onnx/model.onnx`, 0)],
    [
      "a link out of the folder",
      (folder) => {
        rmSync(`${folder}/onnx/model.onnx`);
        symlinkSync(path("dense/onnx/model.onnx"), `${folder}/onnx/model.onnx`);
      },
    ],
  ])("a folder with %s is refused in one line", async (_, spoil) => {
    const folder = fresh();
    spoil(folder);
    expect(await evaluate(folder)).toContain(folder);
  });

  it("a model file given by its own name is refused in one line", async () => {
    expect(await evaluate(`${master}/onnx/model.onnx`)).toContain("name the model's folder");
  });
});

describe("nfc report of exports", () => {
  it("nfc report shows exports with what nfc eval noted of them", async () => {
    const folder = fresh();
    await ok(folder);
    const { code, stdout } = await nfc(["report", MODEL, tied, folder, path("dense")]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^q4 +onnx\/model_q4\.onnx +0\.\d{3} +1\.\d{3} +\d+\.\d\d +[+-].* %$/m);
    expect(stdout).toMatch(/^Exported, .*: noise-distance, [\d,]+ parameters, measured on short\.txt \(\d+ tokens\)$/m);
    expect(stdout).toContain(`Exported, ${path("dense")}: dense, 128,768 parameters`);
    const line = await refused(["report", MODEL, tied, path("nowhere")]);
    expect(line).toContain(`${path("nowhere")}: no such file or folder`);
  });
});
