// The finished cells of a GLUE table, a small JSON file each, and the scores of one model among them.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { fingerprintModel, listChangedSettings } from "../../distill/run-identity.ts";
import { NfcError } from "../../errors.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { parseJsonWith, readJsonFile } from "../../io/json.ts";
import { writeFileAtomic } from "../../io/staging.ts";
import { TASKS, type Task } from "../glue-tasks.ts";
import { METRICS, type MetricName, meanAndSpread } from "../metrics.ts";

const CELL_FORMAT = "nfc-glue-cell/1";

const cellSchema = z.object({
  format: z.literal(CELL_FORMAT),
  /** All settings, and the hashes of model and data: everything that the cell's numbers depend on. */
  identity: z.record(z.string(), z.union([z.string(), z.number()])),
  model: z.string(),
  task: z.string(),
  seed: z.int(),
  examples: z.int(),
  steps: z.int(),
  best: z.object({ step: z.int(), score: z.number().nullable() }),
  metrics: z.partialRecord(z.enum(METRICS), z.number().nullable()),
  interval: z.tuple([z.number(), z.number()]).readonly().nullable(),
});
export type GlueCell = z.infer<typeof cellSchema>;

/** @throws NfcError "invalid-file" naming the key that does not fit, "not-found" */
export async function readCell(file: string): Promise<GlueCell> {
  const hint = "delete the file, or give --force: the cell is then made again";
  return parseJsonWith(cellSchema, await readJsonFile(file, { hint }), file, hint);
}

export async function writeCell(file: string, found: Omit<GlueCell, "format">): Promise<GlueCell> {
  const cell = cellSchema.parse({ format: CELL_FORMAT, ...found });
  await writeFileAtomic(file, `${JSON.stringify(cell, null, 2)}\n`);
  return cell;
}

/** A task's own metric over the seeds; NaN where it is not defined for one of them. One seed has no deviation: null. */
export function averageCells(
  { metrics: [metric] }: Task,
  cells: readonly GlueCell[],
): { mean: number; spread: number | null } {
  return meanAndSpread(cells.map(({ metrics }) => metrics[metric] ?? Number.NaN));
}

export interface GlueScore {
  task: string;
  metric: MetricName;
  mean: number;
  spread: number | null;
  seeds: number;
}

/** MODEL.TASK.SEED.json */
const CELL_NAME = new RegExp(`\\.(${TASKS.map(({ name }) => name).join("|")})\\.\\d+\\.json$`);

/**
 * A model's scores in the folder of a table, in the order of GLUE's tasks. Cells belong to it by the hash of its weights
 * and configuration, whatever its folder is called; tasks whose metric is not defined are left out.
 * @throws NfcError "not-found"; "invalid-file" for a cell that is damaged; "mismatch" for a task with cells of several
 * settings; "aborted"
 */
export async function readGlueScores(
  folder: string,
  checkpoint: Checkpoint,
  signal?: AbortSignal,
): Promise<GlueScore[]> {
  const names = (await withIoErrors(folder, () => readdir(folder))).filter((name) => CELL_NAME.test(name)).sort();
  const model = await fingerprintModel(checkpoint, signal);
  const cells: GlueCell[] = [];
  for (const name of names) cells.push(await readCell(join(folder, name)));
  const own = cells.filter(({ identity }) => identity.model === model);
  return TASKS.flatMap((task) => {
    const found = own.filter((cell) => cell.task === task.name);
    const [first] = found;
    if (!first) return [];
    for (const cell of found) refuseOthers(folder, first, cell);
    const bySeed = [...new Map(found.map((cell) => [cell.seed, cell])).values()];
    const score = averageCells(task, bySeed);
    if (Number.isNaN(score.mean)) return [];
    return [{ task: task.name, metric: task.metrics[0], ...score, seeds: bySeed.length }];
  });
}

/** Refuses cells of one model and task that differ in more than their seed, and what it has held out of a split file. */
function refuseOthers(folder: string, first: GlueCell, cell: GlueCell): void {
  const shared = ({ identity: { seed, ...rest } }: GlueCell) => ({
    ...rest,
    data: String(rest.data).replace(/ \d+$/, ""),
    "development data": String(rest["development data"]).replace(/ \d+$/, ""),
  });
  const changed = listChangedSettings(shared(first), shared(cell));
  if (changed.length > 0)
    throw new NfcError(
      "mismatch",
      `${folder}: has cells of ${cell.model} on ${cell.task} that differ: ${changed.join(", ")}`,
      {
        hint: "name a folder whose cells were made alike",
      },
    );
}
