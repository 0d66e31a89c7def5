// Writes a dense GPT-2 checkpoint with random weights of any size, streamed. Values repeat: only their shape matters here.
// Usage: node bench/make-model.mjs FOLDER SIZE
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeSafetensors } from "../dist/formats/safetensors/writer.js";
import { listParameters } from "../dist/model/parameters.js";

export const SIZES = {
  mini: { n_layer: 2, n_head: 2, n_embd: 64 },
  small: { n_layer: 12, n_head: 12, n_embd: 768 },
  medium: { n_layer: 24, n_head: 16, n_embd: 1024 },
  xl: { n_layer: 48, n_head: 25, n_embd: 1600 },
};
/** Draws that all tensors are cut from: prime, so that no two rows line up. */
const POOL = 1_048_573;

function normals() {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Float32Array.from({ length: POOL }, () => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next()));
}

/** Creates `folder` with model.safetensors (float32) and config.json. */
export async function makeModel(folder, size) {
  const dims = { ...SIZES[size], n_positions: 1024, vocab_size: 50257 };
  const config = {
    ...dims,
    n_inner: 4 * dims.n_embd,
    layer_norm_epsilon: 1e-5,
    activation: "gelu_tanh",
    tied_head: true,
    bias: true,
    variant: "dense",
  };
  const pool = normals();
  let start = 0;
  const sources = listParameters(config).map(({ name, shape }) => {
    const count = shape.reduce((a, b) => a * b, 1);
    start += 7919;
    const offset = start % POOL;
    const [mean, std] = /ln_\w+\.weight$/.test(name) ? [1, 0] : [0, 0.05];
    async function* chunks() {
      for (let at = 0; at < count; at += POOL) {
        const values = new Float32Array(Math.min(POOL, count - at));
        for (let i = 0; i < values.length; i++) values[i] = mean + std * pool[(offset + i) % POOL];
        yield new Uint8Array(values.buffer);
      }
    }
    return { name, dtype: "F32", shape, chunks };
  });
  mkdirSync(folder, { recursive: true });
  await writeSafetensors(folder, sources);
  const ids = { bos_token_id: 50256, eos_token_id: 50256 };
  const hf = {
    model_type: "gpt2",
    ...dims,
    n_inner: null,
    activation_function: "gelu_new",
    layer_norm_epsilon: 1e-5,
    ...ids,
  };
  writeFileSync(join(folder, "config.json"), JSON.stringify(hf));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await makeModel(...process.argv.slice(2));
