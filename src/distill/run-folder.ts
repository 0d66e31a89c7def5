// A training run on disk, beside its output: settings, the last checkpoint, the best weights, and the metrics so far.
import { existsSync } from "node:fs";
import { appendFile, mkdir, open, rm, truncate } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "../io/io-error.ts";
import { readJsonFile } from "../io/json.ts";
import { openSafetensors } from "../io/safetensors-reader.ts";
import { bytesSource, type TensorSource, writeSafetensors } from "../io/safetensors-writer.ts";
import { recoverDirectory, withStagedDirectory, writeFileAtomic } from "../io/staging.ts";
import { writeText } from "../model/model-folder.ts";
import type { ParameterStore } from "./parameter-store.ts";

const RUN_FORMAT = "nfc-run/1";
export const METRICS_FILE = "metrics.jsonl";

const scoreSchema = z.object({ step: z.int().nonnegative(), perplexity: z.number().positive() });
const stateSchema = z.object({
  /** Steps done. */
  step: z.int().nonnegative(),
  tokens: z.int().nonnegative(),
  /** Length of metrics.jsonl at this step: what a killed run wrote beyond it is cut off. */
  metricsBytes: z.int().nonnegative(),
  best: scoreSchema.nullable(),
  /** Perplexity before the first step, and the teacher's. */
  before: z.number().positive(),
  teacher: z.number().positive().nullable(),
});
const settingsSchema = z.record(z.string(), z.union([z.string(), z.number(), z.null()]));
const runSchema = z.object({ format: z.literal(RUN_FORMAT), settings: settingsSchema });

export type RunState = z.infer<typeof stateSchema>;
/** What must be the same when a run goes on: settings and fingerprints of model, teacher and data. */
export type RunIdentity = z.infer<typeof settingsSchema>;

/** Values of parameters, by name; with `moments` the optimiser's too. */
const PARTS = ["value", "moment1", "moment2"] as const;

export class RunFolder {
  readonly path: string;
  readonly metrics: string;

  constructor(output: string) {
    this.path = `${output.replace(/[/\\]+$/, "")}.run`;
    this.metrics = join(this.path, METRICS_FILE);
  }

  exists(): boolean {
    return existsSync(join(this.path, "run.json"));
  }

  /** Begins a run: what an earlier one left is removed. */
  async create(settings: RunIdentity): Promise<void> {
    await this.remove();
    await withIoErrors(this.path, () => mkdir(this.path, { recursive: true }));
    await writeText(this.metrics, "");
    await writeFileAtomic(
      join(this.path, "run.json"),
      `${JSON.stringify({ format: RUN_FORMAT, settings }, null, 2)}\n`,
    );
  }

  /** @throws NfcError "not-found" without a run, "invalid-file" for one that is damaged */
  async identity(): Promise<RunIdentity> {
    const file = join(this.path, "run.json");
    if (!this.exists())
      throw new NfcError("not-found", `${this.path}: there is no run to go on with`, { hint: "leave out --resume" });
    return parse(runSchema, await readJsonFile(file), file).settings;
  }

  /** The checkpoint's state, its arrays read into the store; null when none was saved yet. */
  async load(store: ParameterStore): Promise<RunState | null> {
    const folder = join(this.path, "checkpoint");
    await recoverDirectory(folder);
    if (!existsSync(folder)) return null;
    const file = join(folder, "state.json");
    const state = parse(stateSchema, await readJsonFile(file), file);
    const reader = await openSafetensors(join(folder, "model.safetensors"));
    try {
      for (const name of store.trained)
        for (const part of PARTS) await reader.readF32(`${part}/${name}`, store.slot(name)[part]);
    } finally {
      await reader.close();
    }
    await withIoErrors(this.metrics, () => truncate(this.metrics, state.metricsBytes));
    return state;
  }

  /** Replaces the checkpoint: it is whole at any moment. */
  async save(store: ParameterStore, state: RunState): Promise<void> {
    await syncFile(this.metrics);
    const sources = store.trained.flatMap((name) => {
      const slot = store.slot(name);
      return PARTS.map((part) => arraySource(`${part}/${name}`, slot.shape, slot[part]));
    });
    await this.replace("checkpoint", sources, state);
  }

  /** Keeps the present values as the best so far. */
  async saveBest(store: ParameterStore, score: { step: number; perplexity: number }): Promise<void> {
    const sources = store.trained.map((name) => arraySource(name, store.slot(name).shape, store.value(name)));
    await this.replace("best", sources, score);
  }

  /** Puts the best values into the store. */
  async loadBest(store: ParameterStore): Promise<void> {
    const folder = join(this.path, "best");
    await recoverDirectory(folder);
    const reader = await openSafetensors(join(folder, "model.safetensors"));
    try {
      for (const name of store.trained) await reader.readF32(name, store.value(name));
    } finally {
      await reader.close();
    }
  }

  /** One line of metrics.jsonl; gives the file's new length. */
  async append(entry: object): Promise<number> {
    const line = `${JSON.stringify(entry)}\n`;
    await withIoErrors(this.metrics, () => appendFile(this.metrics, line));
    return Buffer.byteLength(line);
  }

  async remove(): Promise<void> {
    await withIoErrors(this.path, () => rm(this.path, { recursive: true, force: true }));
  }

  private async replace(name: string, sources: readonly TensorSource[], state: object): Promise<void> {
    await withStagedDirectory(join(this.path, name), { force: true }, async (folder) => {
      await writeSafetensors(folder, sources);
      await writeText(join(folder, "state.json"), `${JSON.stringify(state)}\n`);
    });
  }
}

function arraySource(name: string, shape: readonly number[], data: Float32Array): TensorSource {
  return bytesSource(name, "F32", shape, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function parse<T>(schema: z.ZodType<T>, value: unknown, file: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new NfcError("invalid-file", `${file}: ${issue?.path.join(".") || "content"}: ${issue?.message}`, {
    hint: `remove ${dirname(file)} and start the run again`,
  });
}

async function syncFile(path: string): Promise<void> {
  await withIoErrors(path, async () => {
    const handle = await open(path, "r+");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  });
}
