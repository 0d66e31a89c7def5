// The folder of a training run, beside its output: settings, the last checkpoint, the best weights, and the metrics.
import { createHash } from "node:crypto";
import { appendFile, mkdir, readdir, readFile, rm, rmdir, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writeText } from "../checkpoint/model-folder.ts";
import { NfcError } from "../errors.ts";
import { SINGLE_FILE } from "../formats/safetensors/shard-plan.ts";
import { type TensorSource, writeSafetensors } from "../formats/safetensors/writer.ts";
import { checkSum, verifyChecksums, writeChecksums } from "../io/checksums.ts";
import { syncFile } from "../io/durable.ts";
import { fileExists } from "../io/exists.ts";
import { checkFolderLock, LOCK_FILE, lockFolder, unlockFolder } from "../io/folder-lock.ts";
import { readErrno, withIoErrors } from "../io/io-error.ts";
import { parseJsonWith, readJsonFile } from "../io/json.ts";
import { tryTwice } from "../io/leftovers.ts";
import { findForeignEntry } from "../io/model-entries.ts";
import { sha256Beginning } from "../io/sha256.ts";
import { recoverDirectory, withStagedDirectory, writeFileAtomic } from "../io/staging.ts";
import { listArrays, makeArraySource, readArrays, type StateArray } from "./run-arrays.ts";
import { lossScaleSchema } from "./step/loss-scale.ts";
import type { ParameterState } from "./step/parameter-state.ts";

const RUN_FORMAT = "nfc-run/2";
const RUN_FILE = "run.json";
const STATE_FILE = "state.json";
export const METRICS_FILE = "metrics.jsonl";

const scoreSchema = z.object({ step: z.int().nonnegative(), perplexity: z.number().positive() });
/** State of a run on text. */
export const textStateSchema = z.object({
  /** Steps done. */
  step: z.int().nonnegative(),
  tokens: z.int().nonnegative(),
  /** Length of metrics.jsonl at this step. Lines that a killed run wrote beyond it are cut off. */
  metricsBytes: z.int().nonnegative(),
  best: scoreSchema.nullable(),
  /** Step of the last evaluation; 0 before the first. */
  evaluated: z.int().nonnegative(),
  /** Perplexity before the first step, and the teacher's. */
  before: z.number().positive(),
  teacher: z.number().positive().nullable(),
  lossScale: lossScaleSchema.optional(),
});
const settingsSchema = z.record(z.string(), z.union([z.string(), z.number(), z.null()]));
const runSchema = z.object({ format: z.literal(RUN_FORMAT), settings: settingsSchema, sha256: z.string() });

export type RunState = z.infer<typeof textStateSchema>;
/** Everything that must be the same when a run goes on: settings and fingerprints of model, teacher and data. */
export type RunIdentity = z.infer<typeof settingsSchema>;

/** Names of the files that a run keeps in its folder, and of those that a killed one may leave there. */
const OWN_FILES =
  /^(run\.json|metrics\.jsonl|checkpoint|best|lock|\.(run\.json|checkpoint|best|lock)\.nfc-(tmp|old)-.*)$/;

/** Arrays of a checkpoint, each as PART/NAME. A grid comes before the values that are rounded on it. */
export const listState = (store: ParameterState) =>
  listArrays(store, ["grid", "value", "moment1", "moment2", ...(store.hasAverages ? (["average"] as const) : [])]);

/** Arrays of the best parameters: values by their names alone. */
export const listBest = (store: ParameterState) =>
  listArrays(store, ["grid", "value"]).map((array) => (array.part === "value" ? { ...array, key: array.name } : array));

/** The folder of one run. `State` is what a checkpoint holds besides its arrays. */
export class RunFolder<State extends { metricsBytes: number } = RunState> {
  readonly path: string;
  readonly metrics: string;
  private readonly output: string;
  private readonly schema: z.ZodType<State>;

  constructor(output: string, schema: z.ZodType<State>) {
    this.output = output;
    this.schema = schema;
    this.path = `${output.replace(/[/\\]+$/, "")}.run`;
    this.metrics = join(this.path, METRICS_FILE);
  }

  exists(): boolean {
    return fileExists(join(this.path, RUN_FILE));
  }

