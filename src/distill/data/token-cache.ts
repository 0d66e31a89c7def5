// A training corpus as token ids on disk: text is tokenized once into a cache file, files of ids are read in place where they can.

import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { availableParallelism, homedir } from "node:os";
import { join } from "node:path";
import type { TokenIds } from "../../checkpoint/encoding/encode-pool.ts";
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import { streamTokens } from "../../checkpoint/tokens.ts";
import { NfcError, throwIfAborted } from "../../errors.ts";
import { checkIds, openIdFile, streamIds } from "../../formats/ids/stream.ts";
import { detectCommonKind, detectDataKind } from "../../io/data-file.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { openAll } from "../../io/open-all.ts";
import { sha256File } from "../../io/sha256.ts";
import type { LongCall } from "../../progress.ts";
import { nameCorpus } from "./corpus.ts";
import { type Ids, openIds, writeIds } from "./token-file.ts";

export interface CorpusOptions extends LongCall {
  /** Field of a record of JSON that holds the text; "text" unless given. */
  field?: string | undefined;
  /** Folder for cache files; $NFC_CACHE, else $XDG_CACHE_HOME/nfc, else ~/.cache/nfc, and in it tokens/. */
  cache?: string | undefined;
  /** Size of the vocabulary: every id must be smaller. */
  vocabulary: number;
  /** Threads that tokenize; all cores unless given. */
  threads?: number | undefined;
}

interface Source {
  fingerprint: string;
  fromCache: boolean;
  ids: readonly Ids[];
}

/** Token ids on disk, read by position: memory does not grow with the corpus. */
export class TokenCorpus {
  /** Name in messages. */
  readonly name: string;
  /** Count of ids. */
  readonly tokens: number;
  /** sha256 over the contents and the tokenizer, by which a run knows its data. */
  readonly fingerprint: string;
  readonly fromCache: boolean;
  private readonly ids: readonly Ids[];
  private readonly vocabulary: number;

  private constructor(name: string, vocabulary: number, { fingerprint, fromCache, ids }: Source) {
    this.name = name;
    this.fingerprint = fingerprint;
    this.fromCache = fromCache;
    this.vocabulary = vocabulary;
    this.ids = ids;
    this.tokens = ids.reduce((sum, { count }) => sum + count, 0);
  }

  /**
   * Opens files of one kind: token ids (one file after the other; they need no tokenizer) or text.
   * @throws NfcError as `streamTokens`; "invalid-file" (no tokens, half an id), "mismatch" (an id past the vocabulary),
   * "usage" (both kinds, text without a tokenizer), "io" (also a cache folder that cannot be written), "aborted"
   */
  static async open(
    files: readonly string[],
    tokenizer: Tokenizer | null,
    options: CorpusOptions,
  ): Promise<TokenCorpus> {
    const name = nameCorpus(files);
    const source = await ((await detectCommonKind(files)) === "ids"
      ? openIdFiles(files, options)
      : openText(files, tokenizer, options));
    const corpus = new TokenCorpus(name, options.vocabulary, source);
    if (corpus.tokens > 0) return corpus;
    await corpus.close();
    throw makeEmptyError(name);
  }

  /** Ids `start` … `start + count − 1`. @throws NfcError "mismatch" for an id past the vocabulary, "io" */
  async read(start: number, count: number): Promise<Int32Array> {
    if (start < 0 || start + count > this.tokens) throw new RangeError(`${this.name} has only ${this.tokens} ids`);
    const result = new Int32Array(count);
    let first = 0; // position of the file's first id
    for (const ids of this.ids) {
      const from = Math.max(start, first);
      const to = Math.min(start + count, first + ids.count);
      if (from < to) await readIds(ids, from - first, result.subarray(from - start, to - start), this.vocabulary);
      first += ids.count;
    }
    return result;
  }

  async close(): Promise<void> {
    for (const { file } of this.ids) await file.close();
  }
}

async function readIds(
  { file, offset, width }: Ids,
  at: number,
  target: Int32Array,
  vocabulary: number,
): Promise<void> {
  const raw = width === 2 ? new Uint16Array(target.length) : new Uint32Array(target.length);
  await file.readInto(new Uint8Array(raw.buffer), offset + at * width);
  checkIds(file.path, raw, at, vocabulary);
  target.set(raw);
}

