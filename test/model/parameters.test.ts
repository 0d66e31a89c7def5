// Parameter lists and counts, held against the published sizes of GPT-2.
import { describe, expect, it } from "vitest";
import type { ModelConfig } from "../../src/model/config.ts";
import { countParameters, groupParameters, listParameters, PARAMETER_GROUPS } from "../../src/model/parameters.ts";
import { VARIANTS, type Variant } from "../../src/model/variants.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";

function gpt2(layers: number, heads: number, width: number, variant: Variant = "dense"): ModelConfig {
  return tinyModelConfig({ layers, heads, width, positions: 1024, vocab: 50257, variant });
}

/** name, layers, heads, width, total, removed by tying, percent */
const SIZES = [
  ["gpt2", 12, 12, 768, 124_439_808, 7_087_104, "5.70"],
  ["gpt2-medium", 24, 16, 1024, 354_823_168, 25_190_400, "7.10"],
  ["gpt2-large", 36, 20, 1280, 774_030_080, 59_028_480, "7.63"],
  ["gpt2-xl", 48, 25, 1600, 1_557_611_200, 122_956_800, "7.89"],
  ["distilgpt2", 6, 12, 768, 81_912_576, 3_543_552, "4.33"],
] as const;

describe("counting parameters", () => {
  it.each(SIZES)(
    "the model %s has its published size, and tying removes L (C² + C)",
    (_, layers, heads, width, total, removed, percent) => {
      expect(countParameters(gpt2(layers, heads, width))).toBe(total);
      expect(countParameters(gpt2(layers, heads, width, "symmetric"))).toBe(total - removed);
      expect(removed).toBe(layers * (width ** 2 + width));
      expect(((100 * removed) / total).toFixed(2)).toBe(percent);
    },
  );

  it.each([
    ["noise-shared", 12 * 2],
    ["noise-per-head", 12 * 24],
    ["noise-distance", 12 * (12 * 32 + 12)],
  ] as const)("the variant %s adds %i noise parameters to GPT-2 small", (variant, noise) => {
    expect(countParameters(gpt2(12, 12, 768, variant))).toBe(124_439_808 - 7_087_104 + noise);
  });

  it("tying removes L C² from a model without biases", () => {
    const count = (variant: Variant) => countParameters({ ...gpt2(12, 12, 768, variant), bias: false });
    expect(count("dense") - count("symmetric")).toBe(12 * 768 ** 2);
  });

  it("a separate head counts V C", () => {
    const tied = gpt2(12, 12, 768);
    expect(countParameters({ ...tied, tied_head: false }) - countParameters(tied)).toBe(50257 * 768);
  });
});

describe("listing parameters", () => {
  it("listParameters gives GPT-2's names and shapes in order", () => {
    const specs = listParameters(tinyModelConfig({ layers: 1, variant: "noise-distance", inner: 24, head: "own" }));
    expect(specs.map(({ name, shape, layer }) => `${name} [${shape}] ${layer}`)).toEqual([
      "wte.weight [11,8] null",
      "wpe.weight [20,8] null",
      "h.0.ln_1.weight [8] 0",
      "h.0.ln_1.bias [8] 0",
      "h.0.attn.c_attn.weight [8,16] 0",
      "h.0.attn.c_attn.bias [16] 0",
      "h.0.attn.c_proj.weight [8,8] 0",
      "h.0.attn.c_proj.bias [8] 0",
      "h.0.attn.noise_mean [2,32] 0",
      "h.0.attn.noise_log_std [2] 0",
      "h.0.ln_2.weight [8] 0",
      "h.0.ln_2.bias [8] 0",
      "h.0.mlp.c_fc.weight [8,24] 0",
      "h.0.mlp.c_fc.bias [24] 0",
      "h.0.mlp.c_proj.weight [24,8] 0",
      "h.0.mlp.c_proj.bias [8] 0",
      "ln_f.weight [8] null",
      "ln_f.bias [8] null",
      "lm_head.weight [11,8] null",
    ]);
  });

  it("listParameters gives no bias for a model without biases", () => {
    expect(listParameters(tinyModelConfig({ bias: false })).filter(({ name }) => name.includes("bias"))).toEqual([]);
  });
});

describe("grouping parameters", () => {
  it.each(VARIANTS)("every parameter is split into groups without loss (%s)", (variant) => {
    const config = tinyModelConfig({ variant, head: "own" });
    const sum = listParameters(config)
      .flatMap((spec) => groupParameters(spec, config))
      .reduce((total, { count }) => total + count, 0);
    expect(sum).toBe(countParameters(config));
  });

  it("c_attn is split into q, k, v, or into qk, v", () => {
    const spec = { name: "h.0.attn.c_attn.weight", layer: 0 };
    expect(groupParameters({ ...spec, shape: [8, 24] }, tinyModelConfig())).toEqual([
      { group: "attention.q", count: 64 },
      { group: "attention.k", count: 64 },
      { group: "attention.v", count: 64 },
    ]);
    expect(groupParameters({ ...spec, shape: [8, 16] }, tinyModelConfig({ variant: "symmetric" }))).toEqual([
      { group: "attention.qk", count: 64 },
      { group: "attention.v", count: 64 },
    ]);
  });

  it("tying removes a quarter of attention", () => {
    const attention = (variant: Variant) => {
      const config = gpt2(12, 12, 768, variant);
      return listParameters(config)
        .flatMap((spec) => groupParameters(spec, config))
        .filter(({ group }) => group.startsWith("attention."))
        .reduce((total, { count }) => total + count, 0);
    };
    expect(attention("symmetric") / attention("dense")).toBe(0.75);
  });

  it("every group is used", () => {
    const groups = (variant: Variant) => {
      const config = tinyModelConfig({ variant, head: "own" });
      return listParameters(config).flatMap((spec) => groupParameters(spec, config).map(({ group }) => group));
    };
    expect(new Set([...groups("dense"), ...groups("noise-distance")])).toEqual(new Set(PARAMETER_GROUPS));
  });

  it.each([
    ["wte.weight", "embeddings"],
    ["wpe.weight", "embeddings"],
    ["h.1.attn.c_proj.weight", "attention.out"],
    ["h.1.attn.c_proj.bias", "attention.out"],
    ["h.1.attn.noise_log_std", "noise"],
    ["h.1.mlp.c_proj.weight", "mlp"],
    ["h.1.ln_2.bias", "norms"],
    ["ln_f.weight", "norms"],
    ["lm_head.weight", "head"],
  ])("the parameter %s is counted as %s", (name, group) => {
    expect(groupParameters({ name, shape: [3, 2], layer: 1 }, tinyModelConfig())).toEqual([{ group, count: 6 }]);
  });
});
