// What a dry run says of a run: counts are those of the run itself, times and sizes are near it, and nothing is written.
import { copyFileSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { loadTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { formatSeconds } from "../../src/cli/commands/train/dry-run.ts";
import { sampleText } from "../../src/distill/data/sample.ts";
import { type DryRun, dryRun } from "../../src/distill/dry-run.ts";
import { type TrainOptions, train } from "../../src/distill/train.ts";
import type { TrainSettings } from "../../src/distill/train-settings.ts";
import { failureOf } from "../support/failure.ts";
import { digest, MODEL, opened, TEXT } from "../support/fixture.ts";
import { SLOW } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { signalAt, type Workshop, workshop } from "../support/training.ts";

const path = temporaryFolder("dry-run");
const SETTINGS = { steps: 30, batchSize: 4, length: 16, transferSteps: 10, evalEvery: 5, evalTokens: 50 };
let shop: Workshop;
let student: string;

beforeAll(async () => {
  shop = await workshop(path);
  student = await shop.student("noise-distance");
});

type Given = Omit<Partial<TrainOptions>, "settings"> & { output: string; settings?: Partial<TrainSettings> };

/** A dry run and the same run, with the base as the teacher. */
const call = <T>(work: (model: Parameters<typeof train>[0], options: TrainOptions) => Promise<T>, given: Given) =>
  opened(shop.base, (teacher) =>
    opened(student, (model) => {
      const own = { data: [shop.data], cache: path("cache"), session: { threads: 1 }, teacher };
      return work(model, { ...own, ...given, settings: { ...SETTINGS, ...given.settings } });
    }),
  );
const dry = (given: Given, seconds = 0.2) => call((model, options) => dryRun(model, options, seconds), given);

it("a dry run counts what the run will do, and writes nothing", { timeout: 120_000 }, async () => {
  const before = digest(path(""));
  const output = path("deep", "out");
  const said = await dry({ output, cache: path("no-cache"), settings: { cacheTeacher: 4 } });
  expect(digest(path(""))).toEqual(before);
  expect(readdirSync(path("")).sort()).not.toContain("deep");
  expect(said).toMatchObject({
    output,
    steps: { transfer: 10, train: 20, done: 0 },
    tokens: 30 * 64,
    text: { tokens: 3000, exact: true },
    // 15, 20, 25 and 30, and student and teacher at the start.
    evaluations: { count: 6, tokens: 50 },
  });
  expect(said.epochs).toBeCloseTo((30 * 64) / 2940, 6);
  const { total, transferStep, trainStep, evaluation, prepare } = said.seconds;
  for (const part of [transferStep, trainStep, evaluation, prepare]) expect(part).toBeGreaterThan(0);
  expect(total).toBeCloseTo(prepare + 10 * transferStep + 20 * trainStep + 6 * evaluation, 6);
  expect(said.memoryBytes).toBeGreaterThan(50e6);
});

it("a dry run says the time and the space that the run then takes", { ...SLOW, timeout: 120_000 }, async () => {
  const settings = { steps: 400, batchSize: 32, length: 32, evalEvery: 200 };
  const said = await dry({ output: path("timed"), settings }, 3);
  const started = performance.now();
  await call(train, { output: path("timed"), settings });
  const took = (performance.now() - started) / 1000;
  expect(said.seconds.total / took).toBeGreaterThan(0.4);
  expect(said.seconds.total / took).toBeLessThan(2.5);
  const { size } = statSync(path("timed", "model.safetensors"));
  expect(said.diskBytes.output / size).toBeGreaterThan(0.9);
  expect(said.diskBytes.output / size).toBeLessThan(1.02);
});

it("a dry run says the space of the run's folder, which is fullest while a checkpoint is replaced", async () => {
  const settings = { steps: 30, quantize: "q4" } as const;
  const { diskBytes } = await dry({ output: path("space"), settings });
  await failureOf(() => call(train, { output: path("space"), settings, ...signalAt(25) }));
  const sizes = ["checkpoint", "best"].map((name) => statSync(join(path("space.run"), name, "model.safetensors")).size);
  const [checkpoint, best] = sizes as [number, number];
  expect(diskBytes.run / (2 * checkpoint + best)).toBeGreaterThan(0.98);
  expect(diskBytes.run / (2 * checkpoint + best)).toBeLessThan(1.02);
});

it("a dry run of one that goes on counts the steps that are left", { timeout: 120_000 }, async () => {
  const output = path("stopped");
  await failureOf(() => call(train, { output, ...signalAt(12) }));
  const before = digest(path(""));
  expect((await dry({ output, resume: true })).steps).toEqual({ transfer: 0, train: 18, done: 12 });
  expect(digest(path(""))).toEqual(before);
  const refused = await failureOf(() => dry({ output }));
  expect(refused.message).toContain("an unfinished run is there");
  expect((await dry({ output, force: true })).steps.done).toBe(0);
  await call(train, { output, resume: true });
  const longer: DryRun = await dry({ output, resume: true, settings: { steps: 50 } });
  expect(longer.steps).toEqual({ transfer: 0, train: 20, done: 30 });
  expect(longer.settings.extendedFrom).toBe(30);
});

it("a dry run refuses what the run refuses", async () => {
  const output = path("occupied");
  writeFileSync(output, "");
  expect((await failureOf(() => dry({ output }))).code).toBe("exists");
  expect((await failureOf(() => dry({ output: path("x"), data: ["/nowhere.txt"] }))).code).toBe("not-found");
  expect((await failureOf(() => dry({ output: path("x"), settings: { length: 33 } }))).code).toBe("usage");
});

it("a text is sampled: all of a short one, and an estimate of a long one from its bytes", async () => {
  const tokenizer = await opened(MODEL, ({ folder, config }) => loadTokenizer(folder, config));
  const options = { vocabulary: tokenizer.size };
  const all = await sampleText([TEXT], tokenizer, options, 1e6);
  expect(all).toMatchObject({ exact: true, tokens: all.corpus.tokens });
  expect([...(await all.corpus.read(5, 3))]).toEqual(tokenizer.encode(readFileSync(TEXT, "utf8")).slice(5, 8));
  const long = path("long.txt");
  writeFileSync(long, readFileSync(TEXT, "utf8").repeat(60));
  const part = await sampleText([long], tokenizer, options, 20_000);
  expect(part.exact).toBe(false);
  expect(part.corpus.tokens).toBeLessThan(part.tokens);
  expect(part.tokens / (60 * all.tokens)).toBeGreaterThan(0.7);
  expect(part.tokens / (60 * all.tokens)).toBeLessThan(1.3);
  copyFileSync(TEXT, path("short.txt"));
  writeFileSync(path("empty.txt"), "");
  expect((await failureOf(() => sampleText([path("empty.txt")], tokenizer, options, 10))).message).toContain(
    "no tokens",
  );
  expect((await failureOf(() => sampleText([TEXT], tokenizer, { vocabulary: 2 }, 10))).code).toBe("mismatch");
  expect(existsSync(path("tokens"))).toBe(false);
});

it.each([
  [0.0123, "0.012 s"],
  [9.96, "10 s"],
  [119, "119 s"],
  [120, "2 min"],
  [7199, "2 h"],
  [14_700, "4 h 5 min"],
  [200_000, "2 days 7 h"],
])("%d seconds are %s", (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text);
});
