// The perplexity and accuracy that nfc.json beside a model notes: what a budget in nfc.size.json is held against.
import { basename, join } from "node:path";
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import { nameModelFile, PRECISIONS } from "../model/precision.ts";
import { findEntry, findNotedTask, readRecordBeside } from "../report/noted-quality.ts";
import { weighModel } from "./measure-model.ts";
import { findModelFiles } from "./model-files.ts";

/** Null: not noted. */
export interface NotedQuality {
  perplexity: number | null;
  accuracy: number | null;
}

/**
 * The worst of the files that are meant; null where one of them has none.
 * @throws NfcError "invalid-file" for an nfc.json that cannot be read
 */
export async function readNotedQuality(root: string, path: string): Promise<NotedQuality> {
  const noted: NotedQuality[] = [];
  for (const model of (await findModelFiles(root, path)).models) {
    const record = await readRecordBeside(join(root, model));
    if (record === null) noted.push({ perplexity: null, accuracy: null });
    else
      noted.push(
        model.endsWith(".onnx") ? await readExportQuality(record, root, model) : readCheckpointQuality(record),
      );
  }
  return {
    perplexity: findWorst(
      noted.map(({ perplexity }) => perplexity),
      Math.max,
    ),
    accuracy: findWorst(
      noted.map(({ accuracy }) => accuracy),
      Math.min,
    ),
  };
}

function findWorst(values: readonly (number | null)[], of: (...values: number[]) => number): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 || known.length < values.length ? null : of(...known);
}

function readCheckpointQuality(record: NfcRecord): NotedQuality {
  return {
    perplexity: record.perplexity?.at(-1)?.perplexity ?? null,
    accuracy: findNotedTask(record)?.metrics.accuracy ?? null,
  };
}

/** What was measured of this very file; on the task that it was trained for, where others were scored as well. */
async function readExportQuality(record: NfcRecord, root: string, model: string): Promise<NotedQuality> {
  const precision = PRECISIONS.find((one) => nameModelFile(one) === basename(model));
  const { bytes } = (await weighModel(root, model)) ?? {};
  const entry = precision && bytes !== undefined ? findEntry({ precision, bytes }, record.exports ?? []) : undefined;
  const own = findNotedTask(record)?.task;
  const scores = (entry?.tasks ?? []).filter(({ task }) => own === undefined || task === own);
  return {
    perplexity: entry?.perplexity?.perplexity ?? null,
    accuracy: findWorst(
      scores.map(({ metrics }) => metrics.accuracy ?? null),
      Math.min,
    ),
  };
}
