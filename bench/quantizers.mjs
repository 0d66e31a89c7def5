// Benchmarks how blocks of 2, 4 or 8 bits are chosen: plain rounding, least squares and GPTQ, by the size of blocks and the
// bits of the embedding, in perplexity and bytes.
// Usage: npm run build && node bench/quantizers.mjs MODEL TEXT CALIBRATION [--bits 4] [--embedding 4] [--blocks 16,32,64,128]
//   [--zero-points yes,no] [--methods "plain rounding,least squares,GPTQ"] [--tokens 8192]
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
import { isEmbedding } from "../dist/model/parameters.js";

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    bits: { type: "string", default: "4" },
    embedding: { type: "string" },
    blocks: { type: "string", default: "16,32,64,128" },
    "zero-points": { type: "string", default: "yes,no" },
    methods: { type: "string", default: "plain rounding,least squares,GPTQ" },
    tokens: { type: "string", default: "8192" },
  },
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

const bits = Number(args.bits);
const precision = { 2: "q2", 4: "q4", 8: "uint8" }[bits];
const list = (text) => text.split(",");

/** The weights of products, as `rule` quantises them. */
async function rounded(format, rule) {
  const matrices = new Map();
  for (const { name, shape } of checkpoint.tensors.values()) {
    if (name !== "wte.weight" && !/(attn|mlp)\.c_\w+\.weight$/.test(name)) continue;
    const options = { ...format, bits: format.bits(name), rule, shape, byRow: name === "wte.weight", name };
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
  console.log("| embedding | block | zero points | chosen by | MB | perplexity | against fp32 | KL (nats) |");
  console.log("|--:|--:|---|---|--:|--:|--:|--:|");
  const write = async (name, precision, options) => {
    const { files } = await writeOnnxFile(join(output, name), checkpoint, { ...reference, ...options, precision });
    const path = join(output, name, files[0]);
    return { precision, path, bytes: statSync(path).size, cacheDtype: "float32", logitsDtype: "float32" };
  };
  const full = await write("fp32", "fp32", { quantization: {} });
  const rows = list(args.embedding ?? args.bits).flatMap((embedding) =>
    list(args.blocks).flatMap((block) =>
      list(args["zero-points"]).flatMap((zeros) =>
        list(args.methods).map((method) => [embedding, block, zeros, method]),
      ),
    ),
  );
  for (const [embedding, block, zeros, method] of rows) {
    const quantization = { block: Number(block), symmetric: zeros === "no", embeddingBits: Number(embedding) };
    const format = { ...quantization, bits: (name) => (isEmbedding(name) ? Number(embedding) : bits) };
    const options = { quantization, known: await METHODS[method](format) };
    const file = await write(rows.length + method + block + zeros + embedding, precision, options);
    const scores = await scorePrecisions([full, file], config, full, {
      tokens: () => streamTokens([text], tokenizer),
    });
    const [before, after] = ["fp32", precision].map((wanted) => scores.find(({ precision }) => precision === wanted));
    const cells = [
      ...[embedding, block, zeros, method, (file.bytes / 1e6).toFixed(3)],
      after.perplexity.toFixed(3),
      `+${(100 * (after.perplexity / before.perplexity - 1)).toFixed(2)} %`,
      after.kl.toFixed(4),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
} finally {
  rmSync(output, { recursive: true, force: true });
}
