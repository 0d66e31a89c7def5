// Makes fixtures/: text, its byte-level BPE tokenizer, and a tiny GPT-2 that nfc pretrains on it. Text and tokenizer are
// always the same; the weights are on one machine, but not from one CPU to another: kernels round as they are vectorised.
// Usage: npm run fixture (it takes some minutes)
import { execFileSync } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeText } from "./fixture-text.mjs";
import { END, learnMerges, tokenizerJson } from "./fixture-tokenizer.mjs";

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const MERGES = 127; // 256 bytes + 127 merges + <|endoftext|> = 384 tokens
const STEPS = 3000;

const json = (value) => `${JSON.stringify(value, null, 1)}\n`;
const ids = { bos_token_id: 0, eos_token_id: 0 };
const sizes = { n_layer: 2, n_head: 4, n_embd: 64, n_positions: 64, vocab_size: 257 + MERGES, n_inner: null };
const numerics = { activation_function: "gelu_new", layer_norm_epsilon: 1e-5, tie_word_embeddings: true };
const special = { bos_token: END, eos_token: END, unk_token: END };

const work = await mkdtemp(join(tmpdir(), "nfc-fixture-"));
try {
  const corpus = makeText(3_000_000, 1);
  await writeFile(join(work, "corpus.txt"), corpus);
  await writeFile(path("fixtures/train.txt"), makeText(200_000, 2));
  await writeFile(path("fixtures/text.txt"), makeText(32_000, 3));

  const source = join(work, "source");
  await mkdir(source);
  const files = {
    "config.json": { model_type: "gpt2", architectures: ["GPT2LMHeadModel"], ...sizes, ...ids, ...numerics },
    "generation_config.json": { ...ids, _from_model_config: true },
    "tokenizer.json": tokenizerJson(learnMerges(corpus, MERGES)),
    "tokenizer_config.json": {
      tokenizer_class: "GPT2Tokenizer",
      model_max_length: sizes.n_positions,
      add_prefix_space: false,
      ...special,
    },
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(source, name), json(content));

  const trained = join(work, "trained");
  const model = ["--config", join(source, "config.json"), "--variant", "dense", "-o", trained];
  const data = ["--data", join(work, "corpus.txt"), "--cache", work];
  const settings = ["--steps", String(STEPS), "--lr", "0.003"];
  execFileSync(process.execPath, [path("bin/nfc.js"), "pretrain", ...model, ...data, ...settings], {
    stdio: "inherit",
  });

  // Without nfc.json and metrics.jsonl: a model as others publish it.
  const folder = path("fixtures/tiny-gpt2");
  await rm(folder, { recursive: true, force: true });
  await cp(source, folder, { recursive: true });
  await cp(join(trained, "model.safetensors"), join(folder, "model.safetensors"));
} finally {
  await rm(work, { recursive: true });
}
