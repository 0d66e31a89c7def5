// The GLUE table: models × tasks × seeds, one fine-tuning a cell, each finished cell kept, so that a run can be taken up.
import { existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { NfcError } from "../errors.ts";
import type { SessionOptions } from "../graph/session.ts";
import { meanAndSpread } from "../inference/tasks/metrics.ts";
import type { TaskReading } from "../inference/tasks/task-file.ts";
import type { Task } from "../inference/tasks/tasks.ts";
import { withIoErrors } from "../io/io-error.ts";
import { type Checkpoint, openCheckpoint } from "../model/checkpoint.ts";
import { parameterCount } from "../model/parameters.ts";
import type { LongCall } from "../progress.ts";
import { type ClassifierSettings, classifierSettings } from "./classifier-settings.ts";
import { finetuneTask } from "./finetune-task.ts";
import { type GlueCell, readCell, writeCell } from "./glue-cells.ts";
import { readTask, type TaskSource } from "./task-data.ts";
import { fingerprint } from "./train.ts";
import { changedSettings } from "./train-settings.ts";

export interface GlueOptions extends LongCall, Pick<TaskReading, "onInvalid"> {
  /** Model folders, each with a name of its own. */
  models: readonly string[];
  tasks: readonly Task[];
  /** Folder with a folder for each task, named as GLUE names it (SST-2, CoLA, …). */
  data: string;
  /** Seeds 0 … seeds − 1. */
  seeds: number;
  /** Holds the cells; a later call with the same folder goes on. */
  output: string;
  settings?: Partial<Omit<ClassifierSettings, "seed" | "task">>;
  /** For tasks without a training file. */
  splitDev?: number;
  session?: SessionOptions;
  /** Where a cell of other settings lies: start it over. */
  force?: boolean;
}

/** One model on one task: its own metric over the seeds. */
export interface GlueEntry {
  task: string;
  mean: number;
  /** Sample standard deviation; null of one seed. */
  spread: number | null;
  cells: GlueCell[];
}

export interface GlueRow {
  model: string;
  variant: string;
  parameters: number;
  entries: GlueEntry[];
}

/**
 * Rows in the order of the models.
 * @throws NfcError "usage" for models of one name; "mismatch" for a finished cell that was made otherwise, unless `force`;
 * "aborted" once the signal fires: what is finished stays; see `finetuneTask`
 */
export async function glueTable(options: GlueOptions): Promise<GlueRow[]> {
  const names = options.models.map((model) => basename(resolve(model)));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new NfcError("usage", `two models are called ${twice}`, { hint: "rename one of the folders" });
  // What is not there is said before hours are spent.
  for (const source of options.models) await (await openCheckpoint(source)).close();
  const inputs: TaskInput[] = [];
  for (const task of options.tasks) inputs.push(await inputOf(task, options));
  await withIoErrors(options.output, () => mkdir(options.output, { recursive: true }));
  const rows: GlueRow[] = [];
  for (const [i, source] of options.models.entries()) {
    const checkpoint = await openCheckpoint(source, options.signal ? { signal: options.signal } : {});
    try {
      rows.push(await rowOf(checkpoint, names[i] as string, inputs, options));
    } finally {
      await checkpoint.close();
    }
  }
  return rows;
}

/** A task's files, and what they hold for each seed. */
interface TaskInput {
  source: TaskSource;
  seeds: { examples: number; hashes: { data: string; "development data": string } }[];
}

/** Reads the files once, or for each seed where it splits them. */
async function inputOf(task: Task, options: GlueOptions): Promise<TaskInput> {
  const { seeds, splitDev, onInvalid, signal } = options;
  const data = join(options.data, task.title);
  const split = splitDev !== undefined && !existsSync(join(data, task.train));
  const source = { task, data, ...(split && { splitDev }), ...(signal && { signal }) };
  const read: TaskInput["seeds"] = [];
  for (let seed = 0; seed < (split ? seeds : 1); seed++) {
    const { train, dev } = await readTask({ ...source, ...(seed === 0 && onInvalid && { onInvalid }) }, seed);
    const hashes = { data: train.sha256, "development data": dev.sha256 };
    read.push({ examples: train.examples.length, hashes });
  }
  const [first] = read as [TaskInput["seeds"][number]];
  return { source, seeds: Array.from({ length: seeds }, (_, seed) => read[seed] ?? first) };
}

async function rowOf(
  checkpoint: Checkpoint,
  name: string,
  inputs: readonly TaskInput[],
  options: GlueOptions,
): Promise<GlueRow> {
  const model = await fingerprint(checkpoint, options.signal);
  const entries: GlueEntry[] = [];
  for (const input of inputs) {
    const { task } = input.source;
    const cells: GlueCell[] = [];
    for (let seed = 0; seed < options.seeds; seed++)
      cells.push(await cellOf({ checkpoint, name, model, input, seed }, options));
    const { mean, spread } = meanAndSpread(cells.map(({ metrics }) => metrics[task.metrics[0]] ?? Number.NaN));
    entries.push({ task: task.name, mean, spread, cells });
  }
  const { config } = checkpoint;
  return { model: name, variant: config.variant, parameters: parameterCount(config), entries };
}

interface CellKey {
  checkpoint: Checkpoint;
  name: string;
  /** Fingerprint of the model. */
  model: string;
  input: TaskInput;
  seed: number;
}

async function cellOf(key: CellKey, options: GlueOptions): Promise<GlueCell> {
  const { checkpoint, name, model, input, seed } = key;
  const { output, session = {}, force = false, onInvalid, onProgress } = options;
  const { task } = input.source;
  const { examples: count, hashes } = input.seeds[seed] as TaskInput["seeds"][number];
  const settings = classifierSettings(task, checkpoint.config, count, { ...options.settings, seed });
  const identity = { ...settings, model, ...hashes };
  const id = `${name}.${task.name}.${seed}`;
  const file = join(output, `${id}.json`);
  const known = existsSync(file) ? await readCell(file) : null;
  const changed = known ? changedSettings(known.identity, identity) : [];
  if (known && changed.length === 0) return known;
  if (known && !force)
    throw new NfcError("mismatch", `${file}: was made otherwise: ${changed.join(", ")}`, {
      hint: "give another --output, or --force to make it again",
    });
  const work = join(output, id);
  const result = await finetuneTask(checkpoint, {
    ...input.source,
    ...{ session, settings },
    output: work,
    ...(onInvalid && { onInvalid: () => {} }), // they have been told of
    resume: existsSync(join(`${work}.run`, "run.json")) && !force,
    force: true,
    onProgress: (event) => onProgress?.({ ...event, phase: `${name}, ${event.phase}, seed ${seed}` }),
  });
  const { examples, steps, best, dev } = result;
  const { metrics, interval } = dev;
  const found = { identity, model: name, task: task.name, seed, examples, steps, best, metrics, interval };
  const cell = await writeCell(file, found);
  // The table wants scores: the fine-tuned weights would fill the disk.
  await withIoErrors(work, () => rm(work, { recursive: true, force: true }));
  return cell;
}

/** Rows of the paper's table (arXiv 2601.11619): CoLA's Matthews correlation, accuracies elsewhere. */
export const PAPER_ROWS: readonly { model: string; scores: Readonly<Record<string, number>> }[] = [
  {
    model: "NanoGPT_Base",
    scores: { mrpc: 0.7475, cola: 0.15, mnli: 0.5691, qqp: 0.766, rte: 0.6101, qnli: 0.673, sst2: 0.8165 },
  },
  {
    model: "SymAttn",
    scores: { mrpc: 0.6887, cola: 0.22, mnli: 0.5605, qqp: 0.7764, rte: 0.527, qnli: 0.6816, sst2: 0.8704 },
  },
  {
    model: "NoiseFormer_V1",
    scores: { mrpc: 0.7328, cola: 0.09, mnli: 0.5574, qqp: 0.7626, rte: 0.5812, qnli: 0.6688, sst2: 0.8268 },
  },
  {
    model: "NoiseFormer_V2",
    scores: { mrpc: 0.7279, cola: 0.1, mnli: 0.5526, qqp: 0.7683, rte: 0.5667, qnli: 0.6673, sst2: 0.8256 },
  },
];
