// Pretraining: fresh weights of every variant, what a config must have, and what comes out.
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type FreshOptions, makeFreshModel } from "../../src/distill/fresh-model.ts";
import { train } from "../../src/distill/train.ts";
import { evaluate } from "../../src/inference/score/evaluate.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { VARIANTS } from "../../src/model/variants.ts";
import { failureOf } from "../support/failure.ts";
import { MODEL, opened, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { metricsOf, settingsFor, TINY_CONFIG, weightsOf, writeIds, writeJson } from "../support/training.ts";

const path = temporaryFolder("pretrain");
const config = writeJson(path("config.json"), TINY_CONFIG);
const data = writeIds(path("ids.bin"));

async function* stream(ids: readonly number[]) {
  yield ids;
}

describe("fresh weights", () => {
  it.each(VARIANTS)("fresh weights are initialized as GPT-2's in %s", async (variant) => {
    const wide = writeJson(path("wide.json"), { ...TINY_CONFIG, n_embd: 128, n_layer: 8 });
    const model = await makeFreshModel({ config: wide, variant, seed: 1 });
    expect([...model.tensors.keys()]).toEqual(listParameters(model.config).map(({ name }) => name));
    for (const { name, shape } of listParameters(model.config)) {
      const values = await model.readF32(name);
      expect(values).toHaveLength(shape.reduce((a, b) => a * b, 1));
      if (/ln_\w\.weight$/.test(name)) expect(values.every((x) => x === 1)).toBe(true);
      else if (/attn\.pair$/.test(name))
        expect(values).toEqual(values.map((_, i) => ((i % 64 ** 2) % 65 === 0 ? 1 : 0)));
      else if (/(bias|noise_mean|noise_log_std)$/.test(name)) expect(values.every((x) => x === 0)).toBe(true);
      else {
        // N(0, 0.02²); into the residual stream N(0, 0.02²/16)
        const std = name.endsWith("c_proj.weight") ? 0.005 : 0.02;
        const mean = values.reduce((a, b) => a + b, 0) / values.length;
        const spread = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
        expect(Math.abs(mean) / std).toBeLessThan(5 / Math.sqrt(values.length));
        expect(Math.abs(spread / std - 1)).toBeLessThan(4 / Math.sqrt(2 * values.length));
      }
    }
    await model.close();
  });

  it("fresh weights follow from the seed and differ from tensor to tensor", async () => {
    const weights = async (seed: number, name = "h.0.mlp.c_fc.weight") =>
      (await makeFreshModel({ config, seed })).readF32(name);
    expect(await weights(4)).toEqual(await weights(4));
    expect(await weights(5)).not.toEqual(await weights(4));
    expect(await weights(4, "h.1.mlp.c_fc.weight")).not.toEqual(await weights(4));
  });

  it("a fresh model has no tensor by another name", async () => {
    const model = await makeFreshModel({ config, seed: 0 });
    expect((await failureOf(() => model.readF32("h.9.attn.c_attn.weight"))).code).toBe("not-found");
    expect((await failureOf(() => model.reader.readF32("wte.weight"))).code).toBe("not-found");
  });
});

describe("the config of a fresh model", () => {
  const fresh = (raw: unknown, options: Partial<FreshOptions> = {}) =>
    makeFreshModel({ config: writeJson(path("given.json"), raw), seed: 0, ...options });

  it("a config of four numbers is enough, with GPT-2's defaults for the rest", async () => {
    const { n_layer, n_head, n_embd, n_positions } = TINY_CONFIG;
    const { config: full } = await fresh({ n_layer, n_head, n_embd, n_positions });
    expect(full).toEqual({
      ...{ bos_token_id: 50_256, eos_token_id: 50_256 },
      n_layer: 2,
      n_head: 2,
      n_embd: 32,
      n_positions: 32,
      n_inner: 128,
      vocab_size: 50257,
      layer_norm_epsilon: 1e-5,
      activation: "gelu_tanh",
      scale_attn_weights: true,
      scale_attn_by_inverse_layer_idx: false,
      tied_head: true,
      bias: true,
      variant: "dense",
    });
  });

  it("the vocabulary is the config's, else the tokenizer's", async () => {
    const { vocab_size: _, ...rest } = TINY_CONFIG;
    expect((await fresh(rest, { tokenizerFolder: MODEL })).config.vocab_size).toBe(384);
    expect((await fresh({ ...rest, vocab_size: 400 }, { tokenizerFolder: MODEL })).config.vocab_size).toBe(400);
  });

  it("the variant is the flag's, else the config's", async () => {
    const raw = { ...TINY_CONFIG, nfc_variant: "noise-shared" };
    expect((await fresh(raw)).config.variant).toBe("noise-shared");
    expect((await fresh(raw, { variant: "symmetric" })).config.variant).toBe("symmetric");
  });

  it("the ranks are the flag's, else the config's, else half of a head's size", async () => {
    const ranks = async (raw: object, options: Partial<FreshOptions> = {}) => {
      const { config: full } = await fresh({ ...TINY_CONFIG, ...raw }, options);
      return [full.qk_ranks, full.vo_ranks];
    };
    const narrow = { nfc_variant: "low-rank" };
    expect(await ranks(narrow)).toEqual([[8, 8], undefined]);
    expect(await ranks({ ...narrow, nfc_qk_rank: [3, 16], nfc_vo_rank: 5 })).toEqual([
      [3, 16],
      [5, 5],
    ]);
    expect(await ranks({ ...narrow, nfc_qk_rank: [3, 16] }, { qkRank: 4 })).toEqual([[4, 4], undefined]);
    expect(await ranks({}, { variant: "low-rank", qkRank: 16 })).toEqual([[16, 16], undefined]);
    expect(await ranks({ nfc_vo_rank: 2 }, { variant: "symmetric" })).toEqual([undefined, [2, 2]]);
  });

  it.each<[Partial<FreshOptions>, string]>([
    [{ variant: "low-rank", qkRank: 17 }, "--qk-rank 17 is not from 1 to n_embd / n_head = 16"],
    [{ variant: "low-rank", qkRank: 0 }, "--qk-rank 0 is not from 1 to n_embd / n_head = 16"],
    [{ variant: "low-rank", qkRank: 1.5 }, "--qk-rank 1.5 is not from 1 to n_embd / n_head = 16"],
    [{ variant: "symmetric", qkRank: 4 }, "--qk-rank is for low-rank models, and this one is symmetric"],
    [{ qkRank: 4 }, "--qk-rank is for low-rank models, and this one is dense"],
  ])("a rank that the model cannot have is refused: %o", async (options, message) => {
    const failure = await failureOf(() => fresh(TINY_CONFIG, options));
    expect([failure.code, failure.message]).toEqual(["usage", message]);
    expect(failure.hint).toBeTruthy();
  });

  const without = (key: keyof typeof TINY_CONFIG) => ({ ...TINY_CONFIG, [key]: undefined });
  it.each<[string, unknown, string]>([
    ["no n_layer", without("n_layer"), "n_layer is missing"],
    ["no n_head", without("n_head"), "n_head is missing"],
    ["no n_embd", without("n_embd"), "n_embd is missing"],
    ["no n_positions", without("n_positions"), "n_positions is missing"],
    ["a width that heads do not divide", { ...TINY_CONFIG, n_embd: 33 }, "n_embd 33 is not divisible by n_head 2"],
    ["half a layer", { ...TINY_CONFIG, n_layer: 1.5 }, "n_layer"],
    ["no layers", { ...TINY_CONFIG, n_layer: 0 }, "n_layer"],
    ["a text for a number", { ...TINY_CONFIG, n_head: "2" }, "n_head"],
    ["an unknown variant", { ...TINY_CONFIG, nfc_variant: "magic" }, "magic"],
    ["an unknown activation", { ...TINY_CONFIG, activation_function: "swoosh" }, "swoosh"],
    [
      "too few positions for distances",
      { ...TINY_CONFIG, n_positions: 8, nfc_variant: "noise-distance" },
      "too short for noise-distance",
    ],
    ["a list", [1, 2], "given.json"],
    ["null", null, "given.json"],
    ["a number", 3, "given.json"],
    ["another architecture", { ...TINY_CONFIG, model_type: "llama" }, "llama"],
  ])("a config with %s is refused in one line", async (_, raw, sign) => {
    const { code, message } = await failureOf(() => fresh(raw));
    expect(["invalid-file", "unsupported"]).toContain(code);
    expect(message).toContain("given.json");
    expect(message).toContain(sign);
  });

  it("a config that is not JSON or does not exist is refused", async () => {
    writeFileSync(path("broken.json"), "{");
    expect((await failureOf(() => makeFreshModel({ config: path("broken.json"), seed: 0 }))).code).toBe("invalid-file");
    expect((await failureOf(() => makeFreshModel({ config: path("none.json"), seed: 0 }))).code).toBe("not-found");
  });
});

describe("pretraining a fresh model", () => {
  it.each(VARIANTS)("%s learns, and its output is a model like any other", async (variant) => {
    const student = await makeFreshModel({ config, variant, seed: 2 });
    const settings = settingsFor("pretrain", student, { steps: 60, lr: 1e-2, evalEvery: 20 });
    const output = path(variant);
    const { perplexity } = await train(student, { output, settings, data: [data], session: { threads: 1 } });
    expect(Math.abs(Math.log(perplexity.before) - Math.log(61))).toBeLessThan(0.05);
    expect(perplexity.after).toBeLessThan(perplexity.before / 2);
    await opened(output, async (model) => {
      expect(model.config).toEqual({ ...student.config });
      expect(model.record?.history.map(({ step }) => step)).toEqual(["pretrain"]);
      const ids = Array.from({ length: 33 }, (_, i) => (i * 7) % 61);
      expect((await evaluate(model, { tokens: stream(ids), threads: 1 })).tokens).toBeGreaterThan(20);
    });
  });

  it("pretraining without biases writes a model without biases", async () => {
    const bare = await makeFreshModel({
      config: writeJson(path("bare.json"), { ...TINY_CONFIG, bias: false }),
      seed: 2,
    });
    await train(bare, {
      output: path("bare"),
      settings: settingsFor("pretrain", bare),
      data: [data],
      session: { threads: 1 },
    });
    await opened(path("bare"), (model) => {
      expect(model.config.bias).toBe(false);
      expect([...model.tensors.keys()].filter((name) => name.endsWith("bias"))).toEqual([]);
    });
  });

  it("pretraining with an untied head writes both matrices", async () => {
    const raw = { ...TINY_CONFIG, tie_word_embeddings: false };
    const own = await makeFreshModel({ config: writeJson(path("own.json"), raw), seed: 2 });
    await train(own, {
      output: path("own"),
      settings: settingsFor("pretrain", own),
      data: [data],
      session: { threads: 1 },
    });
    await opened(path("own"), (model) => expect(model.tensors.has("lm_head.weight")).toBe(true));
  });

  it("pretraining shows all variants the same windows, so that the first loss differs by the weights alone", async () => {
    const first = async (variant: "symmetric" | "noise-shared" | "pairwise") => {
      const student = await makeFreshModel({ config, variant, seed: 2 });
      const settings = settingsFor("pretrain", student, { steps: 1, noise: "mean" });
      await train(student, { output: path(`first-${variant}`), settings, data: [data], session: { threads: 1 } });
      return metricsOf(path(`first-${variant}`))[0]?.nll;
    };
    // The same weights, and a constant mean that the softmax cannot see.
    const symmetric = await first("symmetric");
    expect(await first("noise-shared")).toBe(symmetric);
    // The same weights, and a form that is the identity.
    expect(await first("pairwise")).toBeCloseTo(symmetric as number, 6);
  });

  it("pretraining from text copies the tokenizer beside the config into the output", async () => {
    mkdirSync(path("home"));
    for (const file of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(join(MODEL, file), path("home", file));
    const { vocab_size: _, ...rest } = TINY_CONFIG;
    const student = await makeFreshModel({ config: writeJson(path("home", "config.json"), rest), seed: 0 });
    const common = { data: [TEXT], cache: path("cache"), session: { threads: 1 } };
    const settings = settingsFor("pretrain", student, { steps: 30, lr: 1e-2 });
    const { perplexity } = await train(student, { ...common, output: path("text"), settings });
    expect(perplexity.after).toBeLessThan(perplexity.before / 2);
    await opened(path("text"), (model) => expect(model.config.vocab_size).toBe(384));
    // It can be trained on, with its own tokenizer.
    await opened(path("text"), (model) =>
      train(model, { ...common, output: path("more"), settings: settingsFor("finetune", model, { steps: 1 }) }),
    );
    expect(weightsOf(path("more"))).toHaveLength(weightsOf(path("text")).length);
  });
});
