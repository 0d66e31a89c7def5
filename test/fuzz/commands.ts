// Whole commands on a tiny model one of whose files is spoiled: each ends with a result or with one line and exit code 2.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { judge, runNfc } from "./command-line.ts";
import { COMMIT, copyModels, DISTILL, restoreModel } from "./models.ts";
import type { Format } from "./mutate.ts";
import type { Target } from "./target.ts";

interface Line {
  name: string;
  /** Names below the folder of the models begin with "@/"; outputs go to "@/out". */
  args: string;
  /** The files that are spoiled, one at a time. */
  files: readonly string[];
  /** Exit codes besides 0 and 2. */
  codes?: readonly number[];
  untilOutput?: boolean;
  /** A folder that the command changes: it is there anew for each input. */
  restored?: string;
  /** The checksums beside the spoiled file are those of its new content. */
  sealed?: boolean;
}

const ONE_THREAD = "--threads 1";
const SCORE = `--length 16 ${ONE_THREAD} --no-record`;
const FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"];
const below = (folder: string, names: readonly string[]) => names.map((name) => `${folder}/${name}`);
const RECORDED = ["config.json", "model.safetensors", "nfc.json"];
const EXPORTED = ["config.json", "onnx/model.onnx", "nfc.json"];
const HUB = "hub/models--owner--base";
const SIZE_FILES = ["nfc.size.json", "nfc.baseline.json", "model.safetensors", "onnx/onnx/model.onnx", "onnx/nfc.json"];
const distill = (data: string, output = "out", steps = 1) =>
  `distill @/tied --teacher @/base --data @/${data} -o @/${output} --steps ${steps} ${DISTILL.join(" ")}`;
const RUN_FILES = [...below("checkpoint", ["state.json", "model.safetensors"]), ...below("best", ["state.json"])];
const SUMS = [
  "run.json",
  "metrics.jsonl",
  "checkpoint/checksums.json",
  "best/checksums.json",
  "best/model.safetensors",
];

const LINES: readonly Line[] = [
  {
    name: "report-page",
    args: "report @/base @/tied --html @/out --force --sentence Once",
    files: ["tied/metrics.jsonl", "tied/nfc.json", "base/tokenizer.json"],
  },
  { name: "inspect", args: "inspect @/base", files: below("base", FILES) },
  { name: "inspect-tied", args: "inspect @/tied --json", files: below("tied", RECORDED) },
  {
    name: "inspect-shards",
    args: "inspect @/shards",
    files: ["shards/model.safetensors.index.json", "shards/model-00002-of-00002.safetensors"],
  },
  { name: "convert", args: `convert @/base -o @/out --tie mean ${ONE_THREAD}`, files: below("base", FILES) },
  {
    name: "convert-shards",
    args: "convert @/shards -o @/out --tie key --dtype f16",
    files: ["shards/model.safetensors.index.json"],
  },
  {
    name: "convert-vocab",
    args: "convert @/vocab -o @/out --tie query --trim-vocab",
    files: below("vocab", ["vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"]),
  },
  { name: "eval", args: `eval @/base --text @/text.txt ${SCORE}`, files: [...below("base", FILES), "text.txt"] },
  { name: "eval-lines", args: `eval @/base --text @/lines.jsonl ${SCORE}`, files: ["lines.jsonl"] },
  {
    name: "eval-vocab",
    args: `eval @/vocab --text @/text.txt ${SCORE}`,
    files: ["vocab/vocab.json", "vocab/merges.txt"],
  },
  {
    name: "eval-onnx",
    args: `eval @/onnx --text @/text.txt ${SCORE}`,
    files: below("onnx", [...EXPORTED, "tokenizer.json"]),
  },
  {
    name: "export-onnx",
    args: `export @/tied --onnx -o @/out ${ONE_THREAD}`,
    files: below("tied", [...RECORDED, "generation_config.json"]),
  },
  {
    name: "export-q4",
    args: `export @/base --onnx --precision q4 -o @/out ${ONE_THREAD}`,
    files: below("base", FILES),
  },
  {
    name: "export-safetensors",
    args: "export @/tied --safetensors --dtype f16 -o @/out",
    files: below("tied", RECORDED),
  },
  { name: "report", args: "report @/base @/tied", files: [...below("tied", RECORDED), "base/config.json"] },
  { name: "report-exports", args: "report @/base @/tied @/onnx --format markdown", files: below("onnx", EXPORTED) },
  { name: "report-table", args: "report @/onnx @/base", files: [...below("onnx", EXPORTED), "base/model.safetensors"] },
  { name: "check", args: "check --config @/sizes/nfc.size.json", files: below("sizes", SIZE_FILES), codes: [1, 3] },
  {
    name: "generate",
    args: `generate @/base --prompt Once -n 3 --temperature 1 --top-k 5 --seed 1 ${ONE_THREAD}`,
    files: below("base", FILES),
  },
  {
    name: "generate-onnx",
    args: `generate @/onnx --prompt Once -n 3 ${ONE_THREAD}`,
    files: below("onnx", [...EXPORTED, "tokenizer.json"]),
  },
  { name: "serve", args: "serve @/onnx --port 0", files: below("onnx", EXPORTED), untilOutput: true },
  { name: "distill", args: distill("text.txt"), files: ["text.txt", ...below("tied", RECORDED), "base/config.json"] },
  { name: "distill-ids", args: distill("ids.bin"), files: ["ids.bin"] },
  { name: "distill-numpy", args: distill("numbers.npy"), files: ["numbers.npy"] },
  { name: "distill-shard", args: distill("shard.bin"), files: ["shard.bin"] },
  { name: "distill-packed", args: distill("text.txt.gz"), files: ["text.txt.gz"] },
  {
    name: "distill-resume",
    args: `${distill("text.txt", "stopped", 6)} --eval-every 1 --resume`,
    files: below("stopped.run", [...RUN_FILES, ...SUMS]),
    restored: "stopped.run",
  },
  {
    name: "distill-resume-sealed",
    args: `${distill("text.txt", "stopped", 6)} --eval-every 1 --resume`,
    files: below("stopped.run", RUN_FILES),
    ...{ restored: "stopped.run", sealed: true },
  },
  {
    name: "distill-extend",
    args: `${distill("text.txt", "done", 2)} --resume`,
    files: below("done", ["nfc.json", "metrics.jsonl", "config.json", "model.safetensors"]),
    restored: "done",
  },
  { name: "eval-packed", args: `eval @/base --text @/text.txt.gz ${SCORE}`, files: ["text.txt.gz"] },
  { name: "eval-array", args: `eval @/base --text @/array.json ${SCORE}`, files: ["array.json"] },
  { name: "eval-numpy", args: `eval @/base --text @/numbers.npy ${SCORE}`, files: ["numbers.npy"] },
  { name: "eval-shard", args: `eval @/base --text @/shard.bin ${SCORE}`, files: ["shard.bin"] },
  { name: "convert-lines", args: "convert @/lines -o @/out --tie query --trim-vocab", files: ["lines/vocab.txt"] },
  { name: "inspect-hub", args: "inspect hf://owner/base --offline", files: below(HUB, ["refs/main"]) },
  {
    name: "convert-hub",
    args: "convert hf://owner/base --offline -o @/out --tie query",
    files: below(`${HUB}/snapshots/${COMMIT}`, ["model.safetensors.index.json", "config.json", "tokenizer.json"]),
  },
];

