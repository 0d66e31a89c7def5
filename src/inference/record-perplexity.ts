// Notes a measured perplexity in a model's nfc.json, where the report finds it.
import { access, constants } from "node:fs/promises";
import { basename, join } from "node:path";
import { sha256Files } from "../io/sha256.ts";
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
    sha256: await sha256Files(texts),
    tokens: result.tokens,
    length: result.length,
    stride: result.stride,
    perplexity: result.perplexity,
    ...(result.against &&
      against &&
      Number.isFinite(result.against.perplexity) &&
      (await isSource(against, record)) && { source: result.against.perplexity }),
  };
  const key = ({ sha256, tokens, length, stride }: Entry) => [sha256, tokens, length, stride].join();
  const same = (other: Entry) => key(other) === key(entry);
  const old = record.perplexity?.find(same);
  const others = (record.perplexity ?? []).filter((other) => !same(other));
  const perplexity = [...others, { ...(old?.source !== undefined && { source: old.source }), ...entry }];
  await writeFileAtomic(path, formatNfcRecord({ ...record, perplexity }));
  return path;
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
