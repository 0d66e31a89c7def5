// Benchmarks exported models: size, memory and speed of each precision, tied against dense, nfc against transformers.js.
// Usage: npm run bench:inference [-- DENSE TIED...] [--precision LIST] [--threads LIST] [--device LIST] [--prompt N]
//   [--new N] [--runs N]
// DENSE and TIED are model folders, or exports; without them a GPT-2 small with random weights is made. What a device does
// not run gets a row that says why.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { nameModelFile } from "../dist/model/precision.js";
import { record } from "./figures.mjs";
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
    engines: { type: "string", default: "nfc,transformers.js" },
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

const sizeOf = (output, precision) => {
  const path = join(output, "onnx", nameModelFile(precision));
  return existsSync(path) ? statSync(path).size : Number.NaN;
};
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** One measurement in a process of its own; where it fails, the reason, which is the line of its error. */
function measureOnce({ engine, output, device }, precision, threads) {
  const argv = [file("./inference-run.mjs"), engine, output, precision, threads, args.prompt, args.new, device];
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: "utf8", timeout: LIMIT });
  if (status === 0) return JSON.parse(stdout);
  return { fault: /^\w*Error.*$/m.exec(stderr)?.[0] ?? `no result within ${LIMIT / 1000} s` };
}

/** Each way once a round, by turns: ratios are of neighbours, so that a busy machine slows both. */
function measure(ways, precision, threads) {
  const rounds = Array.from({ length: Number(args.runs) }, () =>
    ways.map((way) => measureOnce(way, precision, threads)),
  );
  return ways.map((_, i) => {
    const fault = rounds.map((round) => round[i].fault).find(Boolean);
    if (fault) return { fault };
    const of = (key) => median(rounds.map((round) => round[i][key]));
    const ratio = (key) => median(rounds.map((round) => round[i][key] / (round[0][key] ?? Number.NaN)));
    return { load: of("load"), peak: of("peak"), ...speeds(of), ratios: speeds(ratio) };
  });
}

const speeds = (of) => ({ prefill: of("prefill"), decode: of("decode") });

const listCells = ({ peak, ratios, ...speed }) => [
  peak.toFixed(0),
  ...["prefill", "decode"].flatMap((key) => [speed[key].toFixed(0), ratios[key].toFixed(2)]),
];

try {
  console.log(
    `${cpus().length} × ${cpus()[0].model}, Node ${process.version}; ${args.prompt} tokens read, ${args.new}`,
  );
  const folders = await models();
  const files = folders.map((model) => ({ name: basename(model), output: exported(model) }));
  const [dense] = files;
  const ways = args.device.split(",").flatMap((device) =>
    args.engines.split(",").flatMap((engine) => {
      if (engine === "nfc") return files.map((of) => ({ engine, device, ...of }));
      return device === "cpu" ? [{ engine, device, ...dense }] : [];
    }),
  );
  console.log(
    "| precision | threads | device | model | engine | MB | × fp32 | peak MB | prefill t/s | × | decode t/s | × |",
  );
  console.log("|---|--:|---|---|---|--:|--:|--:|--:|--:|--:|--:|");
  for (const precision of precisions)
    for (const threads of args.threads.split(","))
      for (const [i, result] of measure(ways, precision, threads).entries()) {
        const { output, ...way } = ways[i];
        record({
          bench: "inference",
          prompt: Number(args.prompt),
          precision,
          threads: Number(threads),
          ...way,
          ...result,
        });
        const [size, full] = [precision, "fp32"].map((each) => sizeOf(output, each));
        const cells = [
          ...[precision, threads, way.device, way.name, way.engine, (size / 1e6).toFixed(1), (size / full).toFixed(3)],
          ...(result.fault ? [result.fault] : listCells(result)),
        ];
        console.log(`| ${cells.join(" | ")} |`);
      }
} finally {
  if (args.keep) console.log(`kept: ${folder}`);
  else rmSync(folder, { recursive: true, force: true });
}
