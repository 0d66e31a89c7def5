// Writes measurements into a model's nfc.json where it can be written, and merges the entries of an export's files.
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { withFileLock } from "../io/folder-lock.ts";
import { writeFileAtomic } from "../io/staging.ts";
import { nameModelFile, PRECISIONS, type Precision } from "../model/precision.ts";
import { type ExportEntry, formatNfcRecord, NFC_RECORD_FILE, type NfcRecord, readNfcRecord } from "./nfc-record.ts";

/** An exported file as it is now: bytes with its external data. */
export interface MeasuredFile {
  precision: Precision;
  bytes: number;
}

/**
 * Changes nfc.json as it is by now: measuring takes long, and something else may have been noted meanwhile.
 * Gives its path, or null where there is none or it cannot be written.
 */
export async function changeRecord(folder: string, change: (record: NfcRecord) => NfcRecord): Promise<string | null> {
  const path = join(folder, NFC_RECORD_FILE);
  if (!(await isWritable(path)) || !(await isWritable(folder))) return null;
  // Another command may note its results at this moment: one reads what the other has written.
  return withFileLock(path, async () => {
    const record = await readNfcRecord(folder);
    if (record === null) return null;
    await writeFileAtomic(path, formatNfcRecord(change(record)));
    return path;
  });
}

function isWritable(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}

/** Whether the files of an export draw their noise: each measurement of them then gives another number. */
export function drawsNoise({ history }: NfcRecord): boolean {
  return history.findLast(({ step }) => step === "export")?.noise === "sample";
}

/**
 * The record with an entry for each of these files, in the order of PRECISIONS; entries of other files stay as they are.
 * @param measured gives the new fields of a file's entry; `old` is its entry so far, if the file still has that size
 */
export function mergeEntries(
  record: NfcRecord,
  files: readonly MeasuredFile[],
  measured: (precision: Precision, old: ExportEntry | undefined) => Partial<ExportEntry>,
): NfcRecord {
  const exports = PRECISIONS.flatMap((precision): ExportEntry[] => {
    const known = record.exports?.filter((entry) => entry.precision === precision) ?? [];
    const file = files.find((one) => one.precision === precision);
    if (!file) return known;
    const old = known.find(({ bytes }) => bytes === file.bytes);
    return [
      { ...old, precision, file: `onnx/${nameModelFile(precision)}`, bytes: file.bytes, ...measured(precision, old) },
    ];
  });
  return { ...record, exports };
}
