// What follows from a row of the table of variants, and the kinds of the parameters that each variant has.
import { describe, expect, it } from "vitest";
import { countAttentionColumns } from "../../src/model/head-widths.ts";
import { findParameterKind, isNoiseParameter, isUsedAtMean, listParameters } from "../../src/model/parameters.ts";
import {
  countDraws,
  hasDistanceMean,
  isPlainGpt2,
  shapeNoise,
  VARIANT_TRAITS,
  VARIANTS,
} from "../../src/model/variants.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";

const HEADS = 4;

describe("the traits of variants", () => {
  it("a row of VARIANT_TRAITS decides everything that code asks about a variant", () => {
    const facts = VARIANTS.map((variant) => {
      const shapes = shapeNoise(variant, HEADS);
      return [
        variant,
        VARIANT_TRAITS[variant].tied,
        countAttentionColumns(tinyModelConfig({ variant }), 0) / tinyModelConfig({ variant }).n_embd,
        isPlainGpt2(variant),
        countDraws(variant, HEADS),
        shapes && `[${shapes.mean}] [${shapes.logStd}]`,
        hasDistanceMean(variant),
        listParameters(tinyModelConfig({ layers: 1, variant }))
          .filter(({ name }) => isNoiseParameter(name) && isUsedAtMean(name, { variant }))
          .map(({ name }) => name)
          .join(),
      ];
    });
    // name, Q = K, columns of c_attn / C, plain GPT-2, rows of ε, noise shapes, mean by distance, noise used at ε = 0
    expect(facts).toEqual([
      ["dense", false, 3, true, 0, null, false, ""],
      ["symmetric", true, 2, false, 0, null, false, ""],
      ["noise-shared", true, 2, false, 1, "[1,1] [1]", false, ""],
      ["noise-per-head", true, 2, false, 4, "[4,1] [4]", false, ""],
      ["noise-distance", true, 2, false, 4, "[4,32] [4]", true, "h.0.attn.noise_mean"],
      ["pairwise", true, 2, false, 0, null, false, ""],
      ["low-rank", false, 2, false, 0, null, false, ""],
    ]);
  });

  it("each variant is described in words of its own", () => {
    expect(new Set(VARIANTS.map((variant) => VARIANT_TRAITS[variant].attention)).size).toBe(VARIANTS.length);
  });
});

describe("kinds of parameters", () => {
  it("findParameterKind tells every parameter of a model, with and without its layer", () => {
    const config = { ...tinyModelConfig({ layers: 1, variant: "noise-distance", head: "own" }), labels: ["a", "b"] };
    const kinds = listParameters(config).map(({ name }) => [name, findParameterKind(name)]);
    expect(kinds).toEqual([
      ["wte.weight", "embedding"],
      ["wpe.weight", "embedding"],
      ["h.0.ln_1.weight", "norm"],
      ["h.0.ln_1.bias", "norm"],
      ["h.0.attn.c_attn.weight", "attention input"],
      ["h.0.attn.c_attn.bias", "attention input"],
      ["h.0.attn.c_proj.weight", "attention output"],
      ["h.0.attn.c_proj.bias", "attention output"],
      ["h.0.attn.noise_mean", "noise mean"],
      ["h.0.attn.noise_log_std", "noise log std"],
      ["h.0.ln_2.weight", "norm"],
      ["h.0.ln_2.bias", "norm"],
      ["h.0.mlp.c_fc.weight", "mlp"],
      ["h.0.mlp.c_fc.bias", "mlp"],
      ["h.0.mlp.c_proj.weight", "mlp"],
      ["h.0.mlp.c_proj.bias", "mlp"],
      ["ln_f.weight", "norm"],
      ["ln_f.bias", "norm"],
      ["lm_head.weight", "head"],
      ["score.weight", "head"],
    ]);
    for (const [name, kind] of kinds) expect(findParameterKind((name as string).replace("h.0.", ""))).toBe(kind);
  });

  it.each(["const_1", "h.0.foo.weight", "wter.weight", "transformer"])("findParameterKind has none for %s", (name) => {
    expect(findParameterKind(name)).toBeNull();
  });
});
