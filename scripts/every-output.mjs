// Makes every kind of output from the fixtures and prints a SHA-256 a file: run it before and after a change that must
// not change what nfc writes, and compare. `node scripts/every-output.mjs OTHER_CLONE` runs the nfc of another clone.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const nfcRoot = resolve(process.argv[2] ?? root);
const folder = mkdtempSync(join(tmpdir(), "nfc-every-output-"));

function nfc(...args) {
  return execFileSync(process.execPath, [join(nfcRoot, "bin/nfc.js"), ...args], {
    cwd: folder,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1", COLUMNS: "120", XDG_CACHE_HOME: join(folder, "cache") },
  });
}

/** Runs a command and keeps what it prints as a file. */
function keep(name, ...args) {
  mkdirSync(join(folder, "printed"), { recursive: true });
  writeFileSync(join(folder, "printed", name), nfc(...args));
}

const SHARED_TEXT = ["--calibration", "train.txt", "--calibration-tokens", "512"];
const SHORT_RUN = ["--data", "train.txt", "--steps", "5", "--batch-size", "2", "--length", "32", "--threads", "1"];
const VARIANTS = ["symmetric", "noise-shared", "noise-per-head", "noise-distance"];
const PRECISIONS = "fp32,fp16,int8,uint8,q4,q4f16";

/** Two sentences of the grammar a line, labelled by their order: enough for a task to train on. */
function writeTask(target) {
  const words = readFileSync(join(root, "fixtures/text.txt"), "utf8").split(/\s+/).filter(Boolean);
  const lines = Array.from({ length: 40 }, (_, i) => `${words.slice(i * 6, i * 6 + 6).join(" ")}\t${i % 2}`);
  mkdirSync(target, { recursive: true });
  for (const name of ["train.tsv", "dev.tsv"])
    writeFileSync(join(target, name), `sentence\tlabel\n${lines.join("\n")}\n`);
}

function makeOutputs() {
  cpSync(join(root, "fixtures"), folder, { recursive: true });
  writeTask(join(folder, "glue/SST-2"));
  const base = "tiny-gpt2";
  for (const variant of VARIANTS) {
    nfc("convert", base, "-o", `nf-${variant}`, "--variant", variant, ...SHARED_TEXT, "--threads", "1");
    nfc("distill", `nf-${variant}`, "--teacher", base, "-o", `distilled-${variant}`, ...SHORT_RUN);
    nfc("export", `distilled-${variant}`, "--onnx", "-o", `onnx-${variant}`, "--threads", "1");
  }
  for (const tie of ["spectral", "mean", "query", "key"])
    nfc("convert", base, "-o", `tie-${tie}`, "--variant", "symmetric", "--tie", tie, "--threads", "1");
  for (const dtype of ["f16", "bf16", "f64"])
    nfc("convert", base, "-o", `dtype-${dtype}`, "--variant", "symmetric", "--dtype", dtype, "--threads", "1");
  nfc("convert", base, "-o", "shards", "--variant", "symmetric", "--max-shard-size", "200kB", "--threads", "1");
  const nf = "distilled-noise-distance";
  nfc("distill", "nf-symmetric", "--teacher", base, "-o", "top-k", "--cache-teacher", "8", ...SHORT_RUN);
  nfc("distill", "nf-symmetric", "--teacher", base, "-o", "int8", "--teacher-precision", "int8", ...SHORT_RUN);
  nfc("finetune", base, "-o", "finetuned", ...SHORT_RUN);
  nfc("pretrain", "--config", `${base}/config.json`, "--variant", "noise-per-head", "-o", "pretrained", ...SHORT_RUN);
  const task = ["--task", "sst2", "--data", "glue/SST-2", "--epochs", "1", "--batch-size", "8", "--threads", "1"];
  nfc("finetune", nf, "-o", "classifier", ...task);
  nfc("finetune", "nf-symmetric", "--distill-from", "classifier", "-o", "classifier-distilled", ...task);
  nfc("export", nf, "--onnx", "--precision", PRECISIONS, "--text", "text.txt", "-o", "onnx", "--threads", "1");
  nfc("export", nf, "--onnx", "--precision", "uint8,q4,q4f16", ...SHARED_TEXT, "-o", "gptq", "--threads", "1");
  nfc("export", nf, "--onnx", "--precision", "q4", "--symmetric", "--block-size", "16", "-o", "q4", "--threads", "1");
  nfc("export", nf, "--onnx", "--noise", "sample", "--external-data", "-o", "onnx-sample", "--threads", "1");
  nfc("export", nf, "--onnx", "--share-weights", "-o", "shared", "--threads", "1");
  nfc("export", nf, "--safetensors", "--dtype", "f16", "-o", "f16");
  nfc("export", nf, "--gpt2", "--drop-noise", "-o", "gpt2");
  nfc("export", nf, "--hf", "-o", "hf");
  nfc("export", "classifier", "--onnx", "--precision", PRECISIONS, "-o", "classifier-onnx", "--threads", "1");
  printResults(base, nf);
}

