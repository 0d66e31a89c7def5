// The files that a path, folder or glob names: models, whose headers are read, and whatever else weighs.
import { stat } from "node:fs/promises";
import { basename, isAbsolute, join, relative } from "node:path";
import { glob } from "tinyglobby";
import { NfcError } from "../../errors.ts";
import { errnoOf } from "../../io/io-error.ts";

const MODELS = "**/*.{safetensors,onnx}";
const STATE_NAMES = ["optimizer", "scheduler", "training_args", "rng_state"];
const STATE_ENDINGS = ["pt", "pth", "bin"];
const STATE = `**/{${STATE_NAMES}}*.{${STATE_ENDINGS}}`;
const isState = (name: string) =>
  STATE_NAMES.some((start) => basename(name).startsWith(start)) &&
  STATE_ENDINGS.some((end) => name.endsWith(`.${end}`));

export interface ModelFiles {
  /** Files whose headers are read, sorted. */
  models: string[];
  /** What training leaves behind, such as optimizer.pt. */
  state: string[];
  /** Anything else that the path itself names. */
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
  const isModel = (name: string) => /\.(safetensors|onnx)$/.test(name);
  const rest = named.filter((name) => !isModel(name));
  return {
    models: named.filter(isModel),
    state: rest.filter(isState),
    others: rest.filter((name) => !isState(name)),
  };
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EINVAL", "ENAMETOOLONG"].includes(errnoOf(error) ?? "")) return false;
    throw error;
  }
}
