// Benchmarks exported models: size, memory and speed of each precision, tied against dense, nfc against transformers.js and
// llama.cpp.
// Usage: npm run bench:inference [-- DENSE TIED...] [--precision LIST] [--threads LIST] [--device LIST] [--prompt N]
//   [--new N] [--runs N] [--engines LIST]
// DENSE and TIED are model folders, or exports; without them a GPT-2 small with random weights is made. What a device does
// not run gets a row that says why. --prompt is a list, too. llama.cpp is npm's node-llama-cpp, by the folder of that package
// in NFC_LLAMA_CPP or where it is installed; it runs GGUF files that nfc writes from the same weights.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { nameModelFile } from "../dist/model/precision.js";
import { record } from "./figures.mjs";
import { findLlama, GGUF_OF } from "./llama.mjs";
import { makeModel } from "./make-model.mjs";

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    precision: { type: "string", default: "fp32,fp16,int8,q4" },
    threads: { type: "string", default: "1,2" },
    device: { type: "string", default: "cpu" },
    prompt: { type: "string", default: "128" },
    new: { type: "string", default: "64" },
    runs: { type: "string", default: "3" },
    engines: { type: "string", default: "nfc,transformers.js,llama.cpp" },
    keep: { type: "boolean", default: false },
  },
});
const file = (name) => fileURLToPath(new URL(name, import.meta.url));
/** Milliseconds of one measurement. */
const LIMIT = 600_000;
const precisions = args.precision.split(",");
const folder = mkdtempSync(join(tmpdir(), "nfc-bench-"));

function node(argv, env = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, {
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`node ${argv.join(" ")} ended with ${status}\n${stderr}`);
  return stdout;
}

const nfc = (argv, env) => node(["--import", file("./peak.mjs"), file("../bin/nfc.js"), ...argv], env);

async function models() {
  if (positionals.length > 0) return positionals;
  const dense = join(folder, "dense");
  await makeModel(dense, "small");
  return [
    dense,
    ...["symmetric", "noise-distance"].map((variant) => {
      nfc(["convert", dense, "--variant", variant, "--tie", "mean", "-o", join(folder, variant), "-q"]);
      return join(folder, variant);
    }),
  ];
}

/** All precisions of a model in one command, timed. Gives the folder of the files: the model's, where they are there. */
function exported(model) {
  if (existsSync(join(model, "onnx"))) return model;
  const output = join(folder, "onnx", basename(model));
  const peakFile = join(folder, "peak");
  const from = performance.now();
  const argv = ["export", model, "--precision", args.precision, "-o", output, "--json", "-q"];
  const { exports } = JSON.parse(nfc(argv, { NFC_BENCH_PEAK: peakFile }));
  const seconds = ((performance.now() - from) / 1000).toFixed(1);
  const peak = Math.round(Number(readFileSync(peakFile, "utf8")) / 1024);
  console.log(`export ${basename(model)}: ${exports.length} files in ${seconds} s, peak ${peak} MB`);
  return output;
}

/** The same weights for llama.cpp. */
function exportGguf(model) {
  const output = join(folder, "gguf", basename(model));
  const types = precisions.flatMap((precision) => GGUF_OF[precision] ?? []);
  nfc(["export", model, "--gguf", types.join(","), "-o", output, "-q"]);
  return output;
}

const sizeOf = (output, precision, engine) => {
  const path =
    engine === "llama.cpp"
      ? join(output, `model-${GGUF_OF[precision]}.gguf`)
      : join(output, "onnx", nameModelFile(precision));
  return existsSync(path) ? statSync(path).size : Number.NaN;
};
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** One measurement in a process of its own; where it fails, the reason, which is the line of its error. */
function measureOnce({ engine, output, device }, precision, threads, prompt) {
  const argv = [file("./inference-run.mjs"), engine, output, precision, threads, prompt, args.new, device];
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: "utf8", timeout: LIMIT });
  if (status === 0) return JSON.parse(stdout);
  return { fault: /^\w*Error.*$/m.exec(stderr)?.[0] ?? `no result within ${LIMIT / 1000} s` };
}

/** Each way once a round, by turns: ratios are of neighbours, so that a busy machine slows both. */
function measure(ways, precision, threads, prompt) {
  const rounds = Array.from({ length: Number(args.runs) }, () =>
    ways.map((way) => measureOnce(way, precision, threads, prompt)),
  );
  return ways.map((_, i) => {
    const fault = rounds.map((round) => round[i].fault).find(Boolean);
    if (fault) return { fault };
    const of = (key) => median(rounds.map((round) => round[i][key]));
    const ratio = (key) => median(rounds.map((round) => round[i][key] / (round[0][key] ?? Number.NaN)));
    return { load: of("load"), peak: of("peak"), ...speeds(of), ratios: { ...speeds(ratio), peak: ratio("peak") } };
  });
}

const speeds = (of) => ({ prefill: of("prefill"), decode: of("decode") });

const listCells = ({ load, peak, ratios, ...speed }) => [
  ...[load.toFixed(2), peak.toFixed(0), ratios.peak.toFixed(2)],
  ...["prefill", "decode"].flatMap((key) => [speed[key].toFixed(0), ratios[key].toFixed(2)]),
];

const listCases = () =>
  precisions.flatMap((precision) =>
    args.threads.split(",").flatMap((threads) => args.prompt.split(",").map((prompt) => [precision, threads, prompt])),
  );
/** llama.cpp has no file of some precisions. */
const suited = (ways, precision) => ways.filter(({ engine }) => engine !== "llama.cpp" || precision in GGUF_OF);

try {
  console.log(
    `${cpus().length} × ${cpus()[0].model}, Node ${process.version}; ${args.prompt} tokens read, ${args.new} written`,
  );
  const engines = args.engines.split(",");
  const withLlama = engines.includes("llama.cpp") && findLlama() !== null;
  if (engines.includes("llama.cpp") && !withLlama) console.log("no llama.cpp: NFC_LLAMA_CPP names no node-llama-cpp");
  const folders = await models();
  const files = folders.map((model) => ({ name: basename(model), output: exported(model) }));
  const [dense] = files;
  const gguf = withLlama ? exportGguf(folders[0]) : null;
  const ways = args.device.split(",").flatMap((device) =>
    engines.flatMap((engine) => {
      if (engine === "llama.cpp")
        return gguf && device === "cpu" ? [{ engine, device, name: dense.name, output: gguf }] : [];
      if (engine === "nfc") return files.map((of) => ({ engine, device, ...of }));
      return device === "cpu" ? [{ engine, device, ...dense }] : [];
    }),
  );
  console.log(
    "| precision | threads | prompt | device | model | engine | MB | load s | peak MB | × | prefill t/s | × | decode t/s | × |",
  );
  console.log("|---|--:|--:|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|");
  for (const [precision, threads, prompt] of listCases())
    for (const [i, result] of measure(suited(ways, precision), precision, threads, prompt).entries()) {
      const { output, ...way } = suited(ways, precision)[i];
      record({
        bench: "inference",
        prompt: Number(prompt),
        precision,
        threads: Number(threads),
        ...way,
        ...result,
      });
      const size = (sizeOf(output, precision, way.engine) / 1e6).toFixed(1);
      const cells = [
        ...[precision, threads, prompt, way.device, way.name, way.engine, size],
        ...(result.fault ? [result.fault] : listCells(result)),
      ];
      console.log(`| ${cells.join(" | ")} |`);
    }
} finally {
  if (args.keep) console.log(`kept: ${folder}`);
  else rmSync(folder, { recursive: true, force: true });
}
