// The cache of a teacher's k most likely tokens: what is stored, when the teacher runs, and every way an entry can be bad.
import { readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Checkpoint, openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import { TokenCorpus } from "../../../src/distill/data/token-cache.ts";
import { STEP } from "../../../src/distill/step/step-graph.ts";
import { type CachedTeacherOptions, openCachedTeacher, openTopKFile } from "../../../src/distill/teacher/cache.ts";
import type { TeacherSource } from "../../../src/distill/teacher/teacher.ts";
import { openTopKTeacher } from "../../../src/distill/teacher/top-k.ts";
import type { Tensor } from "../../../src/graph/session.ts";
import { failureOf } from "../../support/failure.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { metricsOf, weightsOf, workshop, writeIds } from "../../support/training.ts";

const at = temporaryFolder("teacher-cache");
let names = 0;
const fresh = () => at(`${names++}`);

describe("openTopKFile", () => {
  const logProbabilities = Float32Array.of(-0.25, -1.5, -3, -0.0625, -2, -17);
  const stored = (ids: number[]) => ({ ids: BigInt64Array.from(ids, BigInt), logProbabilities });
  const empty = () => ({ ids: new BigInt64Array(6), logProbabilities: new Float32Array(6) });
  const entry = stored([0, 7, 65_535, 3, 2, 1]);

  /** A file of windows 0 … 2, all alike. */
  async function filled(): Promise<{ path: string; size: number }> {
    const path = fresh();
    const file = await openTopKFile(path, 6, 65_536);
    for (const window of [0, 1, 2]) await file.write(window, entry, empty());
    await file.close();
    return { path, size: readFileSync(path).byteLength / 3 };
  }

  async function present(path: string): Promise<boolean[]> {
    const file = await openTopKFile(path, 6, 65_536);
    const found: boolean[] = [];
    for (const window of [0, 1, 2, 3]) found.push(await file.read(window, empty()));
    await file.close();
    return found;
  }

  for (const [vocabulary, ids, bytes] of [
    [65_536, [0, 7, 65_535, 3, 2, 1], 8 + 6 * 4],
    [65_537, [65_536, 7, 65_535, 3, 2, 1], 8 + 6 * 6],
  ] as const)
    it(`the file keeps ids and log-probabilities of a vocabulary of ${vocabulary}`, async () => {
      const path = fresh();
      const file = await openTopKFile(path, 6, vocabulary);
      const written = empty();
      await file.write(2, stored([...ids]), written);
      const read = empty();
      expect(await file.read(2, read)).toBe(true);
      expect(read).toEqual(stored([...ids])); // these values are exact in float16
      expect(written).toEqual(read);
      await file.close();
      expect(readFileSync(path).byteLength).toBe(3 * bytes);
    });

  it("the file lacks what was never written, and then leaves the arrays alone", async () => {
    const file = await openTopKFile(fresh(), 6, 65_536);
    await file.write(2, entry, empty());
    const into = stored([1, 2, 3, 4, 5, 6]);
    for (const hole of [0, 1, 3, 1000]) expect(await file.read(hole, into)).toBe(false);
    expect(into).toEqual(stored([1, 2, 3, 4, 5, 6]));
    await file.close();
  });

  it("the file rejects an entry of which any single bit has changed, and only that", async () => {
    const { path, size } = await filled();
    const whole = readFileSync(path);
    for (let bit = 8 * size; bit < 16 * size; bit++) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      writeFileSync(path, damaged);
      expect([bit, ...(await present(path))]).toEqual([bit, true, false, true, false]);
    }
  });

  it("the file rejects an entry that was cut, at any byte", async () => {
    const { path, size } = await filled();
    for (let cut = 3 * size - 1; cut >= 2 * size; cut--) {
      truncateSync(path, cut);
      expect(await present(path)).toEqual([true, true, false, false]);
    }
  });

  it("the file rejects an entry half of which is still the disk's zeros, at any byte", async () => {
    const { path, size } = await filled();
    const whole = readFileSync(path);
    for (let from = 0; from < size; from++) {
      const torn = Buffer.from(whole).fill(0, size + from, 2 * size);
      if (torn.equals(whole)) continue; // an entry that ends in zeros
      writeFileSync(path, torn);
      expect(await present(path)).toEqual([true, false, true, false]);
    }
  });

  it("the file rejects an entry with a wrong byte, and one that belongs to another window", async () => {
    const { path, size } = await filled();
    const whole = readFileSync(path);
    for (let i = 0; i < size; i++) {
      const wrong = Buffer.from(whole);
      wrong[size + i] = (wrong[size + i] as number) ^ 1;
      writeFileSync(path, wrong);
      expect(await present(path)).toEqual([true, false, true, false]);
    }
    writeFileSync(path, Buffer.concat([whole.subarray(size), whole.subarray(0, size)]));
    expect(await present(path)).toEqual([false, false, false, false]);
  });

  it("a file in an unusable folder is refused with the folder's name and how to choose another", async () => {
    const path = fresh();
    writeFileSync(path, "");
    const error = await failureOf(() => openTopKFile(`${path}/x.topk`, 6, 100));
    expect(error).toMatchObject({ code: "io", hint: "choose a folder for cache files with --cache" });
    expect(error.message).toContain(`${path}/x.topk`);
  });
});

