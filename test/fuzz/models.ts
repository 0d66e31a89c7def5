// The tiny models that whole commands are tried on: a dense one, the same in shards, tied, and exported.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { tinyHfConfig, writeCheckpoint } from "../support/make-checkpoint.ts";
import { runNfc } from "./command-line.ts";
import { NUMPY, SHARDS } from "./valid-data.ts";
import { GENERATION, SIZES } from "./valid-files.ts";

const FIXTURES = fileURLToPath(new URL("../../fixtures/", import.meta.url));
const SIZE = { layers: 1, heads: 2, width: 16, positions: 20, vocab: 384 };
/** The snapshot in the cache of the Hub. */
export const COMMIT = "0".repeat(40);
const CONFIG = { ...tinyHfConfig(SIZE), bos_token_id: 0, eos_token_id: 0, pad_token_id: 0 };

async function run(args: readonly string[]): Promise<void> {
  const { code, stderr } = await runNfc([...args, "-q"]);
  if (code !== 0) throw new Error(`nfc ${args.join(" ")}: ${stderr}`);
}

/** What a distillation of the tiny models needs besides its data and its output. */
export const DISTILL =
  "--batch-size 2 --length 8 --eval-tokens 16 --transfer-steps 0 --cache @/cache --threads 1".split(" ");

/** done/, a distilled model, and stopped.run/, a run that was interrupted. */
async function makeRuns(path: (...names: string[]) => string): Promise<void> {
  const flags = DISTILL.map((flag) => flag.replace("@", path()));
  const args = ["distill", path("tied"), "--teacher", path("base"), "--data", path("text.txt"), ...flags];
  await run([...args, "--steps", "1", "-o", path("done")]);
  const stopped = [...args, "--steps", "6", "--eval-every", "1", "-o", path("stopped")];
  const { code, stderr } = await runNfc(stopped, { until: () => existsSync(path("stopped.run/best")) });
  if (code !== 130 || !existsSync(path("stopped.run/checkpoint"))) throw new Error(`no run was interrupted: ${stderr}`);
}

/** hub/, a cache of the Hub in which owner/base lies. */
function makeHubCache(path: (...names: string[]) => string): void {
  const root = path("hub/models--owner--base");
  mkdirSync(join(root, "refs"), { recursive: true });
  writeFileSync(join(root, "refs/main"), COMMIT);
  cpSync(path("shards"), join(root, "snapshots", COMMIT), { recursive: true });
}

/**
 * Below `folder`: text.txt, text.txt.gz, lines.jsonl, ids.bin, numbers.npy, shard.bin, base/, shards/, vocab/ (with vocab.json and
 * merges.txt), lines/ (with vocab.txt), tied/, onnx/, sizes/ (an nfc.size.json with its models), and what `makeRuns` and
 * `makeHubCache` make.
 */
async function makeModels(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const path = (...names: string[]) => join(folder, ...names);
  const text = readFileSync(join(FIXTURES, "text.txt"), "utf8").slice(0, 3000);
  writeFileSync(path("text.txt"), text);
  const lines = text.split("\n\n").map((part) => JSON.stringify({ text: part }));
  writeFileSync(path("lines.jsonl"), lines.join("\n"));
  writeFileSync(path("array.json"), `[${lines.join(",\n")}]`);
  writeFileSync(path("ids.bin"), new Uint8Array(Uint16Array.from({ length: 1000 }, (_, i) => (7 * i) % 384).buffer));
  await writeCheckpoint(path("base"), { ...SIZE, config: CONFIG });
  await writeCheckpoint(path("shards"), { ...SIZE, config: CONFIG, shards: 2 });
  await writeCheckpoint(path("vocab"), { ...SIZE, config: CONFIG });
  await writeCheckpoint(path("lines"), { ...SIZE, config: CONFIG });
  writeFileSync(path("lines/vocab.txt"), Array.from({ length: SIZE.vocab - 4 }, (_, i) => `token${i}\n`).join(""));
  for (const model of ["base", "shards"]) {
    for (const file of ["tokenizer.json", "tokenizer_config.json"])
      cpSync(join(FIXTURES, "tiny-gpt2", file), path(model, file));
    writeFileSync(path(model, "generation_config.json"), JSON.stringify(GENERATION));
  }
  const { model } = JSON.parse(readFileSync(path("base/tokenizer.json"), "utf8"));
  const merges: unknown[] = model.merges;
  writeFileSync(path("vocab/vocab.json"), JSON.stringify(model.vocab));
  writeFileSync(path("vocab/merges.txt"), merges.map((one) => (Array.isArray(one) ? one.join(" ") : one)).join("\n"));
  writeFileSync(path("vocab/added_tokens.json"), JSON.stringify({ "<|endoftext|>": 0 }));
  writeFileSync(path("vocab/special_tokens_map.json"), JSON.stringify({ eos_token: "<|endoftext|>" }));
  await run(["convert", path("base"), "-o", path("tied"), "--tie", "mean", "--variant", "noise-distance"]);
  const metrics = [
    { step: 1, loss: 5.5, phase: "transfer" },
    { step: 2, loss: 5.1, eval: { perplexity: 190.5, loss: 5 } },
  ];
  writeFileSync(path("tied/metrics.jsonl"), metrics.map((one) => `${JSON.stringify(one)}\n`).join(""));
  await run(["export", path("tied"), "--onnx", "--external-data", "-o", path("onnx"), "--threads", "1"]);
  await makeRuns(path);
  makeHubCache(path);
  writeFileSync(path("numbers.npy"), NUMPY[0] as Uint8Array);
  writeFileSync(path("shard.bin"), SHARDS[0] as Uint8Array);
  writeFileSync(path("text.txt.gz"), gzipSync(text));
  mkdirSync(path("sizes"));
  cpSync(path("base/model.safetensors"), path("sizes/model.safetensors"));
  cpSync(path("onnx"), path("sizes/onnx"), { recursive: true });
  const { baseline: _, ...sizes } = SIZES;
  writeFileSync(path("sizes/nfc.size.json"), JSON.stringify(sizes));
  await run(["check", "--config", path("sizes/nfc.size.json"), "--update-baseline"]);
}

/** The models lie beside the folders of all targets, and are made by the first of them. */
export async function copyModels(folder: string): Promise<void> {
  const models = join(dirname(folder), "models");
  if (!existsSync(join(models, "sizes/nfc.baseline.json"))) {
    rmSync(models, { recursive: true, force: true });
    await makeModels(models);
  }
  cpSync(models, folder, { recursive: true });
}

/** Puts one of the models back as it was. */
export function restoreModel(folder: string, name: string): void {
  rmSync(join(folder, name), { recursive: true, force: true });
  cpSync(join(dirname(folder), "models", name), join(folder, name), { recursive: true });
}
