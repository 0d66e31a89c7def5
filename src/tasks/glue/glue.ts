// Makes the GLUE table: models × tasks × seeds, one fine-tuning a cell. Finished cells are kept for the next call.
import { mkdir, rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { type Checkpoint, openCheckpoint } from "../../checkpoint/checkpoint.ts";
import type { Given } from "../../distill/resolve-settings.ts";
import { RunFolder } from "../../distill/run-folder.ts";
import { fingerprintModel, listChangedSettings } from "../../distill/run-identity.ts";
import { NfcError } from "../../errors.ts";
import { checkProducts } from "../../graph/check-products.ts";
import type { SessionOptions } from "../../graph/session.ts";
import { fileExists } from "../../io/exists.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { findForeignEntry } from "../../io/model-entries.ts";
import { countParameters } from "../../model/parameters.ts";
import type { LongCall } from "../../progress.ts";
import { listOutputs, type Task } from "../glue-tasks.ts";
import type { TaskReading } from "../task-file.ts";
import { addHead } from "../train/classifier-head.ts";
import { finetuneTask } from "../train/finetune-task.ts";
import { type ClassifierSettings, resolveClassifierSettings } from "../train/settings.ts";
import { readTask, type TaskSource } from "../train/task-data.ts";
import { classifierStateSchema } from "../train/task-objective.ts";
import { averageCells, type GlueCell, readCell, writeCell } from "./cells.ts";

export interface GlueOptions extends LongCall, Pick<TaskReading, "onInvalid"> {
  /** Model folders, no two of the same name. */
  models: readonly string[];
  tasks: readonly Task[];
  /** Folder with a folder for each task, named as GLUE names it (SST-2, CoLA, …). */
  data: string;
  /** Seeds 0 … seeds − 1. */
  seeds: number;
  /** Holds the cells; a later call with the same folder goes on. */
  output: string;
  settings?: Given<Omit<ClassifierSettings, "seed" | "task">> | undefined;
  /** For tasks without a training file. */
  splitDev?: number | undefined;
  session?: SessionOptions | undefined;
  /** Makes a cell again whose settings differ. */
  force?: boolean | undefined;
}

/** One model on one task: its own metric over the seeds. */
export interface GlueEntry {
  task: string;
  mean: number;
  /** Sample standard deviation; null for one seed. */
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
 * @throws NfcError "usage" for models of one name; "mismatch" for a finished cell that was made otherwise, unless `force`,
 * and for a classifier of another task, before anything is trained; "aborted" once the signal fires: what is finished
 * stays; see `finetuneTask`
 */
export async function makeGlueTable(options: GlueOptions): Promise<GlueRow[]> {
  const names = options.models.map((model) => basename(resolve(model)));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new NfcError("usage", `two models are called ${twice}`, { hint: "rename one of the folders" });
  // All inputs are checked before hours are spent.
  await checkProducts(options.settings?.devicePrecision, options.session);
  for (const source of options.models) await withModel(source, options, async () => {});
  const inputs: TaskInput[] = [];
  for (const task of options.tasks) inputs.push(await readInput(task, options));
  const plans: RowPlan[] = [];
  for (const [i, source] of options.models.entries())
    plans.push(await withModel(source, options, (model) => planCell(model, names[i] as string, inputs, options)));
  await withIoErrors(options.output, () => mkdir(options.output, { recursive: true }));
  const rows: GlueRow[] = [];
  for (const [i, source] of options.models.entries())
    rows.push(await withModel(source, options, (model) => makeRow(model, plans[i] as RowPlan, options)));
  return rows;
}

async function withModel<T>(
  source: string,
  { signal }: GlueOptions,
  use: (model: Checkpoint) => Promise<T>,
): Promise<T> {
  const checkpoint = await openCheckpoint(source, { signal });
  try {
    return await use(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

/** A task's files, and what they hold for each seed. */
interface TaskInput {
  source: TaskSource;
  seeds: { examples: number; hashes: { data: string; "development data": string } }[];
}

/** Reads the files once, or for each seed where it splits them. */
async function readInput(task: Task, options: GlueOptions): Promise<TaskInput> {
  const { seeds, splitDev, onInvalid, signal } = options;
  const data = join(options.data, task.title);
  const split = splitDev !== undefined && !fileExists(join(data, task.train));
  const source = { task, data, splitDev: split ? splitDev : undefined, signal };
  const read: TaskInput["seeds"] = [];
  for (let seed = 0; seed < (split ? seeds : 1); seed++) {
    const report = onInvalid && (seed === 0 ? onInvalid : QUIET);
    const { train, dev } = await readTask({ ...source, onInvalid: report }, seed);
    const hashes = { data: train.sha256, "development data": dev.sha256 };
    read.push({ examples: train.examples.length, hashes });
  }
  const [first] = read as [TaskInput["seeds"][number]];
  return { source, seeds: Array.from({ length: seeds }, (_, seed) => read[seed] ?? first) };
}

/** Ignores lines that were reported for seed 0 already. */
const QUIET = () => {};

/** A cell, and how it is made where it is not there yet. */
interface CellPlan {
  source: TaskSource;
  settings: ClassifierSettings;
  identity: GlueCell["identity"];
  file: string;
  /** Folder that its classifier is written to; a killed run may have left it. */
  work: string;
  known: GlueCell | null;
}

interface RowPlan {
  name: string;
  /** By task, then by seed. */
  cells: CellPlan[][];
}

async function planCell(
  checkpoint: Checkpoint,
  name: string,
  inputs: readonly TaskInput[],
  options: GlueOptions,
): Promise<RowPlan> {
  const model = await fingerprintModel(checkpoint, options.signal);
  const cells: CellPlan[][] = [];
  for (const { source, seeds } of inputs) {
    const { task } = source;
    const row: CellPlan[] = [];
    for (const [seed, { examples, hashes }] of seeds.entries()) {
      addHead(checkpoint, listOutputs(task), seed);
      const context = { task, config: checkpoint.config, examples, hasTeacher: false };
      const settings = resolveClassifierSettings(context, { ...options.settings, seed });
      const work = join(options.output, `${name}.${task.name}.${seed}`);
      const [identity, file] = [{ ...settings, model, ...hashes }, `${work}.json`];
      row.push({ source, settings, identity, file, work, known: await findCell(file, identity, options) });
    }
    cells.push(row);
  }
  return { name, cells };
}

/** The finished cell; null where there is none, or one that `force` makes again. */
async function findCell(file: string, identity: object, { force = false }: GlueOptions): Promise<GlueCell | null> {
  if (!fileExists(file)) return null;
  const known = await readCell(file).catch((error: unknown) => {
    if (force && error instanceof NfcError && error.code === "invalid-file") return null;
    throw error;
  });
  if (known === null) return null;
  const changed = listChangedSettings(known.identity, identity);
  if (changed.length === 0) return known;
  if (force) return null;
  throw new NfcError("mismatch", `${file}: was made otherwise: ${changed.join(", ")}`, {
    hint: "give another --output, or --force to make it again",
  });
}

async function makeRow(checkpoint: Checkpoint, { name, cells }: RowPlan, options: GlueOptions): Promise<GlueRow> {
  const entries: GlueEntry[] = [];
  for (const plans of cells) {
    const made: GlueCell[] = [];
    for (const plan of plans) made.push(plan.known ?? (await makeCell(checkpoint, name, plan, options)));
    // The table needs the scores alone; the fine-tuned weights would fill the disk.
    for (const { work } of plans) await withIoErrors(work, () => removeWeights(work));
    const { task } = (plans[0] as CellPlan).source;
    entries.push({ task: task.name, ...averageCells(task, made), cells: made });
  }
  const { config } = checkpoint;
  return { model: name, variant: config.variant, parameters: countParameters(config), entries };
}

/** Leaves a folder into which somebody put something else. */
async function removeWeights(folder: string): Promise<void> {
  if (fileExists(folder) && (await findForeignEntry(folder)) === null)
    await rm(folder, { recursive: true, force: true });
}

async function makeCell(
  checkpoint: Checkpoint,
  name: string,
  { source, settings, identity, file, work }: CellPlan,
  { session = {}, force = false, onInvalid, onProgress }: GlueOptions,
): Promise<GlueCell> {
  const { task } = source;
  const { seed } = settings;
  const { examples, steps, best, dev } = await finetuneTask(checkpoint, {
    ...source,
    ...{ session, settings },
    output: work,
    onInvalid: onInvalid && QUIET,
    resume: force ? "if-same" : new RunFolder(work, classifierStateSchema).exists(),
    force: true,
    onProgress: (event) => onProgress?.({ ...event, phase: `${name}, ${event.phase}, seed ${seed}` }),
  });
  const { metrics, interval } = dev;
  return writeCell(file, { identity, model: name, task: task.name, seed, examples, steps, best, metrics, interval });
}