  /** @throws NfcError "exists" where an unfinished run is, unless `force`; where anything but a run is, always */
  async refuseOccupied(force: boolean): Promise<void> {
    if (!fileExists(this.path)) return;
    const foreign = await withIoErrors(this.path, () => findForeign(this.path));
    if (foreign !== null)
      throw new NfcError("exists", `${this.path}: holds ${foreign}, which is no part of a training run`, {
        hint: "the run needs this folder beside its output: choose another output",
      });
    if (this.exists() && !force)
      throw new NfcError("exists", `${this.path}: an unfinished run is there`, {
        hint: "go on with --resume, or start over with --force",
      });
  }

  /**
   * Whether the output is that of this run, which was killed before its folder was removed. Both then have the same
   * metrics; those of two runs differ, as they hold times.
   */
  async hasEnded(): Promise<boolean> {
    const files = [this.metrics, join(this.output, METRICS_FILE)] as const;
    if (!files.every(fileExists)) return false;
    const [own, kept] = await withIoErrors(this.path, () => Promise.all(files.map((file) => readFile(file, "utf8"))));
    return own === kept;
  }

  /** Takes the folder for this process, until `release`. @throws NfcError "exists" while another one is at work in it */
  claim(): Promise<void> {
    return lockFolder(this.path);
  }

  release(): Promise<void> {
    return unlockFolder(this.path);
  }

  /** Begins a run, and removes the files of an earlier one. */
  async create(settings: RunIdentity): Promise<void> {
    await withIoErrors(this.path, async () => {
      await mkdir(this.path, { recursive: true });
      await this.clear();
    });
    try {
      await writeText(this.metrics, "");
      const run = { format: RUN_FORMAT, settings, sha256: hashSettings(settings) };
      await writeFileAtomic(join(this.path, RUN_FILE), `${JSON.stringify(run, null, 2)}\n`);
    } catch (error) {
      // The first fault is reported; what cannot be removed now is removed when the next run begins.
      await this.clear().catch(() => undefined);
      throw error;
    }
  }

  /** Removes everything but the lock, run.json first: a folder without it does not count as a run. */
  private async clear(): Promise<void> {
    await rm(join(this.path, RUN_FILE), { force: true });
    for (const name of await readdir(this.path))
      if (name !== LOCK_FILE) await rm(join(this.path, name), { recursive: true, force: true });
  }

  /** Begins a run that extends a finished one: with its metrics, and with the store's values as the best so far. */
  async createExtended(settings: RunIdentity, from: string, store: ParameterState, state: State): Promise<void> {
    await this.create(settings);
    const metrics = join(from, METRICS_FILE);
    if (fileExists(metrics)) await writeText(this.metrics, await withIoErrors(metrics, () => readFile(metrics)));
    const { best } = state as { best?: object };
    if (best) await this.saveBest(store, best);
    await this.save(store, state);
  }

  /** @throws NfcError "not-found" without a run, "invalid-file" for one that is damaged */
  async identity(): Promise<RunIdentity> {
    if (!this.exists())
      throw new NfcError("not-found", `${this.path}: there is no run to go on with`, { hint: "leave out --resume" });
    const file = join(this.path, RUN_FILE);
    return this.whole(async () => {
      const { settings, sha256 } = parseJsonWith(runSchema, await readJsonFile(file), file);
      checkSum(file, hashSettings(settings), sha256);
      return settings;
    });
  }

  /**
   * The checkpoint's state, its arrays read into the store; null when none was saved yet.
   * @throws NfcError "invalid-file", "not-found" for a checkpoint that is damaged
   */
  async load(store: ParameterState): Promise<State | null> {
    const folder = join(this.path, "checkpoint");
    await recoverDirectory(folder);
    return this.whole(async () => {
      if (!fileExists(folder)) {
        await this.cutMetrics(0);
        return null;
      }
      const sums = await verifyChecksums(folder, [STATE_FILE, SINGLE_FILE]);
      const state = await readState(folder, this.schema);
      await readArrays(folder, store, listState(store));
      await this.cutMetrics(state.metricsBytes);
      checkSum(this.metrics, await sha256Beginning(this.metrics, state.metricsBytes), sums[METRICS_FILE]);
      return state;
    });
  }

  /** Steps of the last checkpoint; 0 when none was saved yet. Nothing is changed. */
  async readStep(): Promise<number> {
    const folder = join(this.path, "checkpoint");
    if (!fileExists(folder)) return 0;
    return this.whole(async () => (await readState(folder, z.object({ step: z.int().nonnegative() }))).step);
  }