describe("a teacher with a cache", () => {
  const [BATCH, LENGTH, VOCAB, K] = [2, 8, 61, 5];
  let checkpoint: Checkpoint;
  let corpus: TokenCorpus;
  let longer: TokenCorpus;
  beforeAll(async () => {
    checkpoint = await openCheckpoint(await writeCheckpoint(at("model"), { width: 16, vocab: VOCAB }));
    const open = (name: string, count: number) => {
      writeFileSync(
        at(name),
        Uint16Array.from({ length: count }, (_, i) => (i * i) % VOCAB),
      );
      return TokenCorpus.open([at(name)], null, { vocabulary: VOCAB });
    };
    [corpus, longer] = [await open("ids.bin", 100), await open("longer.bin", 120)];
  });
  afterAll(async () => {
    for (const thing of [checkpoint, corpus, longer]) await thing.close();
  });
  const options = (cache: string, given: Partial<CachedTeacherOptions> = {}): CachedTeacherOptions => ({
    batch: BATCH,
    length: LENGTH,
    k: K,
    precision: "fp32",
    range: { corpus, start: 0, end: 100 },
    cache,
    threads: 1,
    ...given,
  });
  const inputsOf = async (windows: Int32Array) => {
    const parts = await Promise.all(Array.from(windows, (window) => corpus.read(window * LENGTH, LENGTH)));
    return Int32Array.from(parts.flatMap((part) => [...part]));
  };
  async function feeds(teacher: TeacherSource, ...windows: number[]) {
    const found = await teacher.feeds(await inputsOf(Int32Array.from(windows)), Int32Array.from(windows));
    const [ids, logs] = [found[STEP.teacherIds], found[STEP.teacherLogProbabilities]];
    expect([ids?.shape, logs?.shape]).toEqual([
      [BATCH * LENGTH, K],
      [BATCH * LENGTH, K],
    ]);
    return { ids: [...((ids as Tensor).data as BigInt64Array)], logs: [...((logs as Tensor).data as Float32Array)] };
  }
  /** The same model, whose weights may not be read: its session cannot be opened. */
  const unreadable = (): Checkpoint => ({
    ...checkpoint,
    reader: checkpoint.reader,
    tensors: checkpoint.tensors,
    readF32: (name) => Promise.reject(new Error(`the teacher runs: ${name}`)),
  });

  it("a cached teacher feeds what the teacher gives for each window, rounded to float16", async () => {
    const teacher = await openCachedTeacher(checkpoint, options(fresh()));
    const direct = await openTopKTeacher(checkpoint, { length: LENGTH, k: K, precision: "fp32", threads: 1 });
    const { ids, logs } = await feeds(teacher, 9, 4);
    for (const [b, window] of [9, 4].entries()) {
      const expected = await direct.run(await inputsOf(Int32Array.of(window)), window);
      const from = b * LENGTH * K;
      expect(ids.slice(from, from + LENGTH * K)).toEqual([...expected.ids]);
      for (const [i, log] of expected.logProbabilities.entries())
        expect(Math.abs((logs[from + i] as number) - log)).toBeLessThanOrEqual(2 ** -11 * Math.abs(log) + 1e-7);
    }
    await direct.close();
    await teacher.close();
  });

  it("a cached teacher runs its model for missing windows alone, and gives the same bits from the file", async () => {
    const cache = fresh();
    const first = await openCachedTeacher(checkpoint, options(cache));
    const told = [await feeds(first, 3, 0), await feeds(first, 7, 3)];
    await first.close();
    const second = await openCachedTeacher(unreadable(), options(cache));
    expect([await feeds(second, 3, 0), await feeds(second, 7, 3)]).toEqual(told);
    await expect(feeds(second, 3, 1)).rejects.toThrow("the teacher runs");
    await second.close();
  });

  it("a cached teacher gives the same for a window whatever stands beside it in the batch", async () => {
    const teachers = [
      await openCachedTeacher(checkpoint, options(fresh(), { precision: "int8" })),
      await openCachedTeacher(checkpoint, options(fresh(), { precision: "int8" })),
    ] as const;
    const [a, b] = [await feeds(teachers[0], 2, 5), await feeds(teachers[1], 8, 2)];
    expect(a.logs.slice(0, LENGTH * K)).toEqual(b.logs.slice(LENGTH * K));
    for (const teacher of teachers) await teacher.close();
  });

  it("a cached teacher keeps apart whatever an entry depends on, and shares the rest", async () => {
    const cache = fresh();
    const other = await openCheckpoint(await writeCheckpoint(at("other"), { width: 16, vocab: VOCAB, seed: 9 }));
    const variations: [Checkpoint, Partial<CachedTeacherOptions>][] = [
      [checkpoint, {}],
      [other, {}],
      [checkpoint, { k: K + 1 }],
      [checkpoint, { length: LENGTH - 1 }],
      [checkpoint, { precision: "int8" }],
      [checkpoint, { range: { corpus, start: 8, end: 100 } }],
      [checkpoint, { range: { corpus: longer, start: 0, end: 100 } }],
      // The same file as the first: batch, end and threads do not matter.
      [checkpoint, { batch: 4, threads: 2, range: { corpus, start: 0, end: 90 } }],
    ];
    const files: number[] = [];
    for (const [model, given] of variations) {
      await (await openCachedTeacher(model, options(cache, given))).close();
      files.push(readdirSync(cache).length);
    }
    expect(files).toEqual([1, 2, 3, 4, 5, 6, 7, 7]);
    await other.close();
  });

  it("a cached teacher refuses more tokens than there are", async () => {
    const error = await failureOf(() => openCachedTeacher(checkpoint, options(fresh(), { k: VOCAB + 1 })));
    expect(error).toMatchObject({ code: "usage", hint: "take 61 at most" });
  });
});

