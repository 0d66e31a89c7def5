// Tokenizes a text into the token cache, with GPT-2's vocabulary: rate, and memory while it goes on. The text is a file, or
// is generated in any size.
// Usage: npm run build && node bench/corpus.mjs [--file FILE | --gb N [--text FILE]] [--folder FOLDER] [--keep]
import { randomBytes } from "node:crypto";
import { createWriteStream, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadTokenizer } from "../dist/checkpoint/tokenizer.js";
import { TokenCorpus } from "../dist/distill/data/token-cache.js";

const { values: args } = parseArgs({
  options: {
    file: { type: "string" },
    gb: { type: "string", default: "0.1" },
    text: { type: "string", default: fileURLToPath(new URL("../fixtures/text.txt", import.meta.url)) },
    folder: { type: "string", default: tmpdir() },
    keep: { type: "boolean", default: false },
  },
});
const folder = mkdtempSync(join(args.folder, "nfc-corpus-"));
const file = args.file ?? join(folder, "corpus.txt");
const OTHERS = ["Größe", "naïve", "日本語", "русский", "١٢٣", "🙂", "x_1", "3.14159"];

/** Lines of the source in random order; every fourth gets words that no other has, so that no table of words suffices. */
async function generate(bytes) {
  const lines = readFileSync(args.text, "utf8").split("\n");
  const out = createWriteStream(file);
  const draw = (count) => Math.floor(Math.random() * count);
  let written = 0;
  while (written < bytes) {
    let block = "";
    while (block.length < 2 ** 20) {
      block += lines[draw(lines.length)];
      if (draw(4) === 0) block += ` ${randomBytes(3 + draw(5)).toString("base64")} ${OTHERS[draw(OTHERS.length)]}`;
      block += "\n";
    }
    written += Buffer.byteLength(block);
    if (!out.write(block)) await new Promise((resolve) => out.once("drain", resolve));
  }
  out.end();
  await finished(out);
}

const mb = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
try {
  if (args.file === undefined) await generate(Number(args.gb) * 1e9);
  const { size } = statSync(file);
  console.log(`${availableParallelism()} × ${cpus()[0]?.model.trim()}, Node ${process.version}, ${mb(size)} of text`);
  const tokenizer = await loadTokenizer(null, { vocab_size: 50_257 });
  const started = performance.now();
  const cpu = process.cpuUsage();
  let begun = null;
  let shown = 0;
  const onProgress = ({ phase, done, total }) => {
    if (phase !== "tokenising") return;
    begun ??= performance.now();
    if (done < (shown * total) / 10) return;
    shown++;
    console.log(`${mb(done)}: resident ${mb(process.memoryUsage.rss())}`);
  };
  const corpus = await TokenCorpus.open([file], tokenizer, { vocabulary: 50_257, cache: folder, onProgress });
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const rate = (time) => `${(size / 1e6 / time).toFixed(1)} MB/s`;
  console.log(
    `${corpus.tokens} tokens in ${seconds.toFixed(1)} s, ${rate(seconds)}; ${rate((user + system) / 1e6)} of processor time`,
  );
  console.log(
    `hashing took ${((begun - started) / 1000).toFixed(1)} s; peak ${mb(process.resourceUsage().maxRSS * 1024)}`,
  );
  await corpus.close();
} finally {
  if (args.keep) console.log(`kept: ${folder}`);
  else rmSync(folder, { recursive: true });
}
