// Makes fixtures/: a tiny GPT-2 with random weights, its byte-level BPE tokenizer, and the text that both are for.
// Deterministic: running it again changes nothing. Usage: npm run fixture
import { mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { bytesSource, writeSafetensors } from "../dist/io/safetensors-writer.js";
import { parameterSpecs } from "../dist/model/parameters.js";

const root = fileURLToPath(new URL("../fixtures/", import.meta.url));
const folder = `${root}tiny-gpt2`;
const MERGES = 127; // 256 bytes + 127 merges + <|endoftext|> = 384 tokens
const END = "<|endoftext|>";

/** Mulberry32: 32-bit, seeded, good enough for fixtures. */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Sentences from a small grammar: enough repetition for a tiny model to learn something. */
function makeText(count) {
  const next = random(7);
  const pick = (list) => list[Math.floor(next() * list.length)];
  const nouns = ["sailor", "harbour", "lantern", "river", "miller", "garden", "teacher", "engine", "winter", "letter"];
  const verbs = ["watches", "carries", "remembers", "follows", "repairs", "answers", "crosses", "paints"];
  const adjectives = ["old", "quiet", "bright", "narrow", "patient", "green", "distant", "small"];
  const phrase = () => `the ${next() < 0.6 ? `${pick(adjectives)} ` : ""}${pick(nouns)}`;
  const sentence = () => {
    const text = `${phrase()} ${pick(verbs)} ${phrase()}${next() < 0.3 ? `, and ${phrase()} ${pick(verbs)} ${phrase()}` : ""}.`;
    return text[0].toUpperCase() + text.slice(1);
  };
  const sentences = Array.from({ length: count }, (_, i) => sentence() + (i % 5 === 4 ? "\n" : " "));
  return `${sentences.join("").trimEnd()}\n`;
}

/** GPT-2's printable stand-ins for the 256 bytes. */
function byteAlphabet() {
  const printable = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  let extra = 0;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : 256 + extra++));
}

/** The most frequent adjacent pairs, merged one by one; ties go to the pair that sorts first. */
function learnMerges(text, count) {
  const alphabet = byteAlphabet();
  const words = new Map();
  for (const word of text.match(/ ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu)) {
    const symbols = [...Buffer.from(word)].map((b) => alphabet[b]).join(" ");
    words.set(symbols, (words.get(symbols) ?? 0) + 1);
  }
  let entries = [...words].map(([symbols, n]) => [symbols.split(" "), n]);
  const merges = [];
  while (merges.length < count) {
    const pairs = new Map();
    for (const [symbols, n] of entries)
      for (let i = 1; i < symbols.length; i++) {
        const pair = `${symbols[i - 1]} ${symbols[i]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + n);
      }
    const [best] = [...pairs].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))[0];
    merges.push(best);
    const [left, right] = best.split(" ");
    entries = entries.map(([symbols, n]) => {
      const merged = [];
      for (let i = 0; i < symbols.length; i++)
        if (symbols[i] === left && symbols[i + 1] === right) merged.push(left + symbols[++i]);
        else merged.push(symbols[i]);
      return [merged, n];
    });
  }
  return merges;
}

function tokenizerJson(merges) {
  const tokens = [END, ...byteAlphabet(), ...merges.map((merge) => merge.replace(" ", ""))];
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [{ id: 0, content: END, ...flags }],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map((merge) => merge.split(" ")),
    },
  };
}

/** Normal draws by Box and Muller, scaled up from GPT-2's 0.02 so that heads attend to something. */
function weights(specs) {
  const next = random(20260111);
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  return specs.map(({ name, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const base = /ln_\w+\.weight$/.test(name) ? 1 : 0;
    const values = Float32Array.from({ length: size }, () => base + 0.1 * normal());
    return bytesSource(name, "F32", shape, new Uint8Array(values.buffer));
  });
}

const text = makeText(600);
const merges = learnMerges(text, MERGES);
const sizes = { n_layer: 2, n_head: 4, n_embd: 64, n_positions: 64, vocab_size: 257 + MERGES };
const numerics = { n_inner: 256, layer_norm_epsilon: 1e-5, activation: "gelu_tanh", tied_head: true, bias: true };
const ids = { bos_token_id: 0, eos_token_id: 0 };
const hf = { model_type: "gpt2", architectures: ["GPT2LMHeadModel"], ...sizes, ...ids };
const json = (value) => `${JSON.stringify(value, null, 1)}\n`;

await mkdir(folder, { recursive: true });
await writeFile(`${root}text.txt`, text);
await writeFile(
  `${folder}/config.json`,
  json({ ...hf, n_inner: null, activation_function: "gelu_new", layer_norm_epsilon: 1e-5, tie_word_embeddings: true }),
);
await writeFile(`${folder}/generation_config.json`, json({ ...ids, _from_model_config: true }));
await writeFile(`${folder}/tokenizer.json`, json(tokenizerJson(merges)));
const special = { bos_token: END, eos_token: END, unk_token: END };
await writeFile(
  `${folder}/tokenizer_config.json`,
  json({ tokenizer_class: "GPT2Tokenizer", model_max_length: sizes.n_positions, add_prefix_space: false, ...special }),
);
await writeSafetensors(folder, weights(parameterSpecs({ ...sizes, ...numerics, variant: "dense" })));
