// config.json: fields, aliases, limits, traps, and the config.json that is written.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseConfig, toHfConfig } from "../../src/checkpoint/config-file.ts";
import { NfcError } from "../../src/errors.ts";
import { VARIANTS } from "../../src/model/variants.ts";
import { failureOf } from "../support/failure.ts";
import { tinyHfConfig, tinyModelConfig } from "../support/make-checkpoint.ts";

const parse = (raw: unknown) => parseConfig(raw, "m/config.json");
const refused = (raw: unknown) => failureOf(() => parse(raw));

describe("reading config.json", () => {
  it("parseConfig reads the config.json of GPT-2", () => {
    const config = parse({
      model_type: "gpt2",
      n_layer: 12,
      n_head: 12,
      n_embd: 768,
      n_positions: 1024,
      vocab_size: 50257,
    });
    expect(config).toMatchObject({
      isHuggingFace: true,
      n_layer: 12,
      n_head: 12,
      n_embd: 768,
      n_inner: undefined,
      n_positions: 1024,
      vocab_size: 50257,
      layer_norm_epsilon: 1e-5,
      activation: undefined,
      scale_attn_weights: true,
      scale_attn_by_inverse_layer_idx: false,
      variant: undefined,
      notes: [],
    });
  });

  it("a field that is null counts as absent", () => {
    expect(parse({ n_inner: null, activation_function: null, tie_word_embeddings: null })).toMatchObject({
      n_inner: undefined,
      activation: undefined,
      tie_word_embeddings: undefined,
    });
  });

  it("n_inner, layer_norm_epsilon and both scale flags are honored", () => {
    const raw = {
      n_inner: 100,
      layer_norm_epsilon: 1e-6,
      scale_attn_weights: false,
      scale_attn_by_inverse_layer_idx: true,
    };
    expect(parse(raw)).toMatchObject(raw);
  });

  it.each([
    ["gelu_new", "gelu_tanh"],
    ["gelu_pytorch_tanh", "gelu_tanh"],
    ["gelu_fast", "gelu_tanh"],
    ["gelu", "gelu"],
    ["relu", "relu"],
    ["swish", "silu"],
    ["silu", "silu"],
    ["tanh", "tanh"],
  ])("activation_function %s is read as %s", (name, activation) => {
    expect(parse({ activation_function: name }).activation).toBe(activation);
  });

  it("an unknown activation_function is refused with the list of known ones", async () => {
    const error = await refused({ activation_function: "quick_gelu" });
    expect(error.code).toBe("unsupported");
    expect(error.message).toBe('m/config.json: activation_function "quick_gelu" is not known');
    expect(error.hint).toContain("gelu_new");
    expect(error.hint).toContain("--activation");
  });

  it("an unknown activation_function is not looked at when the user overrides it", () => {
    const config = parseConfig({ activation_function: "quick_gelu" }, "c", { activation: "gelu" });
    expect(config.activation).toBe("gelu");
  });

  it.each(["num_hidden_layers", "num_attention_heads", "hidden_size"])("the alias %s is read", (alias) => {
    const name = { num_hidden_layers: "n_layer", num_attention_heads: "n_head", hidden_size: "n_embd" }[alias] ?? "";
    expect(parse({ [alias]: 6 })).toMatchObject({ [name]: 6 });
  });

  it("nanoGPT's model_args are read: block_size is n_positions, and it is no Hugging Face config", () => {
    const config = parse({ n_layer: 2, n_head: 2, n_embd: 8, block_size: 64, bias: false, vocab_size: 65, dropout: 0 });
    expect(config).toMatchObject({ n_positions: 64, isHuggingFace: false, vocab_size: 65 });
  });

  it("two names of one number that differ are refused", async () => {
    const error = await refused({ n_embd: 8, hidden_size: 16 });
    expect(error.message).toBe("m/config.json: n_embd is 8, but hidden_size is 16");
  });

  it("a legacy n_ctx that differs from n_positions is ignored with a note", () => {
    const config = parse({ n_positions: 1024, n_ctx: 512 });
    expect(config.n_positions).toBe(1024);
    expect(config.notes).toEqual(["m/config.json: n_ctx 512 is legacy and ignored; n_positions is 1024"]);
  });

  it("n_ctx serves where there is no n_positions", () => {
    expect(parse({ n_ctx: 512 })).toMatchObject({ n_positions: 512, notes: [] });
  });

  it("a note says that reorder_and_upcast_attn is ignored", () => {
    expect(parse({ reorder_and_upcast_attn: true }).notes[0]).toContain("rounding only");
  });

  it.each([
    ["n_layer", 0],
    ["n_layer", 1025],
    ["n_layer", 2.5],
    ["n_layer", "12"],
    ["n_layer", [12]],
    ["n_head", -1],
    ["n_embd", 2 ** 16 + 1],
    ["n_embd", 1e300],
    ["n_inner", 0],
    ["n_positions", 2 ** 21],
    ["vocab_size", 2 ** 23],
    ["vocab_size", true],
    ["layer_norm_epsilon", -1],
    ["layer_norm_epsilon", "1e-5"],
    ["scale_attn_weights", 1],
    ["scale_attn_by_inverse_layer_idx", "no"],
    ["tie_word_embeddings", "true"],
    ["activation_function", 3],
    ["nfc_variant", "noisy"],
    ["eos_token_id", "end"],
    ["bos_token_id", 1.5],
    ["model_type", 2],
  ])("the field %s with the value %j is refused by name and value", async (key, value) => {
    const error = await refused({ [key]: value });
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain(`m/config.json: ${key} is ${JSON.stringify(value)}`);
  });

  it.each([["[]"], ['"gpt2"'], ["null"], ["7"]])("the content %s is refused as no JSON object", async (text) => {
    const error = await refused(JSON.parse(text));
    expect(error.message).toBe(`m/config.json: is ${text}, not a JSON object`);
  });

  it.each(["gpt_neo", "gptj", "gpt_bigcode", "gpt_neox", "imagegpt", "openai-gpt", "llama"])(
    "model_type %s is refused",
    async (type) => {
      const error = await refused({ model_type: type });
      expect(error.code).toBe("unsupported");
      expect(error.message).toContain(`model_type "${type}" is not "gpt2"`);
    },
  );

  it("cross attention is refused", async () => {
    expect((await refused({ add_cross_attention: true })).message).toContain("add_cross_attention");
  });

  it("quantized weights are refused", async () => {
    expect((await refused({ quantization_config: { bits: 4 } })).message).toContain("quantization_config");
  });

  it("pruned heads are refused, and an empty list of them is accepted", async () => {
    expect((await refused({ pruned_heads: { 0: [1] } })).message).toContain("pruned_heads");
    expect(parse({ pruned_heads: {} }).notes).toEqual([]);
  });

  it("the first of several end tokens is taken, and a negative id counts as none", () => {
    expect(parse({ eos_token_id: [5, 6], bos_token_id: -1 })).toMatchObject({
      eos_token_id: 5,
      bos_token_id: undefined,
    });
  });

  it("parseConfig throws nothing but NfcError, whatever the JSON", () => {
    const keys = Object.keys(parse({}));
    const object = fc.dictionary(
      fc.constantFrom(...keys, "model_type", "activation_function", "n_ctx", "__proto__"),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), object), (raw) => {
        try {
          expect(parse(raw).file).toBe("m/config.json");
        } catch (error) {
          expect(error).toBeInstanceOf(NfcError);
        }
      }),
    );
  });
});

