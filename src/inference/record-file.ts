// Writes what was measured into a model's nfc.json, where that can be; the entries of an export's files.
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../io/staging.ts";
import { type ExportEntry, formatNfcRecord, NFC_RECORD_FILE, type NfcRecord } from "../model/nfc-record.ts";
import { modelFile, type Precision } from "../model/precision.ts";

/** An exported file as it is now: bytes with its external data. */
export interface MeasuredFile {
  precision: Precision;
  bytes: number;
}

/** Gives the path of nfc.json, or null where it cannot be written. */
export async function writeRecord(folder: string, record: NfcRecord): Promise<string | null> {
  const path = join(folder, NFC_RECORD_FILE);
  if (!(await writable(path)) || !(await writable(folder))) return null;
  await writeFileAtomic(path, formatNfcRecord(record));
  return path;
}

function writable(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}

/** Whether the files of an export draw their noise: what is measured of them is another number each time. */
export function drawsNoise({ history }: NfcRecord): boolean {
  return history.findLast(({ step }) => step === "export")?.noise === "sample";
}

/**
 * The record with an entry for each file; those of files that are gone or have another size now go.
 * @param measured what is new of a file, beside its old entry
 */
export function withEntries(
  record: NfcRecord,
  files: readonly MeasuredFile[],
  measured: (precision: Precision, old: ExportEntry | undefined) => Partial<ExportEntry>,
): NfcRecord {
  const exports = files.map(({ precision, bytes }): ExportEntry => {
    const file = `onnx/${modelFile(precision)}`;
    const old = record.exports?.find((entry) => entry.file === file && entry.bytes === bytes);
    return { ...old, precision, file, bytes, ...measured(precision, old) };
  });
  return { ...record, exports };
}
