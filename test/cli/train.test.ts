// The training commands as they are typed: settings, and results in words and JSON.
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { nfc, refused } from "../support/cli.ts";
import { SHORT, studentForTests } from "../support/cli-train.ts";
import { converted, MODEL, opened, TEXT } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { TINY_CONFIG, writeIds, writeJson } from "../support/training.ts";

const path = temporaryFolder("cli-train");
const { student, cache, output } = studentForTests(path);
/** A short fine-tuning of the fixture, into a new folder at each call. */
const finetune = (...flags: string[]) => [
  ...["finetune", MODEL, "--data", TEXT, "-o", output(), ...SHORT, ...cache],
  ...flags,
];

describe("nfc distill", () => {
  it("nfc distill prints the perplexities of the teacher and of the student before and after", async () => {
    const out = output();
    const { code, stdout, stderr } = await nfc([
      "distill",
      student,
      "--teacher",
      MODEL,
      "--data",
      TEXT,
      "-o",
      out,
      ...SHORT,
      ...cache,
    ]);
    expect(code, stderr).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^model +step +held-out perplexity$/);
    expect(lines[2]).toMatch(/^\S+tiny-gpt2 \(teacher\) +\d+\.\d{3}$/);
    expect(lines[3]).toMatch(/^\S+student \(before\) +0 +\d+\.\d{3}$/);
    expect(lines[4]).toMatch(/^\S+out\d+ \(after\) +[23] +\d+\.\d{3}$/);
    expect(lines[5]).toMatch(/^3 steps, 192 tokens; scored on \d+ held-out tokens; \S+ kB$/);
    expect(stderr).toMatch(
      /distilling loss \d+\.\d{3} {2}\(attention_kl \d+\.\d{3}\) {2}lr \S+ {2}\d+ tokens\/s {2}\d+:\d\d left \(1\/3\)/,
    );
    expect(existsSync(join(out, "metrics.jsonl"))).toBe(true);
    expect(existsSync(`${out}.run`)).toBe(false);
  });

  it("nfc distill --json --quiet prints an object and nothing else", async () => {
    const out = output();
    const line = [
      "distill",
      student,
      "--teacher",
      MODEL,
      "--data",
      TEXT,
      "-o",
      out,
      ...SHORT,
      ...cache,
      "--json",
      "-q",
    ];
    const { code, stdout, stderr } = await nfc(line);
    expect({ code, stderr: stderr.replace(/^note: .*\n/, "") }).toEqual({ code: 0, stderr: "" });
    const result = JSON.parse(stdout);
    expect(Object.keys(result)).toEqual([
      "output",
      "bytes",
      "files",
      "tokens",
      "heldOutTokens",
      "perplexity",
      "best",
      "resumedFrom",
      "settings",
    ]);
    expect(result).toMatchObject({
      output: out,
      tokens: 192,
      resumedFrom: null,
      best: { perplexity: result.perplexity.after },
    });
    expect(result.settings).toMatchObject({
      task: "distill",
      steps: 3,
      batchSize: 2,
      length: 32,
      transferSteps: 1,
      kd: 0.5,
    });
    const { history } = JSON.parse(readFileSync(join(out, "nfc.json"), "utf8"));
    expect(history.at(-1)).toMatchObject({ step: "distill", command: ["nfc", ...line], settings: result.settings });
  });

  it("nfc distill accepts a flag for every setting", async () => {
    const flags =
      "--steps 4 --batch-size 2 --accumulate 2 --length 16 --lr 0.01 --noise-lr 0.02 --warmup 1 --lr-floor 0.5 --beta1 0.8 --beta2 0.9 --weight-decay 0.2 --clip 0 --noise-kl 0.3 --train attention --noise mean --seed 5 --eval-every 4 --eval-tokens 100 --average 0.5 --kd 0.25 --temperature 2 --transfer outputs --transfer-steps 2 --transfer-lr 0.03 --transfer-noise-lr 0.04 --save-every 1 --teacher-precision int8 --quantize q4 --quantize-steps 3 --embedding-bits 8 --block-size 16 --grid refit --symmetric";
    const line = [
      "distill",
      student,
      "--teacher",
      MODEL,
      "--data",
      TEXT,
      "-o",
      output(),
      ...flags.split(" "),
      ...cache,
    ];
    const { code, stdout, stderr } = await nfc([...line, "--json"]);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout).settings).toEqual({
      task: "distill",
      ...{ steps: 4, batchSize: 2, accumulate: 2, length: 16, lr: 0.01, noiseLr: 0.02, warmup: 1, floor: 0.5 },
      ...{
        beta1: 0.8,
        beta2: 0.9,
        epsilon: 1e-8,
        decay: 0.2,
        clip: 0,
        noiseKl: 0.3,
        train: "attention",
        noise: "mean",
      },
      ...{ seed: 5, evalEvery: 4, evalTokens: 100, kd: 0.25, temperature: 2, transferSteps: 2, transferLr: 0.03 },
      ...{ average: 0.5, transfer: "outputs" },
      ...{ transferNoiseLr: 0.04, teacherPrecision: "int8", cacheTeacher: 0, cacheKind: "top-k", extendedFrom: 0 },
      devicePrecision: "fp32",
      ...{ quantize: "q4", quantizeSteps: 3, budget: 0, block: 16, embeddingBits: 8, symmetric: "yes", grid: "refit" },
    });
  });

  it("nfc distill says why no layer learns alone first", async () => {
    const other = await writeCheckpoint(path("deeper"), { layers: 5, width: 32, vocab: 384, positions: 128 });
    const line = ["distill", student, "--teacher", other, "--data", TEXT, "-o", output(), ...SHORT, ...cache];
    const { code, stderr } = await nfc(line);
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/no layer learns alone first: the teacher .*deeper has 5 layers, and nothing says/);
    const told = await nfc([...line, "--transfer-steps", "0", "--force"]);
    expect(told.stderr).not.toContain("learns alone");
  });

  it.each(["dense", "symmetric"] as const)(
    "nfc distill transfers attention unless the student is dense: %s",
    async (variant) => {
      const model = variant === "dense" ? MODEL : path("symmetric");
      if (variant === "symmetric") await converted({ output: model, variant });
      const line = ["distill", model, "--teacher", MODEL, "--data", TEXT, "-o", output(), ...SHORT, ...cache, "--json"];
      expect(JSON.parse((await nfc(line)).stdout).settings.transferSteps).toBe(variant === "dense" ? 0 : 1);
    },
  );
});

