// nfc plan, and nfc convert by a plan: what is printed, written, foretold and refused.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { type Plan, planSchema } from "../../src/convert/plan/plan-file.ts";
import { interrupted, nfc, ok, refused } from "../support/cli.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("plan-cli");
const THREADS = ["--threads", "1"];
const QUICK = ["--calibration-tokens", "1024", "--tokens", "2048", ...THREADS];
let count = 0;
const fresh = () => path(`out-${count++}`);

const calibration = path("calibration.txt");
const heldOut = path("held-out.txt");
const file = path("plan.json");
const page = path("plan.html");
let made: { stdout: string; stderr: string };

const readPlan = (from = file): Plan => planSchema.parse(JSON.parse(readFileSync(from, "utf8")));

beforeAll(async () => {
  const text = readFileSync(TEXT, "utf8");
  writeFileSync(calibration, text.slice(0, 8000));
  writeFileSync(heldOut, text.slice(16_000, 20_000));
  const texts = ["--calibration", calibration, "--text", heldOut];
  made = await ok("plan", MODEL, ...texts, "-o", file, "--html", page, "--axes", "qk-rank,mlp", ...THREADS);
}, 240_000);

describe("nfc plan", () => {
  it("prints the frontier, the axes alone, and how sure it is", () => {
    const lines = made.stdout.split("\n");
    const { steps, heldOut: measured } = readPlan();
    expect(lines[0]).toMatch(new RegExp(`tiny-gpt2: ${steps.length} steps; measured on .* tokens of .*held-out.txt`));
    expect(made.stdout).toMatch(
      /^step {2}cut +parameters +of source +fp32 MB +int8 MB +q4 MB +perplexity +loss +± +KL$/m,
    );
    expect(lines.filter((line) => /^ +\d+ {2}\S/.test(line)).length).toBe(steps.length + 1);
    expect(made.stdout).toMatch(/^qk-rank 8 +120,448 +93.54 %/m);
    expect(made.stdout).toContain(`differences of ${Math.ceil(measured.tokens / 64)} windows`);
    expect(made.stderr).toContain(`nfc convert ${MODEL} --plan ${file} --at `);
  });

  it("each step of the path is smaller, and no step loses less than nothing", () => {
    const { steps, measurements } = readPlan();
    const models = [0, ...steps.map(({ measurement }) => measurement)].map(
      (at) => measurements[at] as Plan["measurements"][number],
    );
    for (const [i, model] of models.entries()) {
      expect(model.parameters).toBeLessThan(models[i - 1]?.parameters ?? Number.POSITIVE_INFINITY);
      expect(model.bytes.fp32).toBeGreaterThan(4 * model.parameters);
      expect(model.kl).toBeGreaterThanOrEqual(-1e-6);
    }
  });

  it("--json prints the plan file's content", async () => {
    const again = await ok(
      "plan",
      MODEL,
      "--calibration",
      calibration,
      "--text",
      heldOut,
      "-o",
      file,
      "--axes",
      "qk-rank,mlp",
      "--json",
      "-q",
      ...THREADS,
    );
    expect(JSON.parse(again.stdout)).toEqual(readPlan());
    expect(again.stderr).toBe("");
  });

  it("the page has the chart and the tables, and loads nothing", () => {
    const html = readFileSync(page, "utf8");
    const colors = [...html.matchAll(/<line class="line ([^"]+)"[^>]*>(?:<\/line>)?<\/svg>([^<]+)/g)];
    expect(colors.map(([, kind, name]) => [name, kind])).toEqual([
      ["the path", "after"],
      ["qk-rank alone", "line-1 dash-0"],
      ["mlp alone", "line-2 dash-0"],
    ]);
    expect(html).toContain("Perplexity on held-out text by the parameters that are left");
    for (const part of ["the path", "qk-rank alone", "mlp alone", "step 1: "]) expect(html).toContain(part);
    expect(html).not.toMatch(/<script|https?:\/\//);
  });

  it("an interrupted plan says what is kept, and the same command goes on", async () => {
    const [own, axes] = [path("interrupted.json"), ["--axes", "mlp", "--floor", "80%"]];
    const line = ["plan", MODEL, "--calibration", TEXT, "-o", own, ...axes, ...QUICK];
    const { code, stderr } = await interrupted(line, "measuring mlp");
    expect(code).toBe(130);
    expect(stderr).toMatch(
      /nfc: interrupted; \d measurements? (is|are) kept in .*interrupted.json; the same command goes on from there\n$/,
    );
    const kept = readPlan(own).measurements;
    await ok(...line);
    expect(readPlan(own)).toMatchObject({ complete: true });
    expect(readPlan(own).measurements.slice(0, kept.length)).toEqual(kept);
  });

  it.each([
    [[], "--calibration FILE"],
    [["--calibration", TEXT, "--open"], "--html"],
    [["--calibration", TEXT, "--axes", "mpl"], "mlp"],
    [["--calibration", TEXT, "--floor", "140%"], "not a share"],
    [["--calibration", TEXT, "-o", TEXT], "is not a plan of nfc"],
    [["--calibration", path("nothing.txt")], "nothing.txt"],
    [["--calibration", TEXT, "--calibration-tokens", "1", "-o", path("short.json")], "1 token of calibration text"],
    [["--calibration", TEXT, "--tokens", "1", "-o", path("short.json")], "1 token to measure on"],
    [["--calibration", TEXT, "--html", TEXT, "-f", "-o", path("late.json")], "is not a page of nfc"],
  ])("%j is refused in one line", async (flags, part) => {
    expect(await refused(["plan", MODEL, ...flags])).toContain(part);
  });
});

describe("nfc convert --plan", () => {
  it("a step's expected perplexity is what nfc eval then measures, to a tenth of the loss", async () => {
    const plan = readPlan();
    const source = plan.measurements[0]?.perplexity as number;
    for (const step of [1, plan.steps.length]) {
      const output = fresh();
      const { stderr } = await ok("convert", MODEL, "--plan", file, "--at", String(step), "-o", output, ...THREADS);
      expect(stderr).toContain(`step ${step} of ${file}: qk-rank `);
      const expected = plan.measurements[plan.steps[step - 1]?.measurement as number]?.perplexity as number;
      const { stdout } = await ok("eval", output, "--text", heldOut, "--json", ...THREADS);
      const { perplexity } = JSON.parse(stdout) as { perplexity: number };
      expect(Math.abs(Math.log(perplexity / expected))).toBeLessThan(
        0.1 * Math.abs(Math.log(expected / source)) + 1e-6,
      );
      expect(JSON.parse(readFileSync(`${output}/nfc.json`, "utf8"))).toMatchObject({ plan: { file, step } });
    }
  });

  it("--target takes the first step that is small enough", async () => {
    const output = fresh();
    const line = ["convert", MODEL, "--plan", file, "--target", "80%", "-o", output, "--json", ...THREADS];
    const { parameters, plan } = JSON.parse((await ok(...line)).stdout) as {
      parameters: { before: number; after: number };
      plan: { step: number };
    };
    expect(parameters.after).toBeLessThanOrEqual(0.8 * parameters.before);
    const { steps, measurements } = readPlan();
    const before = measurements[steps[plan.step - 2]?.measurement as number];
    expect(before?.parameters).toBeGreaterThan(0.8 * parameters.before);
  });

  it("--target makes the last cut of the step as weak as it allows, and measures that model", async () => {
    const { steps, measurements } = readPlan();
    const step = 1 + steps.findIndex(({ axis, value }) => axis === "qk-rank" && value === 6);
    const [before, chosen] = [step - 2, step - 1].map((at) => measurements[steps[at]?.measurement as number]);
    expect(before?.cuts["qk-rank"]).toBe(8);
    const between = ((before?.parameters as number) + (chosen?.parameters as number)) / 2; // that of rank 7
    const target = `${Math.ceil((1e4 * between) / (measurements[0]?.parameters as number)) / 100}%`;
    const output = fresh();
    const line = ["convert", MODEL, "--plan", file, "--target", target, "-o", output, "--json", ...THREADS];
    const { stdout, stderr } = await ok(...line);
    expect(stderr).toContain(`step ${step} of ${file}, its last cut as weak as the target allows: qk-rank 7, mlp `);
    expect((JSON.parse(stdout) as { parameters: { after: number } }).parameters.after).toBe(between);
    const after = readPlan();
    expect(after.steps).toEqual(steps);
    expect(after.measurements.slice(0, -1)).toEqual(measurements);
    const weaker = after.measurements.at(-1);
    expect(weaker).toMatchObject({ cuts: { ...chosen?.cuts, "qk-rank": 7 }, parameters: between });
    const { perplexity } = JSON.parse((await ok("eval", output, "--text", heldOut, "--json", ...THREADS)).stdout);
    expect(Math.abs(Math.log(perplexity / (weaker?.perplexity as number)))).toBeLessThan(1e-3);
  });

  it("--target with --calibration makes the plan first, as far as it is needed", async () => {
    const [own, output] = [path("target.json"), fresh()];
    const flags = ["--calibration", TEXT, "--calibration-tokens", "512", ...THREADS];
    const { stdout } = await ok("convert", MODEL, "--plan", own, "--target", "+0.5%", "-o", output, "--json", ...flags);
    const { plan } = JSON.parse(stdout) as { plan: { step: number } };
    const { steps, measurements, complete } = readPlan(own);
    expect(complete).toBe(false);
    expect(steps.length).toBe(plan.step + 1);
    const last = measurements[steps.at(-1)?.measurement as number]?.perplexity as number;
    expect(last).toBeGreaterThan(1.005 * (measurements[0]?.perplexity as number));
  });

  it.each([
    [["--plan", file], "give --at N"],
    [["--plan", file, "--at", "1", "--target", "70%"], "exclude each other"],
    [["--plan", file, "--at", "99"], "choose one from 1 to"],
    [["--plan", file, "--target", "3%"], "the least of"],
    [["--plan", file, "--at", "1", "--variant", "symmetric"], "--variant does not go with a plan"],
    [["--plan", file, "--at", "1", "--mlp", "50%"], "--mlp does not go with a plan"],
    [["--plan", file, "--at", "1", "--repair"], "--repair does not go with a plan"],
    [["--plan", file, "--at", "1", "--no-repair"], "--no-repair does not go with a plan"],
    [["--plan", path("missing.json"), "--at", "1"], "make it with nfc plan"],
    [["--plan", path("missing.json"), "--target", "70%"], "give --calibration FILE"],
    [["--plan", file, "--at", "1", "--calibration", heldOut], "fitted to another text"],
    [["--plan", TEXT, "--at", "1"], "not valid JSON"],
    [["--target", "7"], "not a target"],
  ])("%j is refused, and nothing is written", async (flags, part) => {
    const output = fresh();
    expect(await refused(["convert", MODEL, "-o", output, ...flags])).toContain(part);
    expect(readdirSync(path()).some((name) => output.endsWith(name))).toBe(false);
  });

  it("an unfinished plan of another version is not gone on with", async () => {
    const [old, output] = [path("old.json"), fresh()];
    const plan = { ...readPlan(), tool: { name: "nfc", version: "0.0.9" }, complete: false };
    writeFileSync(old, JSON.stringify(plan));
    const line = ["convert", MODEL, "--plan", old, "--target", "3%", "-o", output, "-f", ...THREADS];
    expect(await refused(line)).toMatch(
      /old\.json: the model is not among its measurements, which version 0\.0\.9 .*--plan/,
    );
    expect(readFileSync(old, "utf8")).toBe(JSON.stringify(plan));
  });

  it("the tokens that are asked for are those of the plan, which a note says", async () => {
    const flags = ["--calibration-tokens", "50", "-o", fresh(), ...THREADS];
    const { stderr } = await ok("convert", MODEL, "--plan", file, "--at", "1", ...flags);
    expect(stderr).toContain("tokens of the plan: --calibration-tokens is for a new one");
  });

  it("the plan of another model is refused", async () => {
    const other = await writeCheckpoint(path("other"));
    const output = fresh();
    const message = await refused(["convert", other, "--plan", file, "--at", "1", "-o", output]);
    expect(message).toContain("is the plan of");
  });

  it("an output that is there is refused before anything is measured", async () => {
    const output = path("taken");
    await ok("convert", MODEL, "--plan", file, "--at", "1", "-o", output, ...THREADS);
    const { code, stderr } = await nfc([
      "convert",
      MODEL,
      "--plan",
      path("never.json"),
      "--target",
      "70%",
      "--calibration",
      TEXT,
      "-o",
      output,
    ]);
    expect(code).toBe(2);
    expect(stderr).not.toContain("measuring");
  });
});
