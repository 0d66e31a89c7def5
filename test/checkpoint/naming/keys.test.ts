// Tensor names: wrapper prefixes, mask buffers, look-alikes of other architectures.
import { describe, expect, it } from "vitest";
import { listParameters } from "../../../src/model/parameters.ts";
import { adding, plan, refused } from "../../support/tiny-plan.ts";

describe("tensor names", () => {
  it("the names of openai-community/gpt2 are taken as they are", () => {
    const result = plan();
    expect([...result.tensors.keys()]).toEqual(listParameters(result.config).map(({ name }) => name));
    for (const { name, source, transposed } of result.tensors.values()) {
      expect(source).toBe(name);
      expect(transposed).toBe(false);
    }
    expect(result.config).toMatchObject({ n_layer: 2, n_head: 2, n_embd: 8, n_inner: 32, tied_head: true, bias: true });
    expect(result.notes).toEqual([]);
  });

  it.each([
    ["transformer.", "", "transformers' save_pretrained"],
    ["_orig_mod.transformer.", "", "torch.compile"],
    ["module.transformer.", "", "DistributedDataParallel"],
    ["module._orig_mod.transformer.", "", "both"],
    ["_orig_mod.module.", "transformer.", "both, the other way round"],
    ["model.transformer.", "", "Lightning"],
    ["state_dict.model.", "transformer.", "a saved wrapper"],
  ])("the prefix %s%s (%s) is stripped from the names", (prefix, base) => {
    const result = plan({ prefix, base });
    expect(result.tensors.get("h.1.mlp.c_fc.weight")?.source).toBe(`${prefix}${base}h.1.mlp.c_fc.weight`);
    expect(result.notes).toEqual([`prefix "${prefix}${base}" stripped from the tensor names`]);
  });

  it.each(["", "_orig_mod.", "module.", "model."])(
    "the prefix transformer. is stripped beside lm_head (wrapper %j)",
    (prefix) => {
      const result = plan({ prefix, base: "transformer.", head: "copy" });
      expect(result.tensors.get("lm_head.weight")?.source).toBe(`${prefix}lm_head.weight`);
      expect(result.tensors.get("wte.weight")?.source).toBe(`${prefix}transformer.wte.weight`);
    },
  );

  it("a prefix that not all names carry is kept", async () => {
    const error = await refused({ prefix: "module.", edit: adding(["extra.weight", [1]]) });
    expect(error.message).toContain("no wte.weight among its");
  });

  it("names that end up equal are refused", async () => {
    const error = await refused({
      base: "transformer.",
      edit: adding(["lm_head.weight", [11, 8]], ["transformer.lm_head.weight", [11, 8]]),
    });
    expect(error.message).toContain('are both "lm_head.weight"');
  });

  it("mask buffers are dropped and not counted, in any dtype", () => {
    const result = plan({ masks: true, base: "transformer." });
    expect(result.tensors.size).toBe(listParameters(result.config).length);
    expect(result.notes).toContain("4 attention mask buffers dropped (not parameters)");
  });

  it("c_attn.bias is never taken for a mask buffer", () => {
    expect(plan({ masks: true }).tensors.get("h.0.attn.c_attn.bias")?.shape).toEqual([24]);
  });

  it("a mask buffer with a parameter's shape is refused", async () => {
    const error = await refused({ edit: adding(["h.0.attn.bias", [24]]) });
    expect(error.message).toBe("m.safetensors: unexpected h.0.attn.bias");
  });

  it.each([
    ["model/h0/attn/c_attn/w", "TensorFlow's"],
    ["model/h0/ln_1/g", "TensorFlow's"],
    ["transformer.h.0.attn.attention.k_proj.weight", "GPT-Neo's"],
    ["transformer.h.0.attn.q_proj.weight", "GPT-J's"],
    ["gpt_neox.layers.0.attention.query_key_value.weight", "GPT-NeoX's"],
    ["model.layers.0.self_attn.q_proj.weight", "Llama"],
    ["tokens_embed.weight", "GPT-1's"],
    ["transformer.h.0.crossattention.c_attn.weight", "cross attention's"],
    ["base_model.model.transformer.h.0.attn.c_attn.lora_A.weight", "LoRA"],
    ["transformer.h.0.attn.c_attn.qweight", "quantised"],
  ])("the name %s is refused as %s", async (name, whose) => {
    const error = await refused({ edit: () => [{ name, dtype: "F32", shape: [8, 24] }] });
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain(`tensor "${name}" is`);
    expect(error.message).toContain(whose);
    expect(error.hint).toBeTruthy();
  });

  it("a file without tensors is refused", async () => {
    const error = await refused({ edit: () => [], raw: null });
    expect(error.message).toContain("no wte.weight among its 0 tensors");
  });
});
