// How config.json, flags, shapes and defaults make one configuration.
import { describe, expect, it } from "vitest";
import { planCheckpoint, type SourceTensor } from "../../../src/checkpoint/naming/plan.ts";
import { failureOf } from "../../support/failure.ts";
import { tinyHfConfig } from "../../support/make-checkpoint.ts";
import { plan, refused } from "../../support/tiny-plan.ts";

describe("the activation of a model", () => {
  const { activation_function: _, ...silent } = tinyHfConfig();

  it("the activation is the one in config.json", () => {
    expect(plan({ raw: { ...silent, activation_function: "relu" } }).config.activation).toBe("relu");
  });

  it("a Hugging Face config that names no activation means GPT-2's tanh GELU, whatever the layout", () => {
    const result = plan({ raw: silent, layout: "linear" });
    expect(result.config.activation).toBe("gelu_tanh");
    expect(result.notes.join()).toContain("tanh GELU assumed");
  });

  it("nanoGPT's layout without a Hugging Face config means the exact GELU, and the note says how to change it", () => {
    const result = plan({ raw: null, nHead: 2, layout: "linear" });
    expect(result.config.activation).toBe("gelu");
    expect(result.notes.join()).toContain("exact GELU assumed, as nanoGPT uses (--activation gelu_tanh for GPT-2's)");
  });

  it("nanoGPT's layout with nanoGPT's own model_args means the exact GELU", () => {
    const raw = { n_layer: 2, n_head: 2, n_embd: 8, block_size: 20, vocab_size: 11, bias: true, dropout: 0 };
    expect(plan({ raw, layout: "linear" }).config.activation).toBe("gelu");
  });

  it("GPT-2's layout without any config means GPT-2's tanh GELU", () => {
    expect(plan({ raw: null, nHead: 2 }).config.activation).toBe("gelu_tanh");
  });

  it("the user's activation comes before all others", () => {
    expect(plan({ activation: "silu" }).config.activation).toBe("silu");
    expect(plan({ raw: null, nHead: 2, layout: "linear", activation: "gelu_tanh" }).config.activation).toBe(
      "gelu_tanh",
    );
  });
});

/** Names and shapes only: real sizes without their bytes. */
function bigTensors(C: number, layers: number): SourceTensor[] {
  const shapes: [string, number[]][] = [
    ["wte.weight", [50257, C]],
    ["wpe.weight", [1024, C]],
    ["ln_f.weight", [C]],
    ["ln_f.bias", [C]],
  ];
  for (let layer = 0; layer < layers; layer++) {
    const parts = {
      ...{ "ln_1.weight": [C], "ln_1.bias": [C], "ln_2.weight": [C], "ln_2.bias": [C] },
      ...{
        "attn.c_attn.weight": [C, 3 * C],
        "attn.c_attn.bias": [3 * C],
        "attn.c_proj.weight": [C, C],
        "attn.c_proj.bias": [C],
      },
      ...{
        "mlp.c_fc.weight": [C, 4 * C],
        "mlp.c_fc.bias": [4 * C],
        "mlp.c_proj.weight": [4 * C, C],
        "mlp.c_proj.bias": [C],
      },
    };
    for (const [name, shape] of Object.entries(parts)) shapes.push([`h.${layer}.${name}`, shape]);
  }
  return shapes.map(([name, shape]) => ({ name, shape, dtype: "F32" }));
}

