// Fetches a model from the Hugging Face Hub into its usual cache, or takes it from there without a network.

import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { NfcError, throwIfAborted } from "../../errors.ts";
import { fileExists } from "../../io/exists.ts";
import { isTokenizerFile } from "../../io/tokenizer-files.ts";
import type { LongCall } from "../../progress.ts";
import { CONFIG_FILE, GENERATION_FILE } from "../config-file.ts";
import { describePickleConversion, findPickles } from "../foreign-formats.ts";
import { listFirstQuoted } from "../naming/layout.ts";
import { NFC_RECORD_FILE } from "../nfc-record.ts";
import { selectWeights } from "../source.ts";
import { COMMIT, ModelCache, type RemoteFile, readShardNames } from "./cache.ts";
import { toHubError } from "./errors.ts";

type HubLibrary = typeof import("@huggingface/hub");

const SCHEME = "hf://";
const REFERENCE = /^hf:\/\/([\w-][\w.-]*\/[\w-][\w.-]*?)(?:@([\w-][\w./-]*))?$/;
const DEFAULT_ENDPOINT = "https://huggingface.co";

/** The files that are downloaded besides the weights and the tokenizer: all that convert, eval and export read or copy. */
const SMALL_FILES = [CONFIG_FILE, GENERATION_FILE, NFC_RECORD_FILE];

export interface HubReference {
  /** owner/name */
  name: string;
  revision: string;
}

/** `onProgress` is told of the bytes of all missing files together. */
export interface HubOptions extends LongCall {
  /** Use the cache only. */
  offline?: boolean | undefined;
}

/** Everything a request needs. */
interface HubDownload {
  hub: HubLibrary;
  /** The reference that the user wrote, for messages. */
  source: string;
  reference: HubReference;
  cache: ModelCache;
  request: { hubUrl: string; fetch: typeof fetch; accessToken?: string };
  signal: AbortSignal | undefined;
}

export function isHubReference(source: string): boolean {
  return source.startsWith(SCHEME);
}

/** @throws NfcError `usage` when `source` is not `hf://owner/name[@revision]` */
export function parseHubReference(source: string): HubReference {
  const [, name, revision = "main"] = REFERENCE.exec(source) ?? [];
  if (name === undefined || revision.split("/").some((part) => part === "" || part.startsWith("."))) {
    throw new NfcError("usage", `${source}: is not hf://owner/name or hf://owner/name@revision`, {
      hint: "GPT-2 itself is hf://openai-community/gpt2",
    });
  }
  return { name, revision };
}

/**
 * The folder of a Hub model in the cache that every Hugging Face tool shares (HF_HUB_CACHE, HF_HOME), downloading what
 * is missing. Honors HF_ENDPOINT, HF_TOKEN (or the token of `hf auth login`) and HF_HUB_OFFLINE. When the Hub cannot
 * be reached, a complete cached snapshot is used, with a note.
 * @throws NfcError `network`, `not-found` or `usage`, in one line
 */
export async function fetchFromHub(
  source: string,
  options: HubOptions = {},
): Promise<{ folder: string; notes: string[] }> {
  const reference = parseHubReference(source);
  const hub = await import("@huggingface/hub");
  const root = join(hub.getHFHubCachePath(), hub.getRepoFolderName({ type: "model", name: reference.name }));
  const cache = new ModelCache(root);
  if (options.offline || isTrue(process.env.HF_HUB_OFFLINE)) {
    const folder = await cache.complete(reference.revision);
    if (folder !== null) return { folder, notes: [] };
    throw new NfcError("not-found", `${source}: not complete in the cache (${root}), and offline`, {
      hint: "run once with a network, or download it with `hf download`",
    });
  }
  const request = await readRequestSettings(options.signal);
  const session: HubDownload = { hub, source, reference, cache, request, signal: options.signal };
  try {
    return { folder: await download(session, options.onProgress), notes: [] };
  } catch (error) {
    const known = toHubError(error, { ...session, endpoint: session.request.hubUrl });
    const folder = known.unreachable ? await cache.complete(reference.revision) : null;
    if (folder === null) throw known.error;
    return { folder, notes: [`${source}: the Hub cannot be reached; the cached snapshot is used`] };
  }
}

function isTrue(flag: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(flag ?? "");
}

async function readRequestSettings(signal: AbortSignal | undefined): Promise<HubDownload["request"]> {
  const hubUrl = (process.env.HF_ENDPOINT || DEFAULT_ENDPOINT).replace(/\/+$/, "");
  if (!URL.canParse(hubUrl)) throw new NfcError("usage", `HF_ENDPOINT: ${hubUrl} is not a URL`);
  const accessToken = await readToken();
  const withSignal: typeof fetch = (input, init) => fetch(input, signal === undefined ? init : { ...init, signal });
  return { hubUrl, fetch: withSignal, ...(accessToken === undefined ? {} : { accessToken }) };
}

