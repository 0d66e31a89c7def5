// The files of a model that a path, folder or glob names: weights and graphs, with the external data that they need.
import { stat } from "node:fs/promises";
import { isAbsolute, join, relative } from "node:path";
import { glob } from "tinyglobby";
import { NfcError } from "../../errors.ts";
import { errnoOf } from "../../io/io-error.ts";

const MODELS = "**/*.{safetensors,onnx}";
const STATE = "**/{optimizer,scheduler,training_args,rng_state}*.{pt,pth,bin,safetensors}";

export interface ModelFiles {
  /** Files whose headers are read, sorted. */
  models: string[];
  /** External data of ONNX files, and anything else that weighs. */
  others: string[];
}

/**
 * Names below `root`, with slashes. Links to folders are not followed; nothing outside `root` is looked at.
 * @throws NfcError "usage" for a path that leaves the folder of the configuration
 */
export async function modelFiles(root: string, path: string): Promise<ModelFiles> {
  const inside = relative(root, isAbsolute(path) ? path : join(root, path));
  if (inside.split(/[\\/]/)[0] === ".." || isAbsolute(inside))
    throw new NfcError("usage", `${path}: lies outside ${root}`, {
      hint: "put the configuration into a folder above the models",
    });
  const folder = await isFolder(join(root, path));
  const patterns = folder ? [`${inside || "."}/${MODELS}`, `${inside || "."}/${STATE}`] : [inside];
  const options = { cwd: root, followSymbolicLinks: false, expandDirectories: false, dot: false };
  const named = (
    await glob(
      patterns.map((one) => one.replaceAll("\\", "/")),
      options,
    )
  ).sort();
  const models = named.filter((name) => /\.(safetensors|onnx)$/.test(name));
  const own = new Set(named);
  const data: string[] = [];
  for (const model of models.filter((name) => name.endsWith(".onnx")))
    for (const file of await glob([`${escaped(model)}_data`, `${escaped(model)}_data_*`], options))
      if (!own.has(file)) data.push(file);
  return { models, others: [...named.filter((name) => !models.includes(name)), ...data].sort() };
}

const escaped = (path: string) => path.replace(/[()[\]{}!*?+@\\]/g, "\\$&");

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EINVAL", "ENAMETOOLONG"].includes(errnoOf(error) ?? "")) return false;
    throw error;
  }
}
