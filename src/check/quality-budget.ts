// Reads the perplexity and accuracy in nfc.json beside a model, for the budgets of nfc.size.json.
import { basename, join } from "node:path";
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import { nameModelFile, PRECISIONS } from "../model/precision.ts";
import { findEntry, findNotedTask, listPerplexities, readRecordBeside } from "../report/recorded-quality.ts";
import { weighModel } from "./measure-model.ts";
import { findModelFiles } from "./model-files.ts";

/** Null where nfc.json has no such number. */
export interface NotedQuality {
  perplexity: number | null;
  /** Compares models of different vocabularies, as a perplexity does not. */
  bitsPerByte: number | null;
  accuracy: number | null;
}

/**
 * The worst values of the files that `path` names; null where one of them has none.
 * @throws NfcError "invalid-file" for an nfc.json that cannot be read
 */
export async function readNotedQuality(root: string, path: string): Promise<NotedQuality> {
  const noted: NotedQuality[] = [];
  for (const model of (await findModelFiles(root, path)).models) {
    const record = await readRecordBeside(join(root, model));
    if (record === null) return { perplexity: null, bitsPerByte: null, accuracy: null };
    noted.push(model.endsWith(".onnx") ? await readExportQuality(record, root, model) : readCheckpointQuality(record));
  }
  return {
    perplexity: findWorst(
      Math.max,
      noted.map(({ perplexity }) => perplexity),
    ),
    bitsPerByte: findWorst(
      Math.max,
      noted.map(({ bitsPerByte }) => bitsPerByte),
    ),
    accuracy: findWorst(Math.min, noted.map(readAccuracy)),
  };
}

const readAccuracy = ({ accuracy }: { accuracy?: number | null }) => accuracy ?? null;

/** Null without values, and where one of them is null. */
function findWorst(choose: (...values: number[]) => number, values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 || known.length < values.length ? null : choose(...known);
}

function readCheckpointQuality(record: NfcRecord): NotedQuality {
  const scored = listPerplexities(record).at(-1);
  return {
    perplexity: scored?.perplexity ?? null,
    bitsPerByte: scored?.bitsPerByte ?? null,
    accuracy: findNotedTask(record)?.metrics.accuracy ?? null,
  };
}

/** The numbers of this very file. Its own task decides where others were scored as well. */
async function readExportQuality(record: NfcRecord, root: string, model: string): Promise<NotedQuality> {
  const precision = PRECISIONS.find((one) => nameModelFile(one) === basename(model));
  const { bytes } = (await weighModel(root, model)) ?? {};
  const entry = precision && bytes !== undefined ? findEntry({ precision, bytes }, record.exports ?? []) : undefined;
  const own = findNotedTask(record)?.task;
  const scores = (entry?.tasks ?? []).filter(({ task }) => own === undefined || task === own);
  return {
    perplexity: entry?.perplexity?.perplexity ?? null,
    bitsPerByte: entry?.perplexity?.bitsPerByte ?? null,
    accuracy: findWorst(
      Math.min,
      scores.map(({ metrics }) => readAccuracy(metrics)),
    ),
  };
}
