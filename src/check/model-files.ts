// Finds the files that a path, folder or glob names: models, training state and others.
import type { Dirent } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { isAbsolute, join, relative, resolve, sep } from "node:path";
import picomatch from "picomatch";
import { NfcError } from "../errors.ts";
import { refuseLinkOut } from "../inference/exported/external-data.ts";
import { fileExists } from "../io/exists.ts";
import { withIoErrors } from "../io/io-error.ts";

const MODELS = "**/*.{safetensors,onnx,gguf}";
const STATE = "**/{optimizer,scheduler,training_args,rng_state}*.{pt,pth,bin}";
const isState = picomatch(STATE, { dot: true });

/** Extended globs are off: a configuration may come in a pull request, and nested ones can take for ever to match. */
const GLOB = { noextglob: true };

export interface ModelFiles {
  /** Files whose headers are read, sorted. */
  models: string[];
  /** GGUF files, which count with their bytes alone. */
  unread: string[];
  /** Files that training leaves behind, such as optimizer.pt. */
  state: string[];
  /** Anything else that the path itself names. */
  others: string[];
}

/**
 * Names below `root`, with slashes. Links to folders are not followed, those to files where they stay below `root`.
 * @throws NfcError "usage" for a path that leaves the folder of the configuration, "invalid-file" for a link that does
 */
export async function findModelFiles(root: string, path: string): Promise<ModelFiles> {
  const names = (await expandPattern(root, toPathBelow(root, path))).sort();
  for (const name of names) await refuseLinkOut(join(root, name), root);
  const files: ModelFiles = { models: [], unread: [], state: [], others: [] };
  for (const name of names) files[findKind(name)].push(name);
  return files;
}

function findKind(name: string): keyof ModelFiles {
  if (/\.(safetensors|onnx)$/.test(name)) return "models";
  if (name.endsWith(".gguf")) return "unread";
  return isState(name) ? "state" : "others";
}

/** Rewrites a path relative to the configuration's folder. @throws NfcError "usage" for a path that leaves it */
export function toPathBelow(root: string, path: string): string {
  const inside = toSlashes(relative(root, resolve(root, path)));
  if (inside.split("/")[0] !== ".." && !isAbsolute(inside)) return inside;
  throw new NfcError("usage", `${path}: lies outside ${root}`, {
    hint: "put the configuration into a folder above all that it names",
  });
}

/** Paths have slashes in the configuration and the baseline. */
export const toSlashes = (path: string) => (sep === "/" ? path : path.replaceAll(sep, "/"));

/** Expands a file, a folder's model files or a glob. Names that begin with a dot match only where the glob has one. */
async function expandPattern(root: string, path: string): Promise<string[]> {
  const there = fileExists(join(root, path))
    ? await withIoErrors(join(root, path), () => stat(join(root, path)))
    : null;
  if (there?.isFile()) return [path];
  if (there?.isDirectory()) {
    await refuseLinkOut(join(root, path), root);
    const wanted = picomatch([MODELS, STATE]);
    return (await listFilesBelow(root, path)).filter((name) => wanted(toSlashes(relative(path, name))));
  }
  const { base, isGlob } = picomatch.scan(path);
  if (!isGlob || !fileExists(join(root, base))) return [];
  await refuseLinkOut(join(root, base), root);
  const matches = picomatch(path, GLOB);
  return (await listFilesBelow(root, base)).filter((name) => matches(name));
}

/** Files and links to files, in folders whose names do not begin with a dot. */
async function listFilesBelow(root: string, folder: string): Promise<string[]> {
  const entries = await withIoErrors(join(root, folder), () => readdir(join(root, folder), { withFileTypes: true }));
  let names: string[] = [];
  for (const entry of entries) {
    const name = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory() && !entry.name.startsWith(".")) names = names.concat(await listFilesBelow(root, name));
    else if (await isFile(join(root, name), entry)) names.push(name);
  }
  return names;
}

/** A link that leads nowhere counts as a file: reading it then fails with its name. */
async function isFile(file: string, entry: Dirent): Promise<boolean> {
  if (!entry.isSymbolicLink()) return entry.isFile();
  return !(await stat(file).catch(() => null))?.isDirectory();
}
