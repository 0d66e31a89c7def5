// The perplexity and accuracy that nfc.json beside a model notes: what a budget in nfc.size.json is held against.
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { NFC_RECORD_FILE, type NfcRecord, readNfcRecord } from "../../model/nfc-record.ts";
import { modelFiles } from "./model-files.ts";

export interface NotedQuality {
  /** The worst of those noted for the files that are meant. */
  perplexity: number | null;
  accuracy: number | null;
}

/** @throws NfcError "invalid-file" for an nfc.json that cannot be read */
export async function notedQuality(root: string, path: string): Promise<NotedQuality> {
  const { models } = await modelFiles(root, path);
  const perplexities: number[] = [];
  let accuracy: number | null = null;
  for (const model of models) {
    const file = join(root, model);
    const folder = [dirname(file), dirname(dirname(file))].find((one) => existsSync(join(one, NFC_RECORD_FILE)));
    const record = folder === undefined ? null : await readNfcRecord(folder);
    if (!record) continue;
    const exported = record.exports?.find((entry) => basename(entry.file) === basename(file));
    const noted = exported ? exported.perplexity?.perplexity : record.perplexity?.at(-1)?.perplexity;
    if (noted !== undefined) perplexities.push(noted);
    accuracy ??= accuracyOf(record);
  }
  return { perplexity: perplexities.length > 0 ? Math.max(...perplexities) : null, accuracy };
}

/** Of the last fine-tuning on a task. */
function accuracyOf({ history }: NfcRecord): number | null {
  const step = history.findLast((one) => one.step === "finetune" && "dev" in one) as
    | { dev?: { metrics?: { accuracy?: unknown } } }
    | undefined;
  const accuracy = step?.dev?.metrics?.accuracy;
  return typeof accuracy === "number" ? accuracy : null;
}
