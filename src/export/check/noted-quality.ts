// The perplexity and accuracy that nfc.json beside a model notes: what a budget in nfc.size.json is held against.
import { basename, join } from "node:path";
import { notedTask, recordBeside } from "../noted-scores.ts";
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
  const accuracies: number[] = [];
  for (const model of models) {
    const file = join(root, model);
    const record = await recordBeside(file);
    if (!record) continue;
    const exported = record.exports?.find((entry) => basename(entry.file) === basename(file));
    const noted = exported ? exported.perplexity?.perplexity : record.perplexity?.at(-1)?.perplexity;
    if (noted !== undefined) perplexities.push(noted);
    const scores = exported ? (exported.tasks ?? []) : [notedTask(record)];
    for (const score of scores) if (score?.metrics.accuracy != null) accuracies.push(score.metrics.accuracy);
  }
  return {
    perplexity: perplexities.length > 0 ? Math.max(...perplexities) : null,
    accuracy: accuracies.length > 0 ? Math.min(...accuracies) : null,
  };
}
