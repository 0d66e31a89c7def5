// Fine-tuning on a task: it learns, keeps the best weights, goes on to the bit, and refuses what does not fit.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { identifySelf } from "../../../src/io/process.ts";
import { Classifier, scoreAnswers } from "../../../src/tasks/classify.ts";
import { encodeExamples } from "../../../src/tasks/examples.ts";
import { findTask } from "../../../src/tasks/glue-tasks.ts";
import { readTaskFile } from "../../../src/tasks/task-file.ts";
import { type FinetuneTaskOptions, finetuneTask } from "../../../src/tasks/train/finetune-task.ts";
import { failureOf } from "../../support/failure.ts";
import { converted, digest, MODEL, opened } from "../../support/fixture.ts";
import { writePairs, writeSst2 } from "../../support/task-data.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("finetune-task");
const data = writeSst2(path("SST-2"));
const task = findTask("sst2");
const SETTINGS = { epochs: 6, lr: 3e-3, batchSize: 16, length: 24, evalEvery: 10 };
const SESSION = { threads: 1 };

const tune = (output: string, options: Partial<FinetuneTaskOptions> = {}, model = MODEL) =>
  opened(model, (checkpoint) =>
    finetuneTask(checkpoint, { output, task, data, settings: SETTINGS, session: SESSION, ...options }),
  );

/** Weights and configuration, without the record, which holds times and paths. */
const model = (folder: string) => Object.entries(digest(folder)).filter(([name]) => !/nfc\.json|metrics/.test(name));

describe("fine-tuning on a task", () => {
  it.each(["dense", "noise-per-head", "noise-distance"] as const)(
    "%s learns the task and becomes a classifier",
    async (variant) => {
      const source = variant === "dense" ? MODEL : path(variant);
      if (variant !== "dense") await converted({ output: source, variant });
      const out = path(`${variant}-tuned`);
      const { dev, best, record } = await tune(out, {}, source);
      expect(dev.metrics.accuracy).toBeGreaterThan(0.95);
      expect(dev.metrics.accuracy).toBe(best.score);
      expect(dev.confusion?.flat().reduce((a, b) => a + b)).toBe(40);
      expect(record.history.at(-1)).toMatchObject({ step: "finetune", task: "sst2", settings: { epochs: 6, seed: 0 } });
      expect(existsSync(`${out}.run`)).toBe(false);
      const config = JSON.parse(readFileSync(`${out}/config.json`, "utf8"));
      expect(config).toMatchObject({
        architectures: ["GPT2ForSequenceClassification"],
        id2label: { 0: "negative", 1: "positive" },
        problem_type: "single_label_classification",
      });
      // What is on disk scores what was reported.
      await opened(out, async (checkpoint) => {
        expect(checkpoint.config.labels).toEqual(["negative", "positive"]);
        const tokenizer = await loadTokenizer(checkpoint.folder, checkpoint.config);
        const { examples } = await readTaskFile(data, "dev.tsv", task);
        const encoded = encodeExamples(examples, tokenizer, 24);
        const classifier = await Classifier.ofCheckpoint(checkpoint, SESSION);
        const score = scoreAnswers(task, encoded, await classifier.logits(encoded, { length: 24 }));
        await classifier.close();
        expect(score.metrics).toEqual(dev.metrics);
        expect(score.loss).toBeCloseTo(dev.loss, 5);
      });
    },
  );

  it.each([
    ["mnli", 3],
    ["qqp", 2],
    ["stsb", 1],
  ] as const)("%s runs in its own file format and has its own outputs", async (name, outputs) => {
    const folder = writePairs(path(`glue/${name}`), name);
    const settings = { ...SETTINGS, epochs: 1, length: 48 };
    const { dev, examples } = await tune(path(`${name}-tuned`), { task: findTask(name), data: folder, settings });
    expect(examples).toBe(60);
    expect(Object.keys(dev.metrics)).toEqual([...findTask(name).metrics]);
    expect(dev.confusion?.length ?? 1).toBe(outputs);
    expect(dev.loss).toBeGreaterThan(0);
    await opened(path(`${name}-tuned`), ({ config }) => expect(config.labels).toHaveLength(outputs));
  });

  it("a classifier serves as a teacher and as the start of more training", async () => {
    const [teacher, student] = [path("dense-tuned"), path("taught")];
    const { settings } = await opened(teacher, (checkpoint) => tune(student, { teacher: checkpoint }));
    expect(settings.kd).toBe(0.5);
    expect(readFileSync(`${student}/metrics.jsonl`, "utf8")).toContain('"kl":');
    const { dev } = await tune(path("more"), { settings: { ...SETTINGS, epochs: 1 } }, teacher);
    expect(dev.metrics.accuracy).toBeGreaterThan(0.95);
  });

  it("a student of fewer tokens learns from a classifier that has all of them", async () => {
    const small = path("fewer-tokens");
    writeFileSync(path("words.txt"), "the film is good, and the actors are");
    await converted({ output: small, variant: "dense", vocabulary: { text: [path("words.txt")] } });
    const settings = { ...SETTINGS, epochs: 1, length: 48 };
    await opened(path("dense-tuned"), async (teacher) => {
      const { record } = await tune(path("fewer-taught"), { teacher, settings }, small);
      expect(record.cuts).toMatchObject([{ axis: "vocabulary", from: 384 }]);
      expect(readFileSync(path("fewer-taught/metrics.jsonl"), "utf8")).toContain('"kl":');
    });
  });

  it("a run stops when nothing gets better, and keeps the best step", async () => {
    const { best, steps } = await tune(path("early"), { settings: { ...SETTINGS, epochs: 50, patience: 2 } });
    const evaluations = readFileSync(path("early/metrics.jsonl"), "utf8")
      .split("\n")
      .filter((line) => line.includes('"eval"'))
      .map((line) => JSON.parse(line) as { step: number; eval: { accuracy: number } });
    expect(evaluations.at(-1)?.step).toBeLessThan(steps);
    expect(evaluations.at(-1)?.step).toBe(best.step + 2 * SETTINGS.evalEvery);
    expect(best.score).toBe(Math.max(...evaluations.map(({ eval: { accuracy } }) => accuracy)));
  });

  it("a run splits the development file where asked, in the same way for the same seed", async () => {
    const folder = writeSst2(path("dev alone"));
    rmSync(`${folder}/train.tsv`);
    const options = { data: folder, splitDev: 0.25, settings: { ...SETTINGS, epochs: 1 } };
    const { examples, dev } = await tune(path("split"), options);
    expect(examples + dev.examples).toBe(40);
    await tune(path("split again"), options);
    expect(model(path("split again"))).toEqual(model(path("split")));
  });
});

