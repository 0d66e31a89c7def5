// Finds the models that nfc made in a folder, for a command to which none is named.
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { isConverted, NFC_RECORD_FILE, type NfcRecord, readNfcRecord } from "../../checkpoint/nfc-record.ts";
import { NfcError } from "../../errors.ts";
import { INDEX_FILE, SINGLE_FILE } from "../../formats/safetensors/shard-plan.ts";
import { fileExists } from "../../io/exists.ts";
import { withIoErrors } from "../../io/io-error.ts";

export interface OwnModel {
  /** The folder, as it would be named to a command. */
  name: string;
  /** The command that made the model: "convert", or the last step of its history. */
  step: string;
  /** When its weights were written, in milliseconds. */
  time: number;
}

export interface OwnModels {
  /** Latest first. */
  models: OwnModel[];
  /** One line for each record that cannot be read. */
  faults: string[];
}

/**
 * Looks at the folders right in `folder`: those with an nfc.json and weights are models, except for exports, which no
 * command goes on with. Hidden folders are passed over, because unfinished outputs are hidden.
 */
export async function findOwnModels(folder = "."): Promise<OwnModels> {
  const names = (await withIoErrors(folder, () => readdir(folder))).filter((name) => !name.startsWith("."));
  const found: OwnModels = { models: [], faults: [] };
  for (const name of names.sort()) {
    const path = join(folder, name);
    const weights = [SINGLE_FILE, INDEX_FILE].map((file) => join(path, file)).find((file) => fileExists(file));
    if (weights === undefined || !fileExists(join(path, NFC_RECORD_FILE))) continue;
    try {
      const record = await readNfcRecord(path);
      const step = record && findLastStep(record);
      if (step && step !== "export") found.models.push({ name, step, time: (await stat(weights)).mtimeMs });
    } catch (error) {
      if (!(error instanceof NfcError)) throw error;
      found.faults.push(`${error.message}: ${name} is passed over`);
    }
  }
  found.models.sort((a, b) => b.time - a.time);
  return found;
}

/** The history of a conversion is empty, or ends with it where its source had one. */
function findLastStep(record: NfcRecord): string | null {
  return record.history.at(-1)?.step ?? (isConverted(record) ? "convert" : null);
}
