// The perplexity and accuracy that nfc.json beside a model notes: what a budget in nfc.size.json is held against.
import { basename, join } from "node:path";
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import { modelFile, PRECISIONS } from "../model/precision.ts";
import { entryOf } from "../report/exports.ts";
import { notedTask, recordBeside } from "../report/weigh/noted-scores.ts";
import { weighModel } from "./measure-model.ts";
import { modelFiles } from "./model-files.ts";

/** Null: not noted. */
export interface NotedQuality {
  perplexity: number | null;
  accuracy: number | null;
}

/**
 * The worst of the files that are meant; null where one of them has none.
 * @throws NfcError "invalid-file" for an nfc.json that cannot be read
 */
export async function notedQuality(root: string, path: string): Promise<NotedQuality> {
  const noted: NotedQuality[] = [];
  for (const model of (await modelFiles(root, path)).models) {
    const record = await recordBeside(join(root, model));
    if (record === null) noted.push({ perplexity: null, accuracy: null });
    else noted.push(model.endsWith(".onnx") ? await ofExport(record, root, model) : ofCheckpoint(record));
  }
  return {
    perplexity: worst(
      noted.map(({ perplexity }) => perplexity),
      Math.max,
    ),
    accuracy: worst(
      noted.map(({ accuracy }) => accuracy),
      Math.min,
    ),
  };
}

function worst(values: readonly (number | null)[], of: (...values: number[]) => number): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 || known.length < values.length ? null : of(...known);
}

function ofCheckpoint(record: NfcRecord): NotedQuality {
  return {
    perplexity: record.perplexity?.at(-1)?.perplexity ?? null,
    accuracy: notedTask(record)?.metrics.accuracy ?? null,
  };
}

/** What was measured of this very file; on the task that it was trained for, where others were scored as well. */
async function ofExport(record: NfcRecord, root: string, model: string): Promise<NotedQuality> {
  const precision = PRECISIONS.find((one) => modelFile(one) === basename(model));
  const { bytes } = (await weighModel(root, model)) ?? {};
  const entry = precision && bytes !== undefined ? entryOf({ precision, bytes }, record.exports ?? []) : undefined;
  const own = notedTask(record)?.task;
  const scores = (entry?.tasks ?? []).filter(({ task }) => own === undefined || task === own);
  return {
    perplexity: entry?.perplexity?.perplexity ?? null,
    accuracy: worst(
      scores.map(({ metrics }) => metrics.accuracy ?? null),
      Math.min,
    ),
  };
}