it("a metric that is not defined counts as no score, and any score beats it", async () => {
  const folder = writePairs(path("constant"), "stsb");
  const text = readFileSync(`${folder}/dev.tsv`, "utf8").replace(/\t[\d.]+$/gm, "\t2.6");
  writeFileSync(`${folder}/dev.tsv`, text.replace(/^(.*)\t2\.6/, "$1\tscore"));
  const settings = { ...SETTINGS, epochs: 1, length: 48 };
  const { best, dev } = await tune(path("undefined"), { task: findTask("stsb"), data: folder, settings });
  expect(dev.metrics.pearson).toBeNull();
  expect(best.score).toBeNull();
});

describe("interrupted runs on a task", () => {
  it.each([3, 10, 17])("a run of noise-shared interrupted at step %d resumes to the same bytes", async (at) => {
    const source = path(`shared-${at}`);
    await converted({ output: source, variant: "noise-shared" });
    // The prior's gradient is made anew at each step, and step 10 is interrupted before its evaluation.
    const settings = { ...SETTINGS, epochs: 3, noiseKl: 0.01 };
    await tune(path(`whole-${at}`), { settings }, source);
    const abort = new AbortController();
    const options = { settings, signal: abort.signal };
    const onProgress = ({ done }: { done: number }) => done === at && abort.abort();
    const out = path(`resumed-${at}`);
    const error = await failureOf(() => tune(out, { ...options, onProgress }, source));
    expect(error.code).toBe("aborted");
    expect(error.message).toContain(`step ${at} of 30 is saved in ${out}.run`);
    expect(existsSync(out)).toBe(false);
    const { resumedFrom } = await tune(out, { settings, resume: true }, source);
    expect(resumedFrom).toBe(at);
    expect(model(out)).toEqual(model(path(`whole-${at}`)));
  });

  it('resume "if-same" continues a run with the same settings and starts over otherwise', async () => {
    const out = path("if-same");
    const interrupt = async () => {
      const abort = new AbortController();
      const onProgress = ({ done }: { done: number }) => done === 3 && abort.abort();
      await failureOf(() => tune(out, { signal: abort.signal, onProgress, force: true }));
    };
    await interrupt();
    expect((await tune(out, { resume: "if-same", force: true })).resumedFrom).toBe(3);
    await interrupt();
    const settings = { ...SETTINGS, lr: 1e-3 };
    expect((await tune(out, { resume: "if-same", force: true, settings })).resumedFrom).toBeNull();
    await interrupt();
    writeFileSync(`${out}.run/run.json`, "{}");
    expect((await tune(out, { resume: "if-same", force: true })).resumedFrom).toBeNull();
  });

  it("a run that another process works on is left alone", async () => {
    const out = path("locked");
    mkdirSync(`${out}.run`);
    const lock = JSON.stringify({ ...identifySelf(), host: "here", id: "another" });
    writeFileSync(`${out}.run/lock`, lock);
    const error = await failureOf(() => tune(out, { force: true }));
    expect(error.message).toBe(`${out}.run: process ${process.pid} is at work in it`);
    expect(readFileSync(`${out}.run/lock`, "utf8")).toBe(lock);
  });

  it("an interrupted run with other settings or data is not resumed", async () => {
    const abort = new AbortController();
    const out = path("changed");
    const onProgress = ({ done }: { done: number }) => done === 2 && abort.abort();
    await failureOf(() => tune(out, { signal: abort.signal, onProgress }));
    const other = await failureOf(() => tune(out, { resume: true, settings: { ...SETTINGS, lr: 1e-4 } }));
    expect(other.message).toContain("this run had other settings: lr (0.003 → 0.0001)");
    const more = writeSst2(path("more/SST-2"), { train: 170 });
    expect((await failureOf(() => tune(out, { resume: true, data: more }))).message).toContain("data (");
    expect((await failureOf(() => tune(out))).code).toBe("exists");
  });
});

