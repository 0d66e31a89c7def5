// What nfc.json notes of a model's quality: the record beside a file, perplexities by text, and the score on a task.
import { basename, dirname, resolve } from "node:path";
import { type NfcRecord, readNfcRecord } from "../../checkpoint/nfc-record.ts";

/** The nfc.json in a file's folder, and of onnx/model.onnx in the one above. @throws NfcError for one that is damaged */
export async function readRecordBeside(file: string): Promise<NfcRecord | null> {
  const own = dirname(resolve(file));
  return readNfcRecord(basename(own) === "onnx" ? dirname(own) : own);
}

export interface NotedTask {
  /** "sst2" */
  task: string;
  /** By name; null where it is undefined. */
  metrics: Record<string, number | null>;
  /** The task's own metric, which is the first; null where it is undefined. */
  own: { metric: string; value: number } | null;
}

/** The development set's score of the last fine-tuning on a task. */
export function findNotedTask({ history }: Pick<NfcRecord, "history">): NotedTask | null {
  const step = history.findLast((one) => typeof one.task === "string" && typeof one.dev === "object");
  const { metrics } = (step?.dev ?? {}) as { metrics?: Record<string, unknown> };
  if (step === undefined || typeof metrics !== "object" || metrics === null) return null;
  const numbers = Object.entries(metrics).map(
    ([name, value]) => [name, typeof value === "number" ? value : null] as const,
  );
  const [metric, value] = numbers[0] ?? [];
  const own = metric !== undefined && value != null ? { metric, value } : null;
  return { task: String(step.task), metrics: Object.fromEntries(numbers), own };
}

/** Development files whose score decides a task: every task's own, and MNLI's matched one. */
const DECIDING_FILES = ["dev.tsv", "dev_matched.tsv"];

/** How what was scored is called: by its task, with the file where it is not the one that decides (MNLI's mismatched). */
export function nameScored({ task, file }: { task: string; file: string }): string {
  return DECIDING_FILES.includes(file) ? task : `${task}, ${file}`;
}
