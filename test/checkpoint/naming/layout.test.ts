// Dimensions, orientation and biases, read off the shapes.
import { describe, expect, it } from "vitest";
import { plan, refused, reshaping, without } from "../../support/tiny-plan.ts";

describe("the orientation of matrices", () => {
  it("torch.nn.Linear's orientation (nanoGPT) turns c_attn, c_fc and both c_proj together, and nothing else", () => {
    const result = plan({ layout: "linear", base: "transformer." });
    const turned = [...result.tensors.values()].filter(({ transposed }) => transposed).map(({ name }) => name);
    expect(turned).toEqual(
      [0, 1].flatMap((layer) =>
        ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"].map((part) => `h.${layer}.${part}.weight`),
      ),
    );
    expect(result.tensors.get("h.0.attn.c_attn.weight")?.shape).toEqual([8, 24]);
    expect(result.notes).toContain("matrices stored [out, in] (as torch.nn.Linear does): transposed");
  });

  it("c_attn decides the orientation when c_fc is square", () => {
    const result = plan({ layout: "linear", inner: 8 });
    expect(result.tensors.get("h.0.mlp.c_fc.weight")?.transposed).toBe(true);
  });

  it("an orientation that c_attn and c_fc contradict is refused", async () => {
    const edit = reshaping("h.0.mlp.c_fc.weight", [32, 8]);
    const error = await refused({ edit });
    expect(error.message).toBe(
      "m.safetensors: h.0.attn.c_attn.weight is stored as conv1d and h.0.mlp.c_fc.weight as linear",
    );
  });

  it("an orientation that a later layer contradicts is refused with both shapes", async () => {
    const error = await refused({ edit: reshaping("h.1.attn.c_attn.weight", [24, 8]) });
    expect(error.message).toContain("h.1.attn.c_attn.weight is [24, 8], expected [8, 24]");
  });

  it("multi-query attention (gpt_bigcode) is refused by shape", async () => {
    const error = await refused({ raw: null, nHead: 4, edit: reshaping("h.0.attn.c_attn.weight", [8, 12]) });
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain("h.0.attn.c_attn.weight is [8, 12]: multi-query attention");
  });

  it("a c_attn of any other shape is refused with the shapes it may have", async () => {
    const error = await refused({ edit: reshaping("h.0.attn.c_attn.weight", [9, 24]) });
    expect(error.message).toContain("is [9, 24], expected [8, 24] (or [8, 16] tied)");
  });

  it("a c_fc of any other shape is refused", async () => {
    const error = await refused({ edit: reshaping("h.0.mlp.c_fc.weight", [9, 24]) });
    expect(error.message).toContain("h.0.mlp.c_fc.weight is [9, 24], expected 8 on one side");
  });

  it("an embedding that is no matrix is refused", async () => {
    const error = await refused({ edit: reshaping("wte.weight", [88]) });
    expect(error.message).toBe('m.safetensors: "wte.weight" is [88], expected a matrix');
  });
});

describe("the biases of a model", () => {
  it("a checkpoint without any bias (nanoGPT's bias=False) gives a model without biases", () => {
    const result = plan({ bias: false, layout: "linear" });
    expect(result.config.bias).toBe(false);
    expect(result.notes).toContain("no biases (nanoGPT's bias=False)");
  });

  it("biases that are only partly there are refused by name", async () => {
    const error = await refused({ edit: without(/c_attn\.bias$/) });
    expect(error.message).toBe("m.safetensors: missing h.0.attn.c_attn.bias, h.1.attn.c_attn.bias");
  });
});
