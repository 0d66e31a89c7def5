// Finds the files of a training corpus: files, folders and globs, either text or token ids.
import { stat } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { glob, isDynamicPattern } from "tinyglobby";
import { NfcError } from "../../errors.ts";
import { readErrno, toIoError } from "../../io/io-error.ts";

/** Extensions of the files that are taken from a folder. */
const CORPUS_FILES = "**/*.{txt,jsonl,ndjson,bin}";

/**
 * Files named by arguments: files, folders (recursive: .txt .jsonl .ndjson .bin), globs. Sorted within each argument,
 * each file once.
 * @throws NfcError "not-found" for an argument that matches nothing, "usage" for .bin files among text, "io"
 */
export async function findCorpusFiles(patterns: readonly string[]): Promise<string[]> {
  const files = new Map<string, string>();
  for (const pattern of patterns)
    for (const path of await expandPath(pattern)) if (!files.has(resolve(path))) files.set(resolve(path), path);
  const paths = [...files.values()];
  detectCorpusKind(paths);
  return paths;
}

/** "ids": nanoGPT's .bin files of uint16 token ids. @throws NfcError "usage" when .bin files are mixed with text */
export function detectCorpusKind(files: readonly string[]): "ids" | "text" {
  const ids = files.find((path) => path.endsWith(".bin"));
  const text = files.find((path) => !path.endsWith(".bin"));
  if (ids !== undefined && text !== undefined)
    throw new NfcError("usage", `${ids} holds token ids, ${text} text: a corpus is one or the other`, {
      hint: "name the files of one kind",
    });
  return ids === undefined ? "text" : "ids";
}

/** The name of a corpus in messages. */
export function nameCorpus(files: readonly string[]): string {
  return files.length > 1 ? `${files[0]} and ${files.length - 1} more` : (files[0] ?? "no files");
}

async function expandPath(pattern: string): Promise<string[]> {
  const kind = await detectKind(pattern);
  if (kind === "file") return [pattern];
  if (kind === "folder") {
    const names = await matchGlob(CORPUS_FILES, pattern);
    if (names.length > 0) return names.map((name) => join(pattern, name));
    throw new NfcError("not-found", `${pattern}: no .txt, .jsonl, .ndjson or .bin file in this folder`, {
      hint: "name the files themselves, or a glob",
    });
  }
  const paths = isDynamicPattern(pattern) ? await matchGlob(pattern) : [];
  if (paths.length > 0) return paths;
  const fact = isDynamicPattern(pattern) ? "no file matches this glob" : "no such file or folder";
  throw new NfcError("not-found", `${pattern}: ${fact}`, { hint: "check the path" });
}

async function detectKind(path: string): Promise<"file" | "folder" | null> {
  try {
    return (await stat(path)).isDirectory() ? "folder" : "file";
  } catch (error) {
    const code = readErrno(error) ?? "";
    if (["ENOENT", "ENOTDIR", "EINVAL", "ENAMETOOLONG"].includes(code)) return null; // Windows: "*" is no name
    throw toIoError(error, path);
  }
}

/** The files that match, sorted by code units so that the order does not depend on the system. */
async function matchGlob(pattern: string, folder = process.cwd()): Promise<string[]> {
  const slashed = process.platform === "win32" ? pattern.replaceAll("\\", "/") : pattern;
  const options = { absolute: isAbsolute(pattern), expandDirectories: false, cwd: folder };
  return (await glob(slashed, options)).sort();
}
