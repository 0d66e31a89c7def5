// A training corpus as token ids on disk: text is tokenized once into a cache file, nanoGPT's .bin is read in place.
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import { streamTokens } from "../../checkpoint/tokens.ts";
import { NfcError, throwIfAborted } from "../../errors.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { PositionalFile } from "../../io/positional-file.ts";
import { sha256File } from "../../io/sha256.ts";
import type { LongCall } from "../../progress.ts";
import { detectCorpusKind, nameCorpus } from "./corpus.ts";
import { type Ids, openIds, writeIds } from "./token-file.ts";

export interface CorpusOptions extends LongCall {
  /** Field of a .jsonl line that holds the text; "text" unless given. */
  field?: string | undefined;
  /** Folder for cache files; $NFC_CACHE, else $XDG_CACHE_HOME/nfc, else ~/.cache/nfc, and in it tokens/. */
  cache?: string | undefined;
  /** Size of the vocabulary: every id must be smaller. */
  vocabulary: number;
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
   * Opens files of one kind: .bin (uint16 ids, one file after the other; needs no tokenizer) or text.
   * @throws NfcError as `streamTokens`; "invalid-file" (no tokens, half an id), "mismatch" (an id past the vocabulary),
   * "usage" (both kinds, text without a tokenizer), "io" (also a cache folder that cannot be written), "aborted"
   */
  static async open(
    files: readonly string[],
    tokenizer: Tokenizer | null,
    options: CorpusOptions,
  ): Promise<TokenCorpus> {
    const name = nameCorpus(files);
    const source = await (detectCorpusKind(files) === "ids"
      ? openBins(files, options)
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

async function readIds({ file, width }: Ids, at: number, target: Int32Array, vocabulary: number): Promise<void> {
  const raw = width === 2 ? new Uint16Array(target.length) : new Uint32Array(target.length);
  await file.readInto(new Uint8Array(raw.buffer), at * width);
  for (const [i, id] of raw.entries()) if (id >= vocabulary) throw makeIdError(file.path, id, at + i, vocabulary);
  target.set(raw);
}

async function openBins(files: readonly string[], options: CorpusOptions): Promise<Source> {
  const ids: Ids[] = [];
  try {
    for (const path of files) {
      const file = await PositionalFile.open(path);
      ids.push({ file, count: file.size / 2, width: 2 });
      if (file.size % 2 === 1)
        throw new NfcError("invalid-file", `${path}: ${file.size} bytes are no whole number of uint16 token ids`, {
          hint: "write it again; .bin files are nanoGPT's: token ids as uint16, nothing else",
        });
    }
    return { fingerprint: await fingerprintCorpus(files, "ids", options), fromCache: false, ids };
  } catch (error) {
    for (const { file } of ids) await file.close();
    throw error;
  }
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
  const width = options.vocabulary <= 2 ** 16 ? 2 : 4;
  const path = join(options.cache ?? findDefaultCache("tokens"), `${fingerprint}.u${8 * width}`);
  const cached = await openIds(path, width);
  if (cached) return { fingerprint, fromCache: true, ids: [cached] };
  await writeIds(path, width, tokenizeFiles(files, tokenizer, options));
  const written = await openIds(path, width);
  if (!written) throw new Error(`${path}: written, but not as a cache file`);
  return { fingerprint, fromCache: false, ids: [written] };
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
    parts.push(/\.(jsonl|ndjson)$/.test(path) ? `field ${field}` : "whole", await sha256File(path, signal, onBytes));
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
  { field, vocabulary, signal, onProgress }: CorpusOptions,
): AsyncGenerator<number[]> {
  const total = await sumSizes(files);
  let done = 0;
  const onBytes = (bytes: number) => {
    done += bytes;
    onProgress?.({ phase: "tokenising", done, total, unit: "bytes" });
  };
  let count = 0;
  for await (const ids of streamTokens(files, tokenizer, { onBytes, field, signal })) {
    throwIfAborted(signal);
    const wrong = ids.findIndex((id) => id >= vocabulary);
    if (wrong >= 0) throw makeIdError(nameCorpus(files), ids[wrong] as number, count + wrong, vocabulary);
    count += ids.length;
    yield ids;
  }
  if (count === 0) throw makeEmptyError(nameCorpus(files));
}

function makeEmptyError(name: string): NfcError {
  return new NfcError("invalid-file", `${name}: no tokens in it`, { hint: "give a longer text" });
}

function makeIdError(path: string, id: number, at: number, vocabulary: number): NfcError {
  return new NfcError("mismatch", `${path}: token ${id} at position ${at}, the model has ${vocabulary} tokens`, {
    hint: "use the model's own tokenizer",
  });
}
