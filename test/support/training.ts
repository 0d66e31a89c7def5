// Tiny training runs for tests: a trained source model, students of every variant, token ids, and what a run leaves.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { makeFreshModel } from "../../src/distill/fresh-model.ts";
import type { TrainOptions, TrainResult } from "../../src/distill/train.ts";
import { train } from "../../src/distill/train.ts";
import { resolveTrainSettings, type TrainMode, type TrainSettings } from "../../src/distill/train-settings.ts";
import { VARIANT_TRAITS, type Variant } from "../../src/model/variants.ts";
import { converted, opened } from "./fixture.ts";
import { once } from "./once.ts";

export const TINY_CONFIG = { n_layer: 2, n_head: 2, n_embd: 32, n_positions: 32, vocab_size: 61 };

/** nanoGPT's .bin: each id follows from the one before it, and one in four is drawn. */
export function writeIds(file: string, count = 3000, vocabulary = TINY_CONFIG.vocab_size): string {
  let [state, id] = [7, 0];
  const ids = Uint16Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    id = (state >>> 16) % 4 === 0 ? (state >>> 20) % vocabulary : (5 * id + 3) % vocabulary;
    return id;
  });
  writeFileSync(file, ids);
  return file;
}

export function writeJson(file: string, value: unknown): string {
  writeFileSync(file, JSON.stringify(value));
  return file;
}

export type Given = Omit<Partial<TrainOptions>, "settings"> & { settings?: Partial<TrainSettings> };

/** Steps of 4 windows of 16 tokens, all else at its default. */
export function settingsFor(
  task: TrainMode,
  { config }: Checkpoint,
  given: Partial<TrainSettings> = {},
): TrainSettings {
  return resolveTrainSettings(task, config, { steps: 6, batchSize: 4, length: 16, evalTokens: 200, ...given });
}

export interface Workshop {
  data: string;
  /** A dense model that has learnt the data a little. */
  base: string;
  /** The base converted to a variant, or the base itself; a model of its own for pairwise and low-rank attention. */
  student(variant: Variant): Promise<string>;
  /** A run of `task` on a stored model. */
  run(task: TrainMode, model: string, options: Given & { output: string }): Promise<TrainResult>;
  /** The same with the base as the teacher. */
  distil(model: string, options: Given & { output: string }): Promise<TrainResult>;
}

/** Lays data and base in a folder. */
export async function workshop(path: (...parts: string[]) => string): Promise<Workshop> {
  const [data, base] = [path("ids.bin"), path("base")];
  const made = await once("workshop", makeBase);
  for (const [name, target] of Object.entries({ "ids.bin": data, base }))
    cpSync(join(made, name), target, { recursive: true });
  const common = { data: [data], cache: path("cache"), session: { threads: 1 } };
  const start = (task: TrainMode, model: string, teacher: Checkpoint | null, options: Given & { output: string }) =>
    opened(model, (student) =>
      train(student, { ...common, ...options, teacher, settings: settingsFor(task, student, options.settings) }),
    );
  const students = new Map<Variant, string>([["dense", base]]);
  return {
    data,
    base,
    async student(variant) {
      const output = students.get(variant) ?? path(`student-${variant}`);
      if (!students.has(variant)) {
        const made = await once(`student-${variant}`, (folder) => makeStudent(variant, folder));
        cpSync(join(made, "model"), output, { recursive: true });
      }
      students.set(variant, output);
      return output;
    },
    run: (task, model, options) => start(task, model, options.teacher ?? null, options),
    distil: (model, options) => opened(base, (teacher) => start("distill", model, teacher, options)),
  };
}

/** Token ids, and a dense model that has learnt them a little. */
async function makeBase(folder: string): Promise<void> {
  writeIds(join(folder, "ids.bin"));
  await pretrain(folder, join(folder, "base"), { seed: 3 }, 40);
}

async function makeStudent(variant: Variant, folder: string): Promise<void> {
  const output = join(folder, "model");
  if (VARIANT_TRAITS[variant].narrow || VARIANT_TRAITS[variant].paired) {
    writeIds(join(folder, "ids.bin"));
    await pretrain(folder, output, { variant, seed: 4 }, 20);
  } else await converted({ output, variant }, join(await once("workshop", makeBase), "base"));
}

async function pretrain(
  folder: string,
  output: string,
  start: { variant?: Variant; seed: number },
  steps: number,
): Promise<void> {
  const fresh = await makeFreshModel({ config: writeJson(join(folder, "config.json"), TINY_CONFIG), ...start });
  const settings = settingsFor("pretrain", fresh, { steps, lr: 1e-2 });
  const common = { data: [join(folder, "ids.bin")], cache: join(folder, "cache"), session: { threads: 1 } };
  await train(fresh, { ...common, output, settings });
}

export const weightsOf = (folder: string): Buffer => readFileSync(join(folder, "model.safetensors"));

/** The lines of metrics.jsonl without the times. */
export function metricsOf(folder: string): Record<string, unknown>[] {
  const lines = readFileSync(join(folder, "metrics.jsonl"), "utf8").trimEnd().split("\n");
  return lines.map((line) => {
    const { seconds, tokens_per_second, ...rest } = JSON.parse(line);
    return rest;
  });
}

/** A signal that fires at its `count`-th reading, and the number of readings so far. */
export function countedSignal(count: number): { signal: AbortSignal; readings: () => number } {
  const controller = new AbortController();
  let readings = 0;
  Object.defineProperty(controller.signal, "aborted", { get: () => ++readings >= count });
  return { signal: controller.signal, readings: () => readings };
}

/** A signal that fires when a step has ended. */
export function signalAt(step: number): Pick<TrainOptions, "signal" | "onProgress"> {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    onProgress: ({ phase, unit, done }) => {
      if (unit === "steps" && !phase.startsWith("mixed") && done === step) controller.abort();
    },
  };
}
