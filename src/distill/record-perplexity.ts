// Notes a measured perplexity in a model's nfc.json, where the report finds it.
import { createHash } from "node:crypto";
import { access, constants } from "node:fs/promises";
import { basename, join } from "node:path";
import { sha256File } from "../io/sha256.ts";
import { writeFileAtomic } from "../io/staging.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { formatNfcRecord, NFC_RECORD_FILE, type NfcRecord } from "../model/nfc-record.ts";
import { sourceOf } from "../model/provenance.ts";
import type { Evaluation } from "./evaluate.ts";

type Entry = NonNullable<NfcRecord["perplexity"]>[number];

/**
 * Adds or replaces the entry for this text. Gives the path of nfc.json, or null where the model has none, where it
 * cannot be written, and for a perplexity past every number, which JSON cannot hold.
 */
export async function recordPerplexity(
  checkpoint: Checkpoint,
  texts: readonly string[],
  result: Evaluation,
  against?: Checkpoint,
): Promise<string | null> {
  const { record, folder } = checkpoint;
  if (record === null || folder === null || !Number.isFinite(result.perplexity)) return null;
  const path = join(folder, NFC_RECORD_FILE);
  if (!(await writable(path)) || !(await writable(folder))) return null;
  const entry: Entry = {
    file: texts.map((text) => basename(text)).join(", "),
    sha256: await hashTexts(texts),
    tokens: result.tokens,
    perplexity: result.perplexity,
    ...(result.against &&
      against &&
      Number.isFinite(result.against.perplexity) &&
      (await isSource(against, record)) && { source: result.against.perplexity }),
  };
  const same = (other: Entry) => other.sha256 === entry.sha256 && other.tokens === entry.tokens;
  const old = record.perplexity?.find(same);
  const others = (record.perplexity ?? []).filter((other) => !same(other));
  const perplexity = [...others, { ...(old?.source !== undefined && { source: old.source }), ...entry }];
  await writeFileAtomic(path, formatNfcRecord({ ...record, perplexity }));
  return path;
}

/** sha256 of a single file, or of the list of hashes of several. */
async function hashTexts(texts: readonly string[]): Promise<string> {
  const hashes = await Promise.all(texts.map((text) => sha256File(text)));
  return hashes.length === 1 ? (hashes[0] as string) : createHash("sha256").update(hashes.join("\n")).digest("hex");
}

/** Whether `against` is the very checkpoint that the model was made from. */
async function isSource(against: Checkpoint, record: NfcRecord): Promise<boolean> {
  const { files } = await sourceOf(against);
  const hashes = (list: NfcRecord["source"]["files"]) =>
    list
      .map(({ sha256 }) => sha256)
      .sort()
      .join();
  return hashes(files) === hashes(record.source.files);
}

async function writable(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}