async function openIdFiles(files: readonly string[], options: CorpusOptions): Promise<Source> {
  return openAll(async (keep) => {
    const ids: Ids[] = [];
    for (const path of files) {
      const opened = (await openIdFile(path, options.vocabulary)) ?? (await unpackIds(path, options));
      keep(opened.file);
      ids.push(opened);
    }
    return { fingerprint: await fingerprintCorpus(files, "ids", options), fromCache: false, ids };
  });
}

/** Ids that cannot be read by position (packed, of another type) are written to the cache once. */
async function unpackIds(path: string, options: CorpusOptions): Promise<Ids> {
  const fingerprint = await fingerprintCorpus([path], "ids", options);
  const stream = () => requireTokens(streamIds(path, options.vocabulary, { signal: options.signal }), path);
  return (await openCached(fingerprint, stream, options)).ids;
}

async function openText(
  files: readonly string[],
  tokenizer: Tokenizer | null,
  options: CorpusOptions,
): Promise<Source> {
  if (tokenizer === null)
    throw new NfcError("usage", `${nameCorpus(files)}: text needs a tokenizer`, {
      hint: "put the model's tokenizer.json beside its weights, or give token ids as .bin files",
    });
  const fingerprint = await fingerprintCorpus(files, tokenizer.fingerprint, options);
  const stream = () => requireTokens(tokenizeFiles(files, tokenizer, options), nameCorpus(files));
  const { ids, fromCache } = await openCached(fingerprint, stream, options);
  return { fingerprint, fromCache, ids: [ids] };
}

/** The cache file under a name, written first unless it is there. */
async function openCached(
  fingerprint: string,
  stream: () => AsyncIterable<TokenIds>,
  { vocabulary, cache = findDefaultCache("tokens") }: CorpusOptions,
): Promise<{ ids: Ids; fromCache: boolean }> {
  const width = vocabulary <= 2 ** 16 ? 2 : 4;
  const path = join(cache, `${fingerprint}.u${8 * width}`);
  const cached = await openIds(path, width);
  if (cached) return { ids: cached, fromCache: true };
  await writeIds(path, width, stream());
  const ids = await openIds(path, width);
  if (!ids) throw new Error(`${path}: written, but not as a cache file`);
  return { ids, fromCache: false };
}

/** The folder of cache files unless --cache names one. */
export function findDefaultCache(kind: "tokens" | "teacher"): string {
  const { NFC_CACHE, XDG_CACHE_HOME } = process.env;
  return join(NFC_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "nfc"), kind);
}

/** sha256 over the tokenizer and, for each file, how its text is taken and its content. */
async function fingerprintCorpus(
  files: readonly string[],
  tokenizer: string,
  { field = "text", signal, onProgress }: CorpusOptions,
): Promise<string> {
  const parts = [tokenizer];
  const total = await sumSizes(files);
  let done = 0;
  const onBytes = (bytes: number) => {
    done += bytes;
    onProgress?.({ phase: "hashing the corpus", done, total, unit: "bytes" });
  };
  onBytes(0);
  for (const path of files) {
    const { kind } = await detectDataKind(path);
    parts.push(kind === "json" ? `field ${field}` : "whole", await sha256File(path, signal, onBytes));
  }
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** Bytes of the files together. */
async function sumSizes(files: readonly string[]): Promise<number> {
  let total = 0;
  for (const path of files) total += (await withIoErrors(path, () => stat(path))).size;
  return total;
}

async function* tokenizeFiles(
  files: readonly string[],
  tokenizer: Tokenizer,
  { field, vocabulary, threads = availableParallelism(), signal, onProgress }: CorpusOptions,
): AsyncGenerator<TokenIds> {
  const total = await sumSizes(files);
  let done = 0;
  const onBytes = (bytes: number) => {
    done += bytes;
    onProgress?.({ phase: "tokenising", done, total, unit: "bytes" });
  };
  let count = 0;
  for await (const ids of streamTokens(files, tokenizer, { onBytes, field, threads, signal })) {
    throwIfAborted(signal);
    checkIds(nameCorpus(files), ids, count, vocabulary);
    count += ids.length;
    yield ids;
  }
}

/** @throws NfcError "invalid-file" where no piece has an id: a cache file of none is taken for a damaged one */
async function* requireTokens(pieces: AsyncIterable<TokenIds>, name: string): AsyncGenerator<TokenIds> {
  let isEmpty = true;
  for await (const ids of pieces) {
    isEmpty &&= ids.length === 0;
    yield ids;
  }
  if (isEmpty) throw makeEmptyError(name);
}

export function makeEmptyError(name: string): NfcError {
  return new NfcError("invalid-file", `${name}: no tokens in it`, { hint: "give a longer text" });
}