function findFormat(file: string): Format {
  if (file.endsWith(".json")) return "json";
  if (file.endsWith(".safetensors")) return "safetensors";
  if (file.endsWith(".onnx")) return "protobuf";
  if (file.endsWith(".gz")) return "gzip";
  return /\.(jsonl|txt)$/.test(file) ? "lines" : "bytes";
}

const OUTPUTS = ["out", "out.run", "stopped", "done.run"];
/** Names that a command must not leave behind. */
const LEFT = /nfc-(tmp|old)|\.lock$/;

/** Writes the checksum of a file into the checksums.json beside it. */
function seal(path: string): void {
  const file = join(dirname(path), "checksums.json");
  const sums = JSON.parse(readFileSync(file, "utf8"));
  sums[basename(path)] = createHash("sha256").update(readFileSync(path)).digest("hex");
  writeFileSync(file, JSON.stringify(sums));
}

/** Runs what finds the Hub's cache in a folder. */
async function withHubCache<T>(folder: string, run: () => Promise<T>): Promise<T> {
  const before = process.env.HF_HUB_CACHE;
  process.env.HF_HUB_CACHE = folder;
  try {
    return await run();
  } finally {
    if (before === undefined) delete process.env.HF_HUB_CACHE;
    else process.env.HF_HUB_CACHE = before;
  }
}

function makeTarget(line: Line, file: string): Target {
  const name = `${line.name}+${file.replaceAll("/", "-")}`;
  return {
    ...{ kind: "command", name, format: findFormat(file) },
    async prepare(folder) {
      await copyModels(folder);
      const path = join(folder, file);
      const valid = [readFileSync(path)];
      const args = line.args.replaceAll("@/", `${folder}/`).split(" ");
      const runWhole = () => withHubCache(join(folder, "hub"), () => runNfc(args, line));
      const clean = () => {
        for (const output of OUTPUTS) rmSync(join(folder, output), { recursive: true, force: true });
        if (line.restored) restoreModel(folder, line.restored);
      };
      const run = async (input: Uint8Array) => {
        writeFileSync(path, input);
        if (line.sealed) seal(path);
        const fault = judge(await runWhole(), [0, 2, ...(line.codes ?? [])]);
        clean();
        const left = readdirSync(folder).find((name) => LEFT.test(name));
        return fault ?? (left === undefined ? null : `leaves ${left}`);
      };
      const fault = judge(await runWhole(), [0]);
      clean();
      if (fault !== null) throw new Error(`${name}: the valid input fails: ${fault}`);
      return { valid, run };
    },
  };
}

export const COMMANDS: readonly Target[] = LINES.flatMap((line) => line.files.map((file) => makeTarget(line, file)));