function printResults(base, nf) {
  keep("inspect.txt", "inspect", base);
  keep("inspect-tied.txt", "inspect", nf);
  keep("inspect.json", "inspect", nf, "--json");
  keep("eval.json", "eval", nf, "--text", "text.txt", "--against", base, "--threads", "1", "--json");
  keep("eval-onnx.json", "eval", "onnx", "--text", "text.txt", "--threads", "1", "--json");
  keep("eval-task.json", "eval", "classifier", "--task", "sst2", "--data", "glue/SST-2", "--threads", "1", "--json");
  keep("generate.txt", "generate", "onnx", "--prompt", "Anna keeps her", "--max-new-tokens", "20", "--threads", "1");
  const glue = ["--models", `${base},${nf}`, "--tasks", "sst2", "--data", "glue", "--epochs", "1", "--threads", "1"];
  keep("glue.txt", "glue", ...glue, "-o", "out-glue");
  keep("glue.md", "glue", ...glue, "-o", "out-glue", "--format", "markdown");
  for (const format of ["text", "markdown", "json"]) {
    keep(`report.${format}`, "report", base, nf, "onnx", "--layers", "--heads", "--format", format);
    keep(`report-glue.${format}`, "report", base, nf, "--glue", "out-glue", "--format", format);
    keep(`comparison.${format}`, "report", base, nf, "tie-mean", "onnx/onnx/model_q4.onnx", "--format", format);
  }
  nfc("report", base, nf, "onnx", "--glue", "out-glue", "--html", "report.html", "--threads", "1");
  nfc("report", base, nf, "tie-mean", "--html", "comparison.html");
  writeFileSync(
    join(folder, "nfc.size.json"),
    JSON.stringify({ models: [{ name: "q4", path: "onnx/onnx/model_q4.onnx", limit: "10 MB", maxGrowth: "1 %" }] }),
  );
  keep("check-update.txt", "check", "--update-baseline", "--force");
  keep("check.txt", "check", "--markdown", "check.md");
  keep("check.json", "check", "--json");
}

/** Dates, durations and speeds differ from run to run; a training state's log holds them as well. */
const VOLATILE =
  /"(date|seconds|tokensPerSecond|tokens_per_second|time|msPerToken|ms|elapsed)"\s*:\s*("[^"]*"|[-\d.e+]+)/g;

function digest(file) {
  const bytes = readFileSync(file);
  const text = /\.(json|jsonl|txt|md|markdown|text|html)$/.test(file);
  const content = text ? bytes.toString("utf8").replace(VOLATILE, '"$1":0') : bytes;
  return createHash("sha256").update(content).digest("hex").slice(0, 32);
}

try {
  makeOutputs();
  rmSync(join(folder, "cache"), { recursive: true, force: true });
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1)).sort();
  for (const path of paths) process.stdout.write(`${digest(join(folder, path))}  ${path}\n`);
} finally {
  if (process.env.KEEP) process.stderr.write(`kept: ${folder}\n`);
  else rmSync(folder, { recursive: true, force: true });
}