describe("refusals before anything is written", () => {
  const refusal = async (options: Partial<FinetuneTaskOptions>, source = MODEL) => {
    const before = readdirSync(path("")).length;
    const error = await failureOf(() => tune(path("refused"), options, source));
    expect(readdirSync(path("")).length).toBe(before);
    return `${error.code}: ${error.message}`;
  };

  it("a language model as teacher, and distilling without a teacher, are refused", async () => {
    await opened(MODEL, async (teacher) => {
      expect(await refusal({ teacher })).toContain("is a language model, not a teacher for SST-2");
    });
    expect(await refusal({ settings: { ...SETTINGS, kd: 0.5 } })).toContain("usage: there is no teacher");
  });

  it("a teacher of another vocabulary, and one too short for the texts, are refused", async () => {
    await opened(path("dense-tuned"), async (teacher) => {
      const other = { ...teacher, config: { ...teacher.config, vocab_size: 100 } };
      expect(await refusal({ teacher: other })).toMatch(/^mismatch: .* has 384 tokens, its teacher .* 100$/);
      const short = { ...teacher, config: { ...teacher.config, n_positions: 16 } };
      expect(await refusal({ teacher: short })).toMatch(
        /^mismatch: windows of 24 tokens, but the teacher .* 16 positions$/,
      );
    });
  });

  it("a classifier of another task, texts longer than the model, and shares out of range are refused", async () => {
    const cola = path("CoLA");
    mkdirSync(cola);
    for (const file of ["train", "dev"]) writeFileSync(`${cola}/${file}.tsv`, "a\t1\t\tIt is.\nb\t0\t*\tIs it is.\n");
    expect(await refusal({ task: findTask("cola"), data: cola }, path("dense-tuned"))).toContain(
      "classifies as negative, positive, not as unacceptable, acceptable",
    );
    for (const [settings, fact] of [
      [{ length: 65 }, "texts of 65 tokens, but the model has 64 positions"],
      [{ warmup: 50 }, "--warmup 50 is above 1"],
      [{ floor: 5 }, "--lr-floor 5 is above 1"],
      [{ beta1: 1 }, "--beta1 1 is not below 1"],
    ] as const)
      expect(await refusal({ settings })).toContain(fact);
  });

  it("a split beside a training file, and a split that leaves a part empty, are refused", async () => {
    expect(await refusal({ splitDev: 0.5 })).toContain("train.tsv is there: nothing has to be split");
    const [alone, few] = [path("dev alone"), path("one example")];
    mkdirSync(few);
    writeFileSync(`${few}/dev.tsv`, "sentence\tlabel\nfine\t1\n");
    expect(await refusal({ data: alone, splitDev: 1 })).toContain("--split-dev 1 leaves no examples to train on");
    expect(await refusal({ data: few, splitDev: 1e-9 })).toContain("leaves no examples to score on");
  });

  it("a damaged training file is refused with its line", async () => {
    const folder = writeSst2(path("damaged"));
    writeFileSync(`${folder}/train.tsv`, "sentence\tlabel\nfine\t1\nbroken\n");
    expect(await refusal({ data: folder })).toBe(`invalid-file: ${folder}/train.tsv: line 3: 1 columns, not 2`);
  });
});
