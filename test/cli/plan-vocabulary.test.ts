// nfc plan and nfc convert with the vocabulary as an axis: what is made, that it keeps what was expected, and bad input.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { type Plan, planSchema } from "../../src/convert/plan/plan-file.ts";
import { ok, refused } from "../support/cli.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { SLOW } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("plan-vocabulary-cli");
const readJson = (file: string) => JSON.parse(readFileSync(file, "utf8"));
const readPlan = (file: string): Plan => planSchema.parse(readJson(file));
const write = (name: string, text: string) => {
  writeFileSync(path(name), text);
  return path(name);
};
const lines = readFileSync(TEXT, "utf8").slice(0, 3000).split("\n");
const heldOut = write("held-out.txt", lines.join("\n"));
/** The same words in another order. */
const words = write("words.txt", lines.toReversed().join("\n"));
const TEXTS = ["--calibration", TEXT, "--text", heldOut, "--calibration-tokens", "512", "--threads", "1"];
const THREADS = ["--threads", "1"];
const file = path("plan.json");
let made: { stdout: string; stderr: string };
let plan: Plan;

beforeAll(async () => {
  const axes = ["--axes", "mlp", "--vocab-from", words, "--floor", "85%"];
  made = await ok("plan", MODEL, ...TEXTS, ...axes, "-o", file, "--html", path("plan.html"));
  plan = readPlan(file);
}, 240_000);

/** The first step that cuts the vocabulary, and its model. */
function findStep() {
  const step = 1 + plan.steps.findIndex(({ axis }) => axis === "vocab");
  return {
    step,
    model: plan.measurements[plan.steps[step - 1]?.measurement as number] as Plan["measurements"][number],
  };
}

const scoreBits = async (model: string): Promise<number> =>
  JSON.parse((await ok("eval", model, "--text", heldOut, "--json", ...THREADS)).stdout).bitsPerByte;

describe("nfc plan --vocab-from", () => {
  it("adds the axis to those that are named, in the tables, the notes and the page", () => {
    expect(plan.axes.map(({ name }) => name)).toEqual(["mlp", "vocab"]);
    expect(findStep().step).toBeGreaterThan(0);
    expect(made.stdout).toMatch(/^ +\d+ {2}vocab \d+ /m);
    expect(made.stdout).toContain(`the vocabulary is cut to what ${words} uses`);
    expect(readFileSync(path("plan.html"), "utf8")).toContain("vocab alone");
  });

  it("--axes with vocab takes the calibration text, without what is measured on", async () => {
    const own = path("own.json");
    const flags = ["--calibration", words, "--axes", "vocab", "--calibration-tokens", "64", "--tokens", "2048"];
    await ok("plan", MODEL, ...flags, "-o", own, "--floor", "99%", ...THREADS);
    expect(readPlan(own).vocabulary).toMatchObject({ files: [words], from: 384 });
    expect(readPlan(own).vocabulary?.used).toBeLessThan(plan.vocabulary?.used as number);
  });

  it.each([
    [["--calibration", TEXT, "--vocab-from", path("nothing.txt")], "nothing.txt"],
    [["--calibration", TEXT, "--axes", "vocabulary"], "vocab"],
    [["--calibration", TEXT, "--vocab-from", `${MODEL}/model.safetensors`], "model.safetensors"],
  ])("%j is refused in one line", async (flags, part) => {
    expect(await refused(["plan", MODEL, ...flags, "-o", path("never.json")])).toContain(part);
  });
});

