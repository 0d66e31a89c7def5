// Names that wrappers add anywhere in a path, heads that a language model does not need, and the head's older name.
import { describe, expect, it } from "vitest";
import { listParameters } from "../../../src/model/parameters.ts";
import { adding, type Case, plan, refused } from "../../support/tiny-plan.ts";

/** Every name of a layer with `part` before its part within the layer. */
const inLayers =
  (part: string): NonNullable<Case["edit"]> =>
  (tensors) =>
    tensors.map((tensor) => ({ ...tensor, name: tensor.name.replace(/(h\.\d+\.)/, `$1${part}`) }));

describe("wrappers within names", () => {
  it.each([
    "_orig_mod.",
    "_checkpoint_wrapped_module.",
    "_fsdp_wrapped_module.",
    "_fsdp_wrapped_module._checkpoint_wrapped_module.",
    "_fpw_module.",
    "_forward_module.",
    "module.",
    "_orig_mod.module.",
  ])("%s is stripped from within the names, with a note", (part) => {
    const result = plan({ base: "transformer.", edit: inLayers(part) });
    expect([...result.tensors.keys()]).toEqual(listParameters(result.config).map(({ name }) => name));
    expect(result.tensors.get("h.1.ln_1.weight")?.source).toBe(`transformer.h.1.${part}ln_1.weight`);
    for (const each of part.split(".").slice(0, -1))
      expect(result.notes).toContain(`"${each}." stripped from within 24 tensor names`);
  });

  it.each([
    ["before all names but the head's", "_fsdp_wrapped_module.", /^transformer\./],
    ["before the layers only", "_orig_mod.", /^transformer\.h\./],
    ["inside the base model", "transformer._orig_mod.", /^transformer\./],
  ])("a wrapper %s is stripped", (_, added, where) => {
    const rename = (name: string) =>
      added.startsWith("transformer.") ? name.replace(where, added) : name.replace(where, (found) => added + found);
    const edit: Case["edit"] = (tensors) => tensors.map((tensor) => ({ ...tensor, name: rename(tensor.name) }));
    const result = plan({ base: "transformer.", head: "copy", edit });
    expect([...result.tensors.keys()]).toContain("h.1.mlp.c_fc.weight");
    expect(result.notes.join()).toContain("stripped from");
  });

  it.each(["pretrained_model.transformer.", "base_model.model.transformer.", "_forward_module.module.transformer."])(
    "the prefix %s is stripped",
    (prefix) => {
      const result = plan({ prefix });
      expect(result.tensors.get("wte.weight")?.source).toBe(`${prefix}wte.weight`);
    },
  );

  it("the prefix model. is stripped beside a head without it", () => {
    const result = plan({ base: "model.", head: "copy" });
    expect(result.tensors.get("wte.weight")?.source).toBe("model.wte.weight");
    expect(result.tensors.get("lm_head.weight")?.source).toBe("lm_head.weight");
  });

  it("names that end up equal are refused", async () => {
    const error = await refused({ edit: adding(["h.0._orig_mod.ln_1.weight", [8]]) });
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain('are both "h.0.ln_1.weight"');
  });

  it("two models in one file stay apart", async () => {
    const error = await refused({ prefix: "model.", edit: adding(["ema.wte.weight", [11, 8]]) });
    expect(error.message).toContain("no wte.weight among its");
  });
});

describe("heads that a language model does not need", () => {
  it.each([
    ["v_head.summary.weight", [1, 8]],
    ["v_head.summary.bias", [1]],
    ["multiple_choice_head.summary.weight", [1, 8]],
    ["summary.summary.weight", [1, 8]],
  ])("%s is left out with a note", (name, shape) => {
    const result = plan({ base: "transformer.", head: "copy", edit: adding([name, shape]) });
    expect([...result.tensors.keys()]).toEqual([...plan({ head: "copy" }).tensors.keys()]);
    expect(result.notes.join()).toContain(`"${name}" left out`);
  });

  it("a value head beside a wrapped model is left out", () => {
    const result = plan({ prefix: "pretrained_model.transformer.", edit: adding(["v_head.summary.weight", [1, 8]]) });
    expect(result.notes.join()).toContain('"v_head.summary.weight" left out');
  });

  it.each([
    ["qa_outputs.weight", "question answering"],
    ["classifier.weight", "labelling tokens"],
  ])("a model for another task is refused by it: %s", async (name, task) => {
    const error = await refused({ base: "transformer.", edit: adding([name, [2, 8]]) });
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain(task);
    const beside = plan({ base: "transformer.", head: "copy", edit: adding([name, [2, 8]]) });
    expect(beside.notes.join()).toContain(`"${name}" left out`);
  });

  it.each(["base_model.model.h.0.attn.c_attn.lora_magnitude_vector", "h.0.attn.c_attn.ia3_l", "prompt_embeddings"])(
    "an adapter is refused by what it is: %s",
    async (name) => {
      const error = await refused({ edit: () => [{ name, dtype: "F32", shape: [8] }] });
      expect(error.message).toContain("is an adapter's (PEFT)");
      expect(error.hint).toContain("merge");
    },
  );
});

describe("the head's older name", () => {
  const decoder = adding(["lm_head.decoder.weight", [11, 8]]);

  it("beside the embedding of a tied model it is left out", () => {
    const result = plan({ base: "transformer.", edit: decoder });
    expect(result.config.tied_head).toBe(true);
    expect(result.notes.join()).toContain('"lm_head.decoder.weight" left out');
  });

  it("beside lm_head.weight it is left out", () => {
    const result = plan({ base: "transformer.", head: "own", edit: decoder });
    expect(result.tensors.get("lm_head.weight")?.source).toBe("lm_head.weight");
  });

  it("it is the head where config.json says that the head is not tied, or without an embedding", () => {
    const untied = plan({ edit: decoder, raw: { model_type: "gpt2", n_head: 2, tie_word_embeddings: false } });
    expect(untied.tensors.get("lm_head.weight")?.source).toBe("lm_head.decoder.weight");
    const renamed: Case["edit"] = (tensors) =>
      tensors.map((tensor) => (tensor.name === "wte.weight" ? { ...tensor, name: "lm_head.decoder.weight" } : tensor));
    expect(plan({ edit: renamed }).tensors.get("wte.weight")?.source).toBe("lm_head.decoder.weight");
  });
});