  /** Cuts off the lines that a killed run wrote after its checkpoint. */
  private async cutMetrics(bytes: number): Promise<void> {
    await withIoErrors(this.metrics, async () => {
      const { size } = await stat(this.metrics);
      if (size < bytes)
        throw new NfcError("invalid-file", `${this.metrics}: ${size} bytes, ${bytes} at the last checkpoint`);
      await truncate(this.metrics, bytes);
    });
  }

  /** Replaces the checkpoint. A whole one is there at any moment. */
  async save(store: ParameterState, state: State): Promise<void> {
    await checkFolderLock(this.path);
    await syncFile(this.metrics);
    const metrics = await sha256Beginning(this.metrics, state.metricsBytes);
    await this.replace("checkpoint", makeSources(store, listState(store)), state, { [METRICS_FILE]: metrics });
  }

  /** Keeps the present values as the best so far. */
  async saveBest(store: ParameterState, score: object): Promise<void> {
    await this.replace("best", makeSources(store, listBest(store)), score);
  }

  /**
   * Puts the best values into the store.
   * @param best the step that they must be of: a killed run may have kept a later one than its checkpoint knows
   * @throws NfcError "invalid-file" for those of another step
   */
  async loadBest(store: ParameterState, best: { step: number }): Promise<void> {
    const folder = join(this.path, "best");
    await recoverDirectory(folder);
    await this.whole(async () => {
      await verifyChecksums(folder, [STATE_FILE, SINGLE_FILE]);
      const { step } = await readState(folder, z.object({ step: z.int() }));
      if (step !== best.step)
        throw new NfcError("invalid-file", `${folder}: holds the weights of step ${step}, not ${best.step}`);
      await readArrays(folder, store, listBest(store));
    });
  }

  /** Adds a line to metrics.jsonl; gives its length in bytes. */
  async append(entry: object): Promise<number> {
    const line = `${JSON.stringify(entry)}\n`;
    await withIoErrors(this.metrics, () => appendFile(this.metrics, line));
    return Buffer.byteLength(line);
  }

  /**
   * Removes the run, run.json first: a folder without it does not count as one. The folder goes when it is given back,
   * unless somebody put something else there. A call that fails is made once more: the output is in place by now.
   */
  async remove(): Promise<void> {
    const removeAll = async () => {
      await rm(join(this.path, RUN_FILE), { force: true });
      for (const name of await readdir(this.path))
        if (OWN_FILES.test(name)) await rm(join(this.path, name), { recursive: true, force: true });
      await rmdir(this.path).catch((error: unknown) => {
        if (!["ENOTEMPTY", "ENOENT"].includes(readErrno(error) ?? "")) throw error;
      });
    };
    await withIoErrors(this.path, () => tryTwice(removeAll));
  }

  /** Reads a part of the run, and adds to an error how to go on. */
  private async whole<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof NfcError)) throw error;
      const hint = `the run cannot go on: remove ${this.path} and start it again`;
      throw new NfcError(error.code, error.message, { hint, cause: error });
    }
  }

  private async replace(
    name: string,
    sources: readonly TensorSource[],
    state: object,
    sums: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    await withStagedDirectory(join(this.path, name), { force: true }, async (folder) => {
      await writeSafetensors(folder, sources);
      await writeText(join(folder, STATE_FILE), `${JSON.stringify(state)}\n`);
      await writeChecksums(folder, [STATE_FILE, SINGLE_FILE], sums);
    });
  }
}

/** The grids of a run that does not round yet are not chosen. */
const makeSources = (store: ParameterState, arrays: readonly StateArray[]): TensorSource[] =>
  arrays.filter(({ part }) => part !== "grid" || store.rounds).map((array) => makeArraySource(store, array));

/** An entry that is no part of a run, in its folder or below; null without one. */
async function findForeign(folder: string): Promise<string | null> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!OWN_FILES.test(entry.name)) return entry.name;
    const below = entry.isDirectory() ? await findForeignEntry(join(folder, entry.name)) : null;
    if (below !== null) return join(entry.name, below);
  }
  return null;
}

const hashSettings = (settings: RunIdentity) => createHash("sha256").update(JSON.stringify(settings)).digest("hex");

async function readState<State>(folder: string, schema: z.ZodType<State>): Promise<State> {
  const file = join(folder, STATE_FILE);
  return parseJsonWith(schema, await readJsonFile(file), file);
}
