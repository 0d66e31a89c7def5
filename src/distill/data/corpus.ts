// Finds the files of a training corpus: files, folders and globs, either text or token ids.
import { stat } from "node:fs/promises";
import { basename, isAbsolute, join, resolve } from "node:path";
import { glob, isDynamicPattern } from "tinyglobby";
import { NfcError } from "../../errors.ts";
import { detectCommonKind } from "../../io/data-file.ts";
import { readErrno, toIoError } from "../../io/io-error.ts";
import { formatCommand } from "../../io/printable.ts";

/** Extensions of the files that are taken from a folder; those of the second line where there are none of the first. */
const CORPUS_FILES = ["**/*.{txt,jsonl,ndjson,bin,txt.gz,jsonl.gz,ndjson.gz,bin.gz}", "**/*.{json,npy,json.gz,npy.gz}"];
/** Descriptions that stand beside data and are none. */
const DESCRIPTIONS = /(^|[\\/])(dataset_infos?|dataset_dict|state|config|meta|metadata|package|tokenizer\w*)\.json$/;
/** Data sets that are not read, and must not be passed over in silence where they stand among texts. */
const OTHER_DATA = "**/*.{parquet,arrow}";

/**
 * Files named by arguments: files, folders (with the folders in them), globs. Sorted within each argument, each file once.
 * @throws NfcError "not-found" for an argument that matches nothing, "usage" for token ids among text and for a folder of
 * training and validation files, "unsupported" for a folder of another kind of data, "io", and as `detectDataKind`
 */
export async function findCorpusFiles(patterns: readonly string[]): Promise<string[]> {
  const files = new Map<string, string>();
  for (const pattern of patterns)
    for (const path of await expandPath(pattern)) if (!files.has(resolve(path))) files.set(resolve(path), path);
  const paths = [...files.values()];
  await detectCommonKind(paths);
  return paths;
}

/** The name of a corpus in messages. */
export function nameCorpus(files: readonly string[]): string {
  return files.length > 1 ? `${files[0]} and ${files.length - 1} more` : (files[0] ?? "no files");
}

async function expandPath(pattern: string): Promise<string[]> {
  const kind = await detectKind(pattern);
  if (kind === "file") return [pattern];
  if (kind === "folder") {
    return (await listFolder(pattern)).map((name) => join(pattern, name));
  }
  const paths = isDynamicPattern(pattern) ? await matchGlob(pattern) : [];
  if (paths.length > 0) return paths;
  const fact = isDynamicPattern(pattern) ? "no file matches this glob" : "no such file or folder";
  const hint = /^(https?|hf):\/\//.test(pattern) ? "download it first, and name the file" : "check the path";
  throw new NfcError("not-found", `${pattern}: ${fact}`, { hint });
}

/** The data files of a folder, by their paths in it. */
async function listFolder(folder: string): Promise<string[]> {
  const others = await matchGlob(OTHER_DATA, folder);
  if (others.length > 0)
    throw new NfcError("unsupported", `${folder}: holds ${others[0]}, a data set that is not read`, {
      hint: `save its texts as JSON lines first, for example in Python: datasets.load_from_disk(FOLDER).to_json("data.jsonl"), or name the other files themselves`,
    });
  for (const pattern of CORPUS_FILES) {
    const names = (await matchGlob(pattern, folder)).filter((name) => !DESCRIPTIONS.test(name));
    refuseBothHalves(folder, names);
    if (names.length > 0) return names;
  }
  throw new NfcError("not-found", `${folder}: no .txt, .jsonl, .ndjson or .bin file in this folder`, {
    hint: "name the files themselves, or a glob",
  });
}

/** nanoGPT and llm.c write training and validation ids side by side: together they would be trained on. */
function refuseBothHalves(folder: string, names: readonly string[]): void {
  const find = (part: RegExp) => names.find((name) => /\.bin(\.gz)?$/.test(name) && part.test(basename(name)));
  const [train, valid] = [find(/train/), find(/val/)];
  if (train === undefined || valid === undefined) return;
  throw new NfcError("usage", `${folder}: holds ${train} to train on and ${valid} to validate with`, {
    hint: `name them: ${formatCommand(["--data", join(folder, train), "--valid", join(folder, valid)])}`,
  });
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
