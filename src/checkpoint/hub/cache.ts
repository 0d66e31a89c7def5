// Reads and writes the Hugging Face cache in the layout of huggingface_hub: blobs by hash, snapshots of links, refs.
import { createHash, type Hash, randomBytes } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { NfcError } from "../../errors.ts";
import { type DurableFile, writeDurably } from "../../io/durable.ts";
import { fileExists } from "../../io/exists.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { readJsonFile } from "../../io/json.ts";
import { selectWeights } from "../source.ts";

/** A commit of a model repository. */
export const COMMIT = /^[0-9a-f]{40}$/;
/** SHA-1 of a git object, or SHA-256 of a large file: names of blobs in the cache. */
const BLOB_NAME = /^[0-9a-f]{40}([0-9a-f]{24})?$/;

/** A file of a repository as the Hub lists it. */
export interface RemoteFile {
  name: string;
  size: number;
  /** SHA-256 of the content (large files), or git's SHA-1 of `blob <size>\0<content>`. */
  hash: string;
}

/** The cached folder of one model. */
export class ModelCache {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  snapshot(commit: string): string {
    return join(this.root, "snapshots", commit);
  }

  has(commit: string, name: string): boolean {
    return fileExists(join(this.snapshot(commit), name));
  }

  /** The folder of a revision when its weights are complete, else null. */
  async complete(revision: string): Promise<string | null> {
    const commit = COMMIT.test(revision) ? revision : await this.readRef(revision);
    if (commit === null || !fileExists(this.snapshot(commit))) return null;
    const folder = this.snapshot(commit);
    const names = (await readdir(folder)).filter((name) => fileExists(join(folder, name)));
    const weights = selectWeights(names, folder);
    if (weights === null) return null;
    if (!weights.endsWith(".json")) return folder;
    const shards = await readShardNames(join(folder, weights));
    return shards.every((name) => names.includes(name)) ? folder : null;
  }

  private async readRef(revision: string): Promise<string | null> {
    const path = join(this.root, "refs", revision);
    if (!fileExists(path)) return null;
    const commit = (await readFile(path, "utf8")).trim();
    return COMMIT.test(commit) ? commit : null;
  }

  /** Remembers which commit a branch or tag was at. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const path = join(this.root, "refs", revision);
    await withIoErrors(path, async () => {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, commit);
    });
  }

  /**
   * Stores a file under its hash and links it into the snapshot of `commit`. The hash of what arrived is checked; a
   * file is never visible before it is complete.
   */
  async store(commit: string, file: RemoteFile, content: () => AsyncIterable<Uint8Array>): Promise<void> {
    if (!BLOB_NAME.test(file.hash)) throw new NfcError("network", `${file.name}: the Hub sent no usable hash of it`);
    const blob = join(this.root, "blobs", file.hash);
    const pointer = join(this.snapshot(commit), file.name);
    await withIoErrors(blob, async () => {
      await mkdir(dirname(blob), { recursive: true });
      await mkdir(dirname(pointer), { recursive: true });
      if (!fileExists(blob)) await writeBlob(blob, file, content());
      await link(blob, pointer);
    });
  }
}

/** The file names that a shard index refers to; the reader checks the index itself when it opens it. */
export async function readShardNames(index: string): Promise<string[]> {
  const parsed = await readJsonFile(index);
  const map = (parsed as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null) return [];
  return [...new Set(Object.values(map).filter((name) => typeof name === "string"))];
}

async function writeBlob(blob: string, file: RemoteFile, content: AsyncIterable<Uint8Array>): Promise<void> {
  const partial = `${blob}.${randomBytes(4).toString("hex")}.incomplete`;
  const hash = newHash(file);
  let bytes = 0;
  const fill = async (output: DurableFile) => {
    for await (const chunk of content) {
      hash.update(chunk);
      bytes += chunk.byteLength;
      await output.write(chunk);
    }
  };
  try {
    await writeDurably(partial, fill, { shown: blob });
    if (bytes !== file.size || hash.digest("hex") !== file.hash) {
      throw new NfcError("network", `${file.name}: arrived damaged (${bytes} of ${file.size} bytes)`, {
        hint: "try again",
      });
    }
    await rename(partial, blob);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

function newHash(file: RemoteFile): Hash {
  const isSha256 = file.hash.length === 64;
  return isSha256 ? createHash("sha256") : createHash("sha1").update(`blob ${file.size}\0`);
}

/** Makes a relative link, so that the cache can be moved; a copy where the system has no links (Windows without the right). */
async function link(blob: string, pointer: string): Promise<void> {
  try {
    await symlink(relative(dirname(pointer), blob), pointer);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return;
    if (code !== "EPERM" && code !== "ENOSYS" && code !== "ENOTSUP") throw error;
    await copyFile(blob, pointer);
  }
}
