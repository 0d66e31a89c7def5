// Times greedy text with a draft beside text without one, in the shape of GPT-2 small. The weights are random; the layers
// after the third add little, so that a draft of the first three is right about as often as one that was distilled.
// Usage: node bench/draft.mjs FOLDER [ADD] [TOKENS] (ADD: what the later layers add, as a factor of their output)
import { execFileSync } from "node:child_process";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { openCheckpoint } from "../dist/checkpoint/checkpoint.js";
import { openSafetensors } from "../dist/formats/safetensors/reader.js";
import { Decoder } from "../dist/inference/generate/decoder.js";
import { decodeDrafted } from "../dist/inference/generate/draft/decode-drafted.js";
import { Pace } from "../dist/inference/generate/draft/pace.js";
import { decodePrompts } from "../dist/inference/generate/generate.js";
import { makeModel } from "./make-model.mjs";

const [folder, add = "0.05", count = "200"] = process.argv.slice(2);
const DRAFT_LAYERS = 3;
const THREADS = 1; // so that the time of the processor is that of the work, on a busy machine too
const PAIRS = 3;
const tokenizer = { size: 50257, encode: () => [], decode: (ids) => ids.join(" ") };
const prompt = Array.from({ length: 128 }, (_, i) => (i * 7919) % 50257);

/** Scales what the layers from the fourth on add to the residual stream, in the file. */
async function weaken(path, factor) {
  const reader = await openSafetensors(path);
  const file = await open(path, "r+");
  for (const { name, offset, byteLength } of reader.tensors.values()) {
    const [, layer] = /h\.(\d+)\..*c_proj/.exec(name) ?? [];
    if (layer === undefined || Number(layer) < DRAFT_LAYERS) continue;
    const bytes = Buffer.alloc(byteLength);
    await file.read(bytes, 0, byteLength, offset);
    for (let i = 0; i < byteLength; i += 4) bytes.writeFloatLE(bytes.readFloatLE(i) * factor, i);
    await file.write(bytes, 0, byteLength, offset);
  }
  await file.close();
  await reader.close();
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
await weaken(join(large, "model.safetensors"), Number(add));
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
const [model, draft] = [await openDecoder(large), await openDecoder(small)];
const options = { maxNewTokens: Number(count) };
for (const fixed of [2, 4, 6, null]) {
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
await Promise.all([model.close(), draft.close()]);
