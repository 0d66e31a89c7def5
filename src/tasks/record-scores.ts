// Writes the scores of an exported classifier's files into its nfc.json, where nfc report and nfc check find them.
import { basename } from "node:path";
import { changeRecord, drawsNoise, mergeEntries } from "../checkpoint/change-record.ts";
import type { ExportEntry } from "../checkpoint/nfc-record.ts";
import type { Precision } from "../model/precision.ts";
import type { TaskScore } from "./classify.ts";
import type { ExportedClassifier } from "./exported-classifier.ts";

type TaskEntry = NonNullable<ExportEntry["tasks"]>[number];

/** A file's score on one development file. */
export interface FileScore {
  precision: Precision;
  task: string;
  /** The development file, and the hash of its examples. */
  file: string;
  sha256: string;
  /** Most tokens of a text. */
  length: number;
  score: TaskScore;
}

/** Adds or replaces entries. Gives the path of nfc.json; null without one, if it cannot be written, and for drawn noise. */
export async function recordScores(model: ExportedClassifier, scores: readonly FileScore[]): Promise<string | null> {
  const { record, folder, files } = model;
  if (record === null || drawsNoise(record)) return null;
  return changeRecord(folder, (current) =>
    mergeEntries(current, files, (precision, old) => {
      const found = scores.filter((one) => one.precision === precision).map(findEntry);
      const others = (old?.tasks ?? []).filter((one) => !found.some((entry) => isSame(one, entry)));
      const tasks = [...others, ...found];
      return tasks.length > 0 ? { tasks } : {};
    }),
  );
}

function findEntry({ task, file, sha256, length, score: { examples, loss, metrics } }: FileScore): TaskEntry {
  return { task, file: basename(file), sha256, examples, length, loss, metrics: { ...metrics } };
}

const isSame = (a: TaskEntry, b: TaskEntry) => a.task === b.task && a.file === b.file;