describe("end tokens in config.json", () => {
  const write = (eos_token_id: unknown, eos?: number) =>
    toHfConfig({ ...tinyModelConfig(), ...(eos !== undefined && { eos_token_id: eos }) }, { eos_token_id })
      .eos_token_id;

  it("a list of them is written as it was, without ids beyond the vocabulary", () => {
    expect(write([5, 6, 5000, -1], 5)).toEqual([5, 6]);
    expect(write([5000, 6], 6)).toBe(6);
    expect(write(5, 5)).toBe(5);
    expect(write([], undefined)).toBeNull();
  });

  it("all of a list are read, and each must be an id", async () => {
    expect(parse({ eos_token_id: [5, 6] }).tokenIds).toEqual({ bos_token_id: undefined, eos_token_id: [5, 6] });
    expect(parse({ eos_token_id: null, bos_token_id: [] }).tokenIds).toEqual({ bos_token_id: [], eos_token_id: [] });
    expect((await refused({ eos_token_id: [5, "x"] })).message).toContain('eos_token_id is [5,"x"]');
  });
});

describe("writing config.json", () => {
  it.each(VARIANTS)("a configuration written by toHfConfig is read back the same (%s)", (variant) => {
    const config = { ...tinyModelConfig({ variant, inner: 24 }), activation: "gelu", bos_token_id: 3 } as const;
    const written = toHfConfig({ ...config, scale_attn_weights: false, layer_norm_epsilon: 1e-6 }, {});
    expect(parse(written)).toMatchObject({
      ...{ n_layer: 2, n_head: 2, n_embd: 8, n_inner: 24, n_positions: 20, vocab_size: 11 },
      ...{ activation: "gelu", scale_attn_weights: false, layer_norm_epsilon: 1e-6, bos_token_id: 3 },
      variant: variant === "dense" ? undefined : variant,
    });
  });

  it("the written model_type is gpt2 for every variant", () => {
    for (const variant of VARIANTS) expect(toHfConfig(tinyModelConfig({ variant }), {}).model_type).toBe("gpt2");
  });

  it("unknown keys and architectures are kept, and second names that would contradict are removed", () => {
    const raw = {
      ...tinyHfConfig(),
      resid_pdrop: 0.1,
      architectures: ["GPT2Model"],
      hidden_size: 8,
      n_ctx: 9,
      block_size: 20,
    };
    const written = toHfConfig(tinyModelConfig(), raw);
    expect(written).toMatchObject({ resid_pdrop: 0.1, architectures: ["GPT2Model"] });
    expect(Object.keys(written)).not.toContain("hidden_size");
    expect(Object.keys(written)).not.toContain("n_ctx");
    expect(Object.keys(written)).not.toContain("block_size");
  });

  it("the variant of a compact source is dropped when the result is dense", () => {
    const written = toHfConfig(tinyModelConfig(), tinyHfConfig({ variant: "symmetric" }));
    expect(Object.keys(written)).not.toContain("nfc_variant");
  });

  it("GPT-2's default inner width is written as null, and an untied head is declared", () => {
    expect(toHfConfig(tinyModelConfig({ head: "own" }), {})).toMatchObject({
      n_inner: null,
      tie_word_embeddings: false,
    });
  });
});