describe("nfc convert with such a plan", () => {
  it("cuts the vocabulary as --vocab-from does, and the model loses what was expected", async () => {
    const [{ step, model }, output, alone] = [findStep(), path("step"), path("alone")];
    const { stderr } = await ok("convert", MODEL, "--plan", file, "--at", String(step), "-o", output, ...THREADS);
    expect(stderr).toContain("for a token of the source");
    const size = ["--vocab-size", String(model.cuts.vocab)];
    await ok("convert", MODEL, "--variant", "dense", "--vocab-from", words, ...size, "-o", alone, ...THREADS);
    const cutOf = (folder: string) =>
      readJson(`${folder}/nfc.json`).cuts.find(({ axis }: { axis: string }) => axis === "vocabulary");
    expect(cutOf(output)).toEqual(cutOf(alone));
    expect(readJson(`${output}/config.json`).vocab_size).toBe(model.cuts.vocab);
    expect(readJson(`${output}/nfc.json`)).toMatchObject({ plan: { file, step } });
    // Nats of the bytes are those of a perplexity for a token of the source.
    const [source, after] = [await scoreBits(MODEL), await scoreBits(output)];
    const tokens = plan.heldOut.tokens / Buffer.byteLength(readFileSync(heldOut));
    const expected = Math.log(model.perplexity / (plan.measurements[0]?.perplexity as number));
    expect(((after - source) * Math.LN2) / tokens).toBeCloseTo(expected, 4);
  });

  it("--target with --vocab-from makes a plan with the axis, and goes on with one that lacks it", SLOW, async () => {
    const own = path("target.json");
    const axes = ["--axes", "mlp", "--floor", "94%"];
    await ok("plan", MODEL, ...TEXTS, ...axes, "-o", own);
    expect(readPlan(own).axes.map(({ name }) => name)).toEqual(["mlp"]);
    const output = path("target");
    const flags = ["--target", "98.5%", "--calibration", TEXT, "--vocab-from", words];
    const { stdout } = await ok("convert", MODEL, "--plan", own, ...flags, "-o", output, "--json", ...THREADS);
    const { parameters } = JSON.parse(stdout) as { parameters: { before: number; after: number } };
    expect(parameters.after).toBeLessThanOrEqual(0.985 * parameters.before);
    expect(readPlan(own).axes.map(({ name }) => name)).toContain("vocab");
    expect(readPlan(own).vocabulary?.files).toEqual([words]);
  });

  it("a plan without the axis leaves the vocabulary to --vocab-from, on top of its step", async () => {
    const [own, output] = [path("without.json"), path("on-top")];
    await ok("plan", MODEL, ...TEXTS, "--axes", "mlp", "--floor", "94%", "-o", own);
    const flags = ["--plan", own, "--at", "1", "--vocab-from", words, "--vocab-size", "300"];
    await ok("convert", MODEL, ...flags, "-o", output, ...THREADS);
    expect(readJson(`${output}/config.json`)).toMatchObject({ vocab_size: 300, n_inner: 224 });
  });

  it.each([
    [["--at", "1", "--vocab-size", "300", "--vocab-from", words], "--vocab-size does not go with"],
    [["--target", "90%", "--vocab-size", "300", "--vocab-from", words], "--vocab-size does not go with a plan"],
    [["--target", "20%", "--vocab-from", words], "the least of"],
  ])("%j is refused, and nothing is written", async (flags, part) => {
    expect(await refused(["convert", MODEL, "--plan", file, ...flags, "-o", path("refused"), ...THREADS])).toContain(
      part,
    );
    expect(readdirSync(path())).not.toContain("refused");
  });

  it("a plan that does not say by what text is refused", async () => {
    const { vocabulary, ...rest } = plan;
    const broken = write("broken.json", JSON.stringify(rest));
    const flags = ["--plan", broken, "--at", String(findStep().step), "-o", path("broken")];
    expect(await refused(["convert", MODEL, ...flags, ...THREADS])).toContain("vocabulary: the text is missing");
  });

  it("another text than that of the plan is refused", async () => {
    const flags = ["--at", String(findStep().step), "--vocab-from", TEXT, "-o", path("other")];
    expect(await refused(["convert", MODEL, "--plan", file, ...flags, ...THREADS])).toContain("of another text");
    expect(readdirSync(path())).not.toContain("other");
  });
});
