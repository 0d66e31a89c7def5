// Benchmarks how 4-bit blocks are chosen: plain rounding, least squares and GPTQ, by block size, in perplexity and bytes.
// Usage: npm run build && node bench/quantizers.mjs MODEL TEXT CALIBRATION [--blocks 16,32,64,128] [--tokens 8192]
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openCheckpoint } from "../dist/checkpoint/checkpoint.js";
import { loadTokenizer } from "../dist/checkpoint/tokenizer.js";
import { streamTokens, takeWindows } from "../dist/checkpoint/tokens.js";
import { writeOnnxFile } from "../dist/export/onnx/onnx-file.js";
import { quantizeCalibrated } from "../dist/export/quantize/calibrate.js";
import { quantizeBlocks } from "../dist/graph/quantize/blocks.js";
import { scorePrecisions } from "../dist/inference/score/precisions.js";

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: { blocks: { type: "string", default: "16,32,64,128" }, tokens: { type: "string", default: "8192" } },
});
const [folder, text, calibration] = positionals;
const checkpoint = await openCheckpoint(folder);
const { config } = checkpoint;
const tokenizer = await loadTokenizer(folder, config);
const windows = await takeWindows(streamTokens([calibration], tokenizer), {
  length: config.n_positions,
  count: Number(args.tokens),
  name: calibration,
});

/** The weights of products, as `rule` quantises them. */
async function rounded(format, rule) {
  const matrices = new Map();
  for (const { name, shape } of checkpoint.tensors.values()) {
    if (name !== "wte.weight" && !/(attn|mlp)\.c_\w+\.weight$/.test(name)) continue;
    const options = { ...format, rule, shape, byRow: name === "wte.weight", name };
    matrices.set(name, quantizeBlocks(await checkpoint.readF32(name), options));
  }
  return matrices;
}

const METHODS = {
  "plain rounding": (format) => rounded(format, "extreme"),
  "least squares": (format) => rounded(format, "least-squares"),
  GPTQ: (format) => quantizeCalibrated(checkpoint, windows, format),
};

const output = mkdtempSync(join(tmpdir(), "nfc-quantizers-"));
const reference = { weights: "inline", noise: { kind: "mean" } };
try {
  console.log("| block | zero points | chosen by | MB | perplexity | against fp32 | KL (nats) |");
  console.log("|--:|---|---|--:|--:|--:|--:|");
  const write = async (name, precision, options) => {
    const { files } = await writeOnnxFile(join(output, name), checkpoint, { ...reference, ...options, precision });
    const path = join(output, name, files[0]);
    return { precision, path, bytes: statSync(path).size, cacheDtype: "float32", logitsDtype: "float32" };
  };
  const full = await write("fp32", "fp32", { quantization: {} });
  for (const block of args.blocks.split(",").map(Number))
    for (const symmetric of [false, true])
      for (const [method, choose] of Object.entries(METHODS)) {
        const format = { bits: 4, block, symmetric };
        const options = { quantization: format, calibrated: await choose(format) };
        const file = await write(`${block} ${symmetric} ${method}`, "q4", options);
        const scores = await scorePrecisions([full, file], config, checkpoint, {
          tokens: () => streamTokens([text], tokenizer),
        });
        const [before, after] = ["fp32", "q4"].map((wanted) => scores.find(({ precision }) => precision === wanted));
        const cells = [
          ...[block, symmetric ? "no" : "yes", method, (file.bytes / 1e6).toFixed(3)],
          after.perplexity.toFixed(3),
          `+${(100 * (after.perplexity / before.perplexity - 1)).toFixed(2)} %`,
          after.kl.toFixed(4),
        ];
        console.log(`| ${cells.join(" | ")} |`);
      }
} finally {
  rmSync(output, { recursive: true, force: true });
}
