// Times greedy text with a draft of three layers beside text without one, in the shape of GPT-2 small with random weights,
// for drafts that are right with given probabilities.
// Usage: node bench/draft.mjs FOLDER [TOKENS]
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { openCheckpoint } from "../dist/checkpoint/checkpoint.js";
import { chooseFile, openExportedModel } from "../dist/inference/exported/exported-model.js";
import { Decoder } from "../dist/inference/generate/decoder.js";
import { decodeDrafted } from "../dist/inference/generate/draft/decode-drafted.js";
import { Pace } from "../dist/inference/generate/draft/pace.js";
import { decodePrompts } from "../dist/inference/generate/generate.js";
import { makeModel } from "./make-model.mjs";

const [folder, count = "50"] = process.argv.slice(2);
const DRAFT_LAYERS = 3;
const THREADS = 1; // so that the time of the processor is that of the work, on a busy machine too
const PAIRS = 3;
const tokenizer = { size: 50257, encode: () => [], decode: (ids) => ids.join(" ") };
const prompt = Array.from({ length: 128 }, (_, i) => (i * 7919) % 50257);

/**
 * A draft of random weights is never right. This one runs it, for its time, and then is right with a probability: it
 * knows the text.
 */
class RightSometimes {
  constructor(decoder, text, share) {
    Object.assign(this, { decoder, text, share, length: 0, state: 1 });
  }
  get config() {
    return this.decoder.config;
  }
  get source() {
    return this.decoder.source;
  }
  async prompt(prompts, signal) {
    this.length = prompts[0].length;
    return this.correct(await this.decoder.prompt(prompts, signal));
  }
  async extend(ids) {
    this.length += ids.length;
    return this.correct(await this.decoder.extend(ids));
  }
  truncate(length) {
    this.length = Math.min(this.length, length);
    this.decoder.truncate(length);
  }
  correct(rows) {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    if (this.state / 2 ** 32 < this.share) rows.at(-1)[this.text[this.length]] = 1e9;
    return rows;
  }
}

/** Milliseconds of the clock and of the processor. */
function now() {
  const { user, system } = process.cpuUsage();
  return { wall: performance.now(), cpu: (user + system) / 1000 };
}

async function time(events) {
  const ids = [];
  let begun = { wall: 0, cpu: 0 };
  for await (const { id } of events) {
    if (ids.length === 0) begun = now(); // after the prompt
    ids.push(id);
  }
  const { wall, cpu } = now();
  const perToken = (ms) => ms / (ids.length - 1);
  return { ids, wall: perToken(wall - begun.wall), cpu: perToken(cpu - begun.cpu) };
}

async function openDecoder(path) {
  const checkpoint = await openCheckpoint(path);
  const decoder = await Decoder.ofCheckpoint(checkpoint, { threads: THREADS });
  await checkpoint.close();
  return decoder;
}

const [large, small] = [join(folder, "model"), join(folder, "draft")];
await makeModel(large, "small");
const nfc = new URL("../bin/nfc.js", import.meta.url).pathname;
const layers = Array.from({ length: DRAFT_LAYERS }, (_, i) => i).join(",");
execFileSync(process.execPath, [
  nfc,
  "convert",
  large,
  "-o",
  small,
  "--variant",
  "dense",
  "--layers",
  layers,
  "--no-repair",
  "-f",
  "-q",
]);
const q4 = join(folder, "draft-q4");
execFileSync(process.execPath, [nfc, "export", small, "-o", q4, "--onnx", "--precision", "q4", "-f", "-q"]);
const exported = await openExportedModel(q4);
const model = await openDecoder(large);
const drafts = {
  q4: await Decoder.ofFile(chooseFile(exported, "q4"), exported.config, { threads: THREADS }),
  float32: await openDecoder(small),
};
const options = { maxNewTokens: Number(count) };
const { ids: continuation } = await time(decodePrompts(model, tokenizer, [prompt], options));
const CASES = [0.6, 0.8].flatMap((share) => [2, 4, null].map((fixed) => [share, "q4", fixed]));
for (const [share, kind, fixed] of [...CASES, [0.8, "float32", 2]]) {
  const draft = new RightSometimes(drafts[kind], [...prompt, ...continuation], share);
  const runs = [];
  for (let i = 0; i < PAIRS; i++) {
    const alone = await time(decodePrompts(model, tokenizer, [prompt], options));
    const pace = new Pace({ fixed, greedy: true });
    const both = await time(decodeDrafted({ model, draft, pace }, tokenizer, [prompt], options));
    runs.push({ alone, both, same: String(alone.ids) === String(both.ids), ...pace.summary });
  }
  const middle = (value) => runs.map(value).sort((a, b) => a - b)[PAIRS >> 1];
  const [{ steps, tokens, proposed, accepted }] = runs;
  const line = {
    right: share,
    draft: kind,
    drafted: fixed ?? "chosen",
    timesAsFast: middle(({ alone, both }) => alone.cpu / both.cpu).toFixed(2),
    byTheClock: middle(({ alone, both }) => alone.wall / both.wall).toFixed(2),
    tokensPerStep: (tokens / steps).toFixed(2),
    kept: (accepted / proposed).toFixed(2),
    aloneMs: middle(({ alone }) => alone.cpu).toFixed(1),
    draftedMs: middle(({ both }) => both.cpu).toFixed(1),
    same: runs.every(({ same }) => same),
  };
  console.log(JSON.stringify(line));
}
await Promise.all([model, ...Object.values(drafts)].map((decoder) => decoder.close()));
