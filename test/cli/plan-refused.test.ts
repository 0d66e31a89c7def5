// nfc plan and nfc convert by a plan: what is refused before anything is measured, and what two runs may not do at once.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { type Plan, planSchema } from "../../src/convert/plan/plan-file.ts";
import { lockFolder, unlockFolder } from "../../src/io/folder-lock.ts";
import { ok, refused } from "../support/cli.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("plan-refused");
const THREADS = ["--threads", "1"];
const WINDOWS = ["--calibration-tokens", "500", "--tokens", "700"];
const calibration = path("calibration.jsonl");
const file = path("plan.json");
const readPlan = (from = file): Plan => planSchema.parse(JSON.parse(readFileSync(from, "utf8")));
const nameWork = (plan: string) => join(dirname(plan), `.${basename(plan)}.nfc-work`);

beforeAll(async () => {
  const records = readFileSync(TEXT, "utf8").split("\n\n");
  const lines = records.map((text) => JSON.stringify({ body: text, other: text.toUpperCase() }));
  writeFileSync(calibration, lines.join("\n"));
  const text = ["--calibration", calibration, "--field", "body"];
  await ok("plan", MODEL, ...text, ...WINDOWS, "--axes", "qk-rank", "--floor", "90%", "-o", file, ...THREADS);
}, 240_000);

describe("refused before anything is measured", () => {
  it("a plan and its page that would be one file", async () => {
    const line = ["plan", MODEL, "--calibration", TEXT, "-o", path("one"), "--html", `${path()}/./one`];
    expect(await refused(line)).toContain("the plan and its page cannot be one file");
    expect(existsSync(path("one"))).toBe(false);
  });

  it.each([["out"], ["out/plan.json"]])("a plan at %s that the output would take the place of", async (place) => {
    const line = ["convert", MODEL, "--target", "95%", "--calibration", TEXT, "--plan", path(place), "-o", path("out")];
    expect(await refused(line)).toContain("the plan cannot lie in the output folder");
    expect(existsSync(path("out"))).toBe(false);
  });

  it("a vocabulary that is smaller than it can be, and a text that is too short for the MLPs", async () => {
    const cuts = ["--variant", "low-rank", "--mlp", "50%", "--vocab-from", TEXT, "--vocab-size", "3"];
    const small = await refused(["convert", MODEL, "--calibration", TEXT, ...cuts, "-o", path("small"), ...THREADS]);
    expect(small).toContain("cannot keep only 3 tokens");
    const plan = path("short.json");
    const short = ["--calibration-tokens", "64", "--axes", "qk-rank,mlp", "-o", plan];
    expect(await refused(["plan", MODEL, "--calibration", TEXT, ...short, ...THREADS])).toContain(
      "too short for the ridge",
    );
    expect(existsSync(plan)).toBe(false);
  });

  it("an output without a name, and threads beyond reason", async () => {
    expect(await refused(["plan", MODEL, "--calibration", TEXT, "-o", ""])).toContain("an empty path names no output");
    expect(await refused(["plan", MODEL, "--calibration", TEXT, "--threads", "100000"])).toContain("--threads");
  });
});

describe("a plan that is applied", () => {
  it("is fitted to the field that it was made with, and refuses another one", async () => {
    const [own, named] = [path("own"), path("named")];
    await ok("convert", MODEL, "--plan", file, "--at", "1", "-o", own, ...THREADS);
    await ok("convert", MODEL, "--plan", file, "--at", "1", "--field", "body", "-o", named, ...THREADS);
    const read = (folder: string) => readFileSync(join(folder, "model.safetensors"));
    expect(read(own).equals(read(named))).toBe(true);
    const other = ["convert", MODEL, "--plan", file, "--at", "1", "--field", "other", "-o", path("other")];
    expect(await refused(other)).toContain("its texts were read by --field body, not --field other");
  });

  it("has the loss that was foretold, measured on the windows of the plan: tokens that are no whole windows", async () => {
    const made = readPlan();
    expect(made.calibration).toMatchObject({ tokens: 512, asked: 500, every: 3 });
    expect(made.heldOut).toMatchObject({ tokens: 700, every: 3 });
    const output = path("weaker");
    const { stderr } = await ok("convert", MODEL, "--plan", file, "--target", "96%", "-o", output, ...THREADS);
    expect(stderr).toContain("its last cut as weak as the target allows");
    const [source, weaker] = [readPlan().measurements[0], readPlan().measurements.at(-1)];
    // A weaker cut of a rank loses no more than the stronger one; on other windows both would differ by far more.
    const stronger = made.measurements.find(({ cuts }) => cuts["qk-rank"] === 8);
    expect(weaker?.kl).toBeLessThanOrEqual((stronger?.kl as number) + 1e-4);
    const change = Math.abs(Math.log((weaker?.perplexity as number) / (source?.perplexity as number)));
    expect(change).toBeLessThan(0.005);
  });

  it("of another version gets no measurement", async () => {
    const old = path("old.json");
    const content = JSON.stringify({ ...readPlan(), tool: { name: "nfc", version: "0.0.9" } });
    writeFileSync(old, content);
    const line = ["convert", MODEL, "--plan", old, "--target", "97.3%", "-o", path("never"), ...THREADS];
    expect(await refused(line)).toContain("which version 0.0.9 of nfc made");
    expect(readFileSync(old, "utf8")).toBe(content);
  });
});

describe("the work beside a plan's file", () => {
  it("is one run's: another is refused, and the plan stays as it is", async () => {
    const before = readFileSync(file, "utf8");
    await lockFolder(nameWork(file));
    try {
      const line = ["plan", MODEL, "--calibration", calibration, "--field", "body", ...WINDOWS, "-o", file, ...THREADS];
      expect(await refused(line)).toMatch(/plan\.json: process \d+ is at work in it/);
    } finally {
      await unlockFolder(nameWork(file));
    }
    expect(readFileSync(file, "utf8")).toBe(before);
    expect(existsSync(nameWork(file))).toBe(false);
  });

  it("that a killed run left is taken over and removed", async () => {
    const plan = path("killed.json");
    mkdirSync(nameWork(plan));
    writeFileSync(join(nameWork(plan), "tensors"), "left");
    const text = ["--calibration", TEXT, ...WINDOWS, "--axes", "layers"];
    await ok("plan", MODEL, ...text, "-o", plan, ...THREADS);
    expect(existsSync(nameWork(plan))).toBe(false);
  });

  it("one window of held-out text gives no standard error", async () => {
    const plan = path("single.json");
    const text = ["--calibration", TEXT, "--text", TEXT, "--calibration-tokens", "500", "--tokens", "64"];
    const { stdout } = await ok("plan", MODEL, ...text, "--axes", "layers", "-o", plan, ...THREADS);
    expect(stdout).toMatch(/^ +1 {2}layers 1 .* \+\d+\.\d\d % {2}\? {2}/m);
    expect(readPlan(plan).measurements[1]).toMatchObject({ error: null, klError: null });
    const { stderr } = await ok("convert", MODEL, "--plan", plan, "--at", "1", "-o", path("one-window"), ...THREADS);
    expect(stderr).toMatch(/expected perplexity [\d.]+ \(\+[\d.]+ % ± \?\)/);
  });
});
