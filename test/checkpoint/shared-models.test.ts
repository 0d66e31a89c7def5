// The reference models, where they are at hand: a trained GPT-2, and a tiny one as transformers saved it.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/checkpoint/checkpoint.ts";
import { countParameters } from "../../src/model/parameters.ts";

const shared = (name: string) => fileURLToPath(new URL(`../../../shared/${name}`, import.meta.url));
const BASE = shared("models/base");
const TINY = shared("golden/tiny-gpt2");

describe.skipIf(!existsSync(BASE))("the trained model models/base", () => {
  it("models/base opens as a GPT-2 of 5,853,184 parameters", async () => {
    const checkpoint = await openCheckpoint(BASE);
    expect(checkpoint.config).toEqual({
      ...{ n_layer: 6, n_head: 4, n_embd: 256, n_inner: 1024, n_positions: 256, vocab_size: 4096 },
      ...{ layer_norm_epsilon: 1e-5, activation: "gelu_tanh", scale_attn_weights: true },
      ...{ scale_attn_by_inverse_layer_idx: false, tied_head: true, bias: true, variant: "dense" },
      ...{ bos_token_id: 0, eos_token_id: 0 },
    });
    expect(countParameters(checkpoint.config)).toBe(5_853_184);
    expect(checkpoint.notes).toEqual(['prefix "transformer." stripped from the tensor names']);
    const gains = await checkpoint.readF32("ln_f.weight");
    expect(gains).toHaveLength(256);
    expect(gains.every((gain) => Math.abs(gain) < 100)).toBe(true);
    await checkpoint.close();
  });

  it("models/base has nothing to trim for its tokenizer", async () => {
    const checkpoint = await openCheckpoint(BASE, { trimVocab: true });
    expect(checkpoint.config.vocab_size).toBe(4096);
    await checkpoint.close();
  });
});

describe.skipIf(!existsSync(TINY))("the golden model tiny-gpt2", () => {
  it("tiny-gpt2 opens among several safetensors files, because model.safetensors comes first", async () => {
    const checkpoint = await openCheckpoint(TINY);
    expect(checkpoint.config).toMatchObject({ n_layer: 2, n_head: 4, n_embd: 64, vocab_size: 211, n_positions: 48 });
    expect(checkpoint.tensors.get("h.1.mlp.c_proj.weight")).toMatchObject({
      shape: [256, 64],
      sourceName: "transformer.h.1.mlp.c_proj.weight",
      transposed: false,
    });
    await checkpoint.close();
  });
});