/** HF_TOKEN, else the token file that `hf auth login` writes. */
async function readToken(): Promise<string | undefined> {
  const home = process.env.HF_HOME || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface");
  const file = process.env.HF_TOKEN_PATH || join(home, "token");
  const given = process.env.HF_TOKEN || process.env.HUGGING_FACE_HUB_TOKEN;
  const token = (given || (fileExists(file) ? await readFile(file, "utf8") : "")).trim();
  if (token === "") return undefined;
  if (token.startsWith("hf_")) return token;
  throw new NfcError("usage", `${given ? "HF_TOKEN" : file}: a Hugging Face access token starts with "hf_"`, {
    hint: "make one at https://huggingface.co/settings/tokens",
  });
}

/** Downloads what is missing of one commit: config and tokenizer first, weights last. */
async function download(session: HubDownload, onProgress: HubOptions["onProgress"]): Promise<string> {
  const { cache, reference } = session;
  const commit = await resolveCommit(session);
  const files = await listFiles(session, commit);
  const wanted = await selectFiles(session, commit, files);
  const missing = wanted.filter((file) => !cache.has(commit, file.name));
  const total = missing.reduce((sum, file) => sum + file.size, 0);
  let bytes = 0;
  for (const file of missing) {
    await fetchFile(session, commit, file, (length) => {
      bytes += length;
      onProgress?.({ phase: "downloading", done: bytes, total, unit: "bytes", detail: file.name });
    });
  }
  await cache.writeRef(reference.revision, commit);
  return cache.snapshot(commit);
}

async function resolveCommit({ hub, request, reference, source }: HubDownload): Promise<string> {
  const info = await hub.modelInfo({ ...request, ...reference, additionalFields: ["sha"] });
  if (COMMIT.test(info.sha)) return info.sha;
  throw new NfcError("network", `${source}: the Hub named no commit for ${reference.revision}`);
}

/** The files at the top of the repository whose names are plain. */
async function listFiles({ hub, request, reference }: HubDownload, commit: string): Promise<Map<string, RemoteFile>> {
  const files = new Map<string, RemoteFile>();
  const repo = { type: "model", name: reference.name } as const;
  for await (const entry of hub.listFiles({ ...request, repo, revision: commit })) {
    if (entry.type !== "file" || !/^\w[\w.-]*$/.test(entry.path)) continue;
    const { size, oid } = entry.lfs ?? { size: entry.size, oid: entry.oid ?? "" };
    files.set(entry.path, { name: entry.path, size, hash: oid });
  }
  return files;
}

/** The files to have, in the order of download; a shard index is fetched at once, because it names the shards. */
async function selectFiles(
  session: HubDownload,
  commit: string,
  files: Map<string, RemoteFile>,
): Promise<RemoteFile[]> {
  const { source, cache } = session;
  const weights = selectWeights([...files.keys()], source);
  const index = weights === null ? undefined : files.get(weights);
  if (index === undefined) throw makeNoWeightsError(source, [...files.keys()]);
  const tokenizer = [...files.keys()].filter(isTokenizerFile);
  const small = [...SMALL_FILES, ...tokenizer].flatMap((name) => files.get(name) ?? []);
  if (!index.name.endsWith(".json")) return [...small, index];
  if (!cache.has(commit, index.name)) await fetchFile(session, commit, index, () => {});
  const shards = await readShardNames(join(cache.snapshot(commit), index.name));
  return [...small, ...shards.sort().flatMap((name) => files.get(name) ?? [])];
}

function makeNoWeightsError(source: string, names: readonly string[]): NfcError {
  const pickles = findPickles("", names);
  if (pickles.length === 0) return new NfcError("not-found", `${source}: holds no safetensors checkpoint`);
  const message = `${source}: holds only PyTorch pickles (${listFirstQuoted(pickles)}); nfc reads safetensors`;
  return new NfcError("unsupported", message, {
    hint: `download the repository, then convert it once: ${describePickleConversion(pickles)}`,
  });
}

async function fetchFile(
  session: HubDownload,
  commit: string,
  file: RemoteFile,
  onBytes: (length: number) => void,
): Promise<void> {
  const { hub, request, reference, cache } = session;
  throwIfAborted(session.signal);
  const repo = { type: "model", name: reference.name } as const;
  // Plain HTTP is used, because the xet protocol holds parts of a file in memory to fetch them in parallel.
  const blob = await hub.downloadFile({ ...request, repo, path: file.name, revision: commit, xet: false });
  if (blob === null) throw new NfcError("not-found", `${session.source}: ${file.name} is not there any more`);
  await cache.store(commit, file, async function* () {
    for await (const chunk of blob.stream() as AsyncIterable<Uint8Array>) {
      onBytes(chunk.byteLength);
      yield chunk;
    }
  });
}