describe("nfc finetune and nfc pretrain", () => {
  it("nfc finetune trains on folders and globs", async () => {
    mkdirSync(path("corpus", "deep"), { recursive: true });
    copyFileSync(TEXT, path("corpus", "a.txt"));
    writeFileSync(path("corpus", "deep", "b.jsonl"), `${JSON.stringify({ text: readFileSync(TEXT, "utf8") })}\n`);
    writeFileSync(path("corpus", "README.md"), "not this");
    const tokens = async (data: string) => {
      const all = ["--eval-tokens", "65536", "--json"];
      const line = ["finetune", MODEL, "--data", data, "-o", output(), ...SHORT, ...cache, ...all];
      const { code, stdout, stderr } = await nfc(line);
      expect(code, stderr).toBe(0);
      return JSON.parse(stdout).heldOutTokens;
    };
    const [folder, glob, one] = [
      await tokens(path("corpus")),
      await tokens(path("corpus/**/*.txt")),
      await tokens(TEXT),
    ];
    expect(glob).toBe(one);
    expect(folder).toBeGreaterThan(1.5 * one);
  });

  it("nfc pretrain learns from token ids, and nfc finetune goes on without a tokenizer", async () => {
    const data = writeIds(path("ids.bin"));
    const config = writeJson(path("config.json"), TINY_CONFIG);
    const out = output();
    const first = await nfc([
      "pretrain",
      "--config",
      config,
      "--variant",
      "noise-shared",
      "--data",
      data,
      "-o",
      out,
      ...SHORT,
    ]);
    expect(first.code, first.stderr).toBe(0);
    expect(first.stdout).not.toContain("teacher");
    expect((await nfc(["finetune", out, "--data", data, "-o", output(), ...SHORT])).code).toBe(0);
    expect(await refused(["finetune", out, "--data", TEXT, "-o", output(), ...cache])).toBe(
      `${out}: no tokenizer.json, and its vocabulary of 61 is not GPT-2's; put the model's tokenizer.json beside its weights`,
    );
    await opened(out, ({ config: { variant } }) => expect(variant).toBe("noise-shared"));
  });

  it("nfc finetune says in its table and in a note that the model became worse, and that few tokens tell little", async () => {
    const worse = await nfc(finetune("--lr", "0.05", "--warmup", "0", "--eval-tokens", "50"));
    expect(worse.code, worse.stderr).toBe(0);
    expect(worse.stdout).toMatch(/\(after, worse\) +[23] +\d/);
    expect(worse.stderr).toMatch(
      /note: training made it worse: perplexity [\d.]+ before, [\d.]+ after \(\+[\d,.]+ %\), on held-out text: train for longer/,
    );
    expect(worse.stderr).toContain("note: 50 tokens say nothing about the quality of a model");
    const fine = await nfc(finetune("--lr", "1e-5"));
    expect(`${fine.stdout}${fine.stderr}`).not.toMatch(/made it worse|, worse/);
  });

  it("nfc finetune says when an earlier step was better", async () => {
    const { code, stdout, stderr } = await nfc(
      finetune("--steps", "6", "--lr", "0.05", "--warmup", "6", "--eval-every", "1"),
    );
    expect(code, stderr).toBe(0);
    const [, step] = /note: the best step, (\d), is kept: later ones were worse on held-out text\n/.exec(stderr) ?? [];
    expect(stdout).toMatch(new RegExp(`\\(after(, worse)?\\) +${step} `));
  });
});
