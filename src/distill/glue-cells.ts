// The finished cells of a GLUE table, a small JSON file each; and what they say of one model.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { NfcError } from "../errors.ts";
import { METRICS, type MetricName, meanAndSpread } from "../inference/tasks/metrics.ts";
import { TASKS } from "../inference/tasks/tasks.ts";
import { withIoErrors } from "../io/io-error.ts";
import { readJsonFile } from "../io/json.ts";
import { writeFileAtomic } from "../io/staging.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { fingerprint } from "./train.ts";

const CELL_FORMAT = "nfc-glue-cell/1";

const cellSchema = z.object({
  format: z.literal(CELL_FORMAT),
  /** What the cell was made from and how: all settings, model and data by their hashes. */
  identity: z.record(z.string(), z.union([z.string(), z.number()])),
  model: z.string(),
  task: z.string(),
  seed: z.int(),
  examples: z.int(),
  steps: z.int(),
  best: z.object({ step: z.int(), score: z.number() }),
  metrics: z.partialRecord(z.enum(METRICS), z.number().nullable()),
  interval: z.tuple([z.number(), z.number()]).readonly().nullable(),
});
export type GlueCell = z.infer<typeof cellSchema>;

/** @throws NfcError "invalid-file" naming the key that does not fit, "not-found" */
export async function readCell(file: string): Promise<GlueCell> {
  const result = cellSchema.safeParse(await readJsonFile(file));
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new NfcError("invalid-file", `${file}: ${issue?.path.join(".") || "content"}: ${issue?.message}`, {
    hint: "delete the file: the cell is then made again",
  });
}

export async function writeCell(file: string, found: Omit<GlueCell, "format">): Promise<GlueCell> {
  const cell = cellSchema.parse({ format: CELL_FORMAT, ...found });
  await writeFileAtomic(file, `${JSON.stringify(cell, null, 2)}\n`);
  return cell;
}

/** A task's own metric over the seeds; the deviation is null of one. */
export interface GlueScore {
  task: string;
  metric: MetricName;
  mean: number;
  spread: number | null;
  seeds: number;
}

/**
 * A model's scores in the folder of a table, in the order of GLUE's tasks. Cells belong to it by the hash of its weights,
 * whatever its folder is called; those in which the metric is not defined are left out.
 * @throws NfcError "not-found"; "invalid-file" for a JSON file that is no cell; "aborted"
 */
export async function glueScores(folder: string, checkpoint: Checkpoint, signal?: AbortSignal): Promise<GlueScore[]> {
  const names = (await withIoErrors(folder, () => readdir(folder))).filter((name) => name.endsWith(".json")).sort();
  const model = await fingerprint(checkpoint, signal);
  const cells: GlueCell[] = [];
  for (const name of names) cells.push(await readCell(join(folder, name)));
  return TASKS.flatMap(({ name, metrics: [metric] }) => {
    const own = cells.filter(({ task, identity }) => task === name && identity.model === model);
    const values = own.flatMap(({ metrics }) => metrics[metric] ?? []);
    return values.length === 0 ? [] : [{ task: name, metric, ...meanAndSpread(values), seeds: values.length }];
  });
}