describe("a model without config.json", () => {
  it("all dimensions come from the tensors, and n_head from the user", () => {
    const result = plan({ raw: null, nHead: 4, inner: 24, layers: 3 });
    expect(result.config).toMatchObject({
      n_layer: 3,
      n_head: 4,
      n_embd: 8,
      n_inner: 24,
      n_positions: 20,
      vocab_size: 11,
    });
  });

  it.each([
    [768, 12, 12],
    [768, 6, 12],
    [1024, 24, 16],
    [1280, 36, 20],
    [1600, 48, 25],
  ])("width %i with %i layers has %i heads, as published", (width, layers, heads) => {
    const result = planCheckpoint({ file: "f", tensors: bigTensors(width, layers) });
    expect(result.config.n_head).toBe(heads);
    expect(result.notes.join()).toContain(`n_head ${heads} assumed`);
  });

  it("an unpublished size asks for --n-head", async () => {
    const error = await failureOf(() => planCheckpoint({ file: "f", tensors: bigTensors(768, 5) }));
    expect(error.code).toBe("usage");
    expect(error.message).toContain("the number of heads is not in any tensor");
    expect(error.hint).toBe("give --n-head N (a divisor of 768)");
  });

  it("the noise parameters tell the number of heads", () => {
    expect(plan({ raw: null, heads: 4, variant: "noise-distance" }).config.n_head).toBe(4);
  });

  it.each([0, -2, 1.5])("--n-head %s is refused", async (nHead) => {
    expect((await refused({ raw: null, nHead })).message).toBe(`--n-head ${nHead} is not a positive integer`);
  });

  it("an --n-head that does not divide the width is refused", async () => {
    const error = await refused({ raw: null, nHead: 3 });
    expect(error.message).toBe("m.safetensors: n_embd 8 is not divisible by n_head 3");
  });
});

describe("a model with config.json", () => {
  it.each([
    ["n_layer", 3, "missing h.2.ln_1.weight"],
    ["n_layer", 1, "unexpected h.1.ln_1.weight"],
    ["n_inner", 24, "h.0.mlp.c_fc.weight is [8, 32], expected [8, 24]"],
    ["n_positions", 19, "wpe.weight is [20, 8], expected [19, 8]"],
    ["vocab_size", 12, "wte.weight is [11, 8], expected [12, 8]"],
    ["n_embd", 16, "wte.weight is [11, 8], expected [11, 16]"],
  ])("a config.json that says %s %i against the weights is refused with both facts", async (key, value, fact) => {
    const error = await refused({ raw: { ...tinyHfConfig(), [key]: value } });
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain(fact);
  });

  it("the hint points at config.json when shapes disagree", async () => {
    const error = await refused({ raw: { ...tinyHfConfig(), vocab_size: 12 } });
    expect(error.hint).toContain("the weights and config.json disagree: correct n_layer");
  });

  it("a config.json without n_inner means 4 n_embd, as in transformers", async () => {
    const error = await refused({ inner: 24, raw: tinyHfConfig() });
    expect(error.message).toContain("h.0.mlp.c_fc.weight is [8, 24], expected [8, 32]");
  });

  it("a config.json whose n_head does not divide n_embd is refused", async () => {
    const error = await refused({ raw: { ...tinyHfConfig(), n_head: 3 } });
    expect(error.message).toBe("config.json: n_embd 8 is not divisible by n_head 3");
  });

  it("an --n-head that differs from config.json is refused", async () => {
    const error = await refused({ nHead: 4 });
    expect(error.code).toBe("usage");
    expect(error.message).toBe("config.json: n_head is 2, but --n-head says 4");
    expect(plan({ nHead: 2 }).config.n_head).toBe(2);
  });

  it("the config.json of Cerebras-GPT (2048 positions, exact GELU, own inner width) decides", () => {
    const raw = {
      ...tinyHfConfig(),
      activation_function: "gelu",
      n_positions: 64,
      n_inner: 40,
      layer_norm_epsilon: 1e-6,
    };
    const result = plan({ positions: 64, inner: 40, raw, base: "transformer." });
    expect(result.config).toMatchObject({ activation: "gelu", n_positions: 64, n_inner: 40, layer_norm_epsilon: 1e-6 });
  });

  it("the notes of config.json are carried into the plan", () => {
    expect(plan({ raw: { ...tinyHfConfig(), n_ctx: 9 } }).notes.join()).toContain("n_ctx 9 is legacy");
  });
});
