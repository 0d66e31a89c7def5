// The perplexities of a report: what was measured just now, and what each model's nfc.json remembers.
import { posix } from "node:path";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import { countParameters } from "../model/parameters.ts";
import type { Perplexity } from "./schema.ts";

/** Weights by the name that says nothing about the model: their folder's name does. */
const UNTELLING_NAME = /^model\.safetensors(\.index\.json)?$/;

/** Perplexities of the two models of a report on one text; `kl` and `agreement` compare `after` with `before`. */
export interface Measurement {
  /** The text, as it shall be called. */
  file: string;
  sha256?: string;
  /** Tokens scored. */
  tokens: number;
  before?: number;
  after?: number;
  kl?: number;
  agreement?: number;
}

/** One row for every text and number of tokens, sorted by name; measurements win over records. */
export function collectPerplexities(
  before: Checkpoint,
  after: Checkpoint,
  measurements: readonly Measurement[],
): Perplexity[] {
  const rows = new Map<string, Perplexity>();
  for (const measurement of [...readRecorded(before, after), ...measurements]) {
    const key = `${measurement.file} ${measurement.sha256 ?? ""} ${measurement.tokens}`;
    const old = rows.get(key);
    rows.set(key, {
      file: measurement.file,
      sha256: measurement.sha256 ?? null,
      tokens: measurement.tokens,
      before: measurement.before ?? old?.before ?? null,
      after: measurement.after ?? old?.after ?? null,
      kl: measurement.kl ?? old?.kl ?? null,
      agreement: measurement.agreement ?? old?.agreement ?? null,
    });
  }
  return [...rows.values()].sort((a, b) => (a.file === b.file ? a.tokens - b.tokens : a.file < b.file ? -1 : 1));
}

/** What the records say. The source that `after` was compared with is `before` only if it looks like the same model. */
function readRecorded(before: Checkpoint, after: Checkpoint): Measurement[] {
  const related = isRecordedSource(before, after);
  return [
    ...(before.record?.perplexity ?? []).map((entry) => ({ ...describeText(entry), before: entry.perplexity })),
    ...(after.record?.perplexity ?? []).map((entry) => ({
      ...describeText(entry),
      after: entry.perplexity,
      ...(related && entry.source !== undefined && { before: entry.source }),
    })),
  ];
}

/** Overlapping windows give another perplexity of the same text: their stride goes with its name. */
export function describeText({ file, sha256, tokens, length, stride }: NonNullable<NfcRecord["perplexity"]>[number]): {
  file: string;
  sha256: string;
  tokens: number;
} {
  const overlapping = stride !== undefined && stride !== length;
  return { file: overlapping ? `${file}, stride ${stride}` : file, sha256, tokens };
}

/**
 * Whether `after` was made from `before`, as far as that shows without hashing weights: its nfc.json names a source of
 * the same name, the same number of parameters and the same size.
 */
export function isRecordedSource(before: Checkpoint, after: Checkpoint): boolean {
  const source = after.record?.source;
  if (source === undefined) return false;
  const bytes = source.files.reduce((sum, file) => sum + file.bytes, 0);
  return (
    source.parameters === countParameters(before.config) &&
    bytes === before.reader.byteLength &&
    nameModel(source.path) === nameModel(before.source)
  );
}

/** The last part of a path, whether it names a folder or the weights in it, without a revision (hf://owner/name@rev). */
function nameModel(path: string): string {
  const parts = posix.normalize(path.replaceAll("\\", "/")).split("/").filter(Boolean);
  const last = parts.at(-1) ?? "";
  const name = UNTELLING_NAME.test(last) ? (parts.at(-2) ?? last) : last;
  return name.replace(/@.*$/, "");
}