describe("a run with a cached teacher", () => {
  it("a run writes the same bytes with an empty, a full and a torn cache file, over epochs", async () => {
    const shop = await workshop(at);
    const student = await shop.student("symmetric");
    // 500 ids less the held-out end: 30 windows of 16; 4 a step, so that 12 steps are more than an epoch.
    const data = [writeIds(at("few.bin"), 500)];
    const settings = { steps: 12, transferSteps: 4, cacheTeacher: 8, noise: "mean" } as const;
    const cache = at("run-cache");
    const run = async (name: string) => {
      await shop.distil(student, { output: at(name), data, cache, settings });
      return { bytes: weightsOf(at(name)), metrics: metricsOf(at(name)) };
    };
    const first = await run("first");
    const [file] = readdirSync(cache).filter((name) => name.endsWith(".topk"));
    const path = `${cache}/${file}`;
    const whole = readFileSync(path);
    expect(await run("again")).toEqual(first);
    expect(readFileSync(path).equals(whole)).toBe(true);
    truncateSync(path, Math.floor(whole.byteLength / 3));
    expect(await run("torn")).toEqual(first);
    expect(readFileSync(path).equals(whole)).toBe(true);
    await shop.distil(student, { output: at("whole"), data, cache, settings: { ...settings, cacheTeacher: 0 } });
    expect(weightsOf(at("whole")).equals(first.bytes)).toBe(false);
  });
});
