// A vocabulary cut on the command line, and every command that then meets a model and a source of different tokens.
import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ok, refused } from "../support/cli.ts";
import { SHORT } from "../support/cli-train.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("vocabulary");
const CUT = ["--vocab-from", TEXT, "--vocab-size", "300", "--threads", "1"];
const TIE = ["--tie", "mean", "--variant", "symmetric"];
const TEXTS = ["--text", TEXT, "--length", "32", "--threads", "1"];
const cut = path("cut");

beforeAll(async () => {
  await ok("convert", MODEL, "-o", cut, ...TIE, ...CUT);
});

describe("nfc convert --vocab-from", () => {
  it("tells what was cut, beside the tie", async () => {
    const { stdout } = await ok("convert", MODEL, "-o", path("told"), ...TIE, ...CUT);
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^\S+told: symmetric, tied by mean, /);
    expect(lines[2]).toBe("vocabulary 384 -> 300 tokens");
    expect(lines[3]).toMatch(/^tie error/);
  });

  it("cuts the vocabulary alone with --variant dense, and gives it as JSON", async () => {
    const flags = ["--variant", "dense", "--vocab-from", TEXT, "--vocab-size", "75%", "--json"];
    const result = JSON.parse((await ok("convert", MODEL, "-o", path("dense"), ...flags)).stdout);
    expect(result).toMatchObject({ variant: "dense", tie: null, cuts: [{ axis: "vocabulary", from: 384, to: 288 }] });
    expect(result.parameters.before - result.parameters.after).toBe(96 * 64);
    const { stdout } = await ok("convert", MODEL, "-o", path("plain"), ...flags.slice(0, -1));
    expect(stdout).not.toContain("tie");
  });

  it.each(["0", "1.5", "0%", "100%", "%", "many"])("refuses the size %s", async (size) => {
    const line = ["convert", MODEL, "-o", path("refused"), "--vocab-from", TEXT, "--vocab-size", size];
    expect(await refused(line)).toMatch(
      /--vocab-size <n>.*(not a number of tokens, nor a share such as 50%|not a share)/s,
    );
  });

  it("refuses a size without text, and a dense model with nothing cut", async () => {
    expect(await refused(["convert", MODEL, "-o", path("refused"), "--vocab-size", "300"])).toContain(
      "--vocab-from FILE",
    );
    expect(await refused(["convert", MODEL, "-o", path("refused"), "--variant", "dense"])).toContain(
      "nothing would be cut",
    );
  });
});

describe("a model of fewer tokens that is cut again", () => {
  const [first, again, fewer] = [path("first"), path("recut"), path("fewer")];
  const tokens = (size: string) => ["--variant", "dense", "--vocab-from", TEXT, "--vocab-size", size];
  beforeAll(async () => {
    await ok("convert", MODEL, "-o", first, "--mlp", "75%", ...tokens("380"));
    const { stdout } = await ok("convert", first, "-o", again, "--variant", "dense", "--mlp", "50%");
    expect(stdout.split("\n").slice(2)).toEqual(["hidden units 192 -> 96, chosen by their weights", ""]);
    await ok("convert", again, "-o", fewer, ...tokens("370"));
  });

  it("says all cuts, and which are its own", () => {
    const { cuts, source } = JSON.parse(readFileSync(join(fewer, "nfc.json"), "utf8"));
    expect(cuts.map(({ axis }: { axis: string }) => axis)).toEqual(["mlp", "vocabulary", "mlp", "vocabulary"]);
    expect(source).toMatchObject({ path: again, cuts: 3 });
  });

  it("is compared with the first source as it is among the same tokens", async () => {
    await ok("convert", MODEL, "-o", path("only"), ...tokens("380"));
    const only = JSON.parse((await ok("eval", path("only"), ...TEXTS, "--no-record", "--json")).stdout);
    const result = await ok("eval", again, ...TEXTS, "--against", MODEL, "--no-record", "--json");
    expect(JSON.parse(result.stdout).against.perplexity).toBeCloseTo(only.perplexity, 4);
  });

  it.each([
    ["the first source", MODEL],
    ["a model between, of more tokens", first],
  ])("is compared after two such cuts with %s", async (_, against) => {
    const { stdout } = await ok("eval", fewer, ...TEXTS, "--against", against, "--no-record", "--json");
    expect(JSON.parse(stdout).against.kl).toBeGreaterThan(0);
  });

  it("learns from the first source, and from a model between", async () => {
    const flags = ["--data", TEXT, ...SHORT, "--cache", path("c")];
    await ok("distill", fewer, "--teacher", MODEL, ...flags, "-o", path("taught"));
    const { cuts } = JSON.parse(readFileSync(join(path("taught"), "nfc.json"), "utf8"));
    expect(cuts).toHaveLength(4);
    await ok("distill", again, "--teacher", first, ...flags, "-o", path("taught-again"));
  });
});

describe("a model of fewer tokens and its source", () => {
  it("are evaluated on the same tokens", async () => {
    const { stdout } = await ok("eval", cut, ...TEXTS, "--against", MODEL);
    expect(stdout).toContain(`${MODEL} (among the 300 tokens)  `);
    const recorded = JSON.parse(readFileSync(join(cut, "nfc.json"), "utf8"));
    expect(recorded.perplexity[0].source).toBeGreaterThan(1);
    expect(await refused(["eval", MODEL, ...TEXTS, "--against", cut])).toMatch(/has kept only 300 of the 384 tokens/);
  });

  it("are student and teacher, also where padding rows were trimmed before", async () => {
    const from = await writeCheckpoint(path("padded"), { vocab: 400, positions: 64 });
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) cpSync(join(MODEL, name), join(from, name));
    await ok("convert", from, "-o", path("trimmed"), "--trim-vocab", ...TIE, ...CUT);
    for (const student of [cut, path("trimmed")]) {
      const flags = ["--data", TEXT, "-o", `${student}-distilled`, ...SHORT, "--cache", path("cache"), "--json"];
      const { perplexity } = JSON.parse((await ok("distill", student, ...flags)).stdout);
      expect(perplexity.teacher).toBeGreaterThan(1);
    }
    const again = ["distill", path("trimmed"), "--teacher", MODEL, "--data", TEXT, "-o", path("again"), ...SHORT];
    await ok(...again, "--transfer-steps", "0", "--cache", path("cache"));
  });

  it("are told apart by a report", async () => {
    const { findings } = JSON.parse((await ok("report", MODEL, cut, "--json")).stdout);
    expect(findings).toContainEqual({
      code: "other-tokens",
      text: expect.stringMatching(/^after has 300 tokens, before 384, .* bits per byte always do$/),
    });
    const compared = (await ok("report", MODEL, cut, path("cut"))).stdout;
    expect(compared).toContain("has 300 of 384 tokens");
  });

  it("are compared as an export as well, which says the text back", async () => {
    await ok("export", cut, "--onnx", "-o", path("cut-onnx"));
    const { stdout } = await ok("eval", path("cut-onnx"), ...TEXTS, "--against", MODEL, "--json");
    const { reference, precisions } = JSON.parse(stdout);
    expect(reference).toBe(MODEL);
    expect(precisions[0].kl).toBeGreaterThanOrEqual(0);
    const flags = ["--prompt", "Über 蒙", "--max-new-tokens", "3", "--json"];
    expect((await ok("generate", path("cut-onnx"), ...flags)).stdout).toContain("Über 蒙");
  });
});
