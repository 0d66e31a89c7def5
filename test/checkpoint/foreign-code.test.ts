// Keys by which other programs load code are dropped with a note, at any depth; every other key stays as it is.
import { describe, expect, it } from "vitest";
import { stripForeignCode } from "../../src/checkpoint/foreign-code.ts";
import { failureOf } from "../support/failure.ts";

const strip = (value: Record<string, unknown>) => stripForeignCode(value, "m/config.json");

describe("keys that load code", () => {
  it.each([
    ["auto_map", { AutoModelForCausalLM: "modeling_x.Evil" }],
    ["auto_map", ["tokenization_x.Evil", null]],
    ["auto_map", { AutoTokenizer: ["someone/repo--tokenization_x.Evil", null] }],
    ["auto_map", { AutoModel: "someone/repo--modeling_nfc_gpt2.GPT2Model" }],
    ["custom_pipelines", { "text-generation": { impl: "pipe.Evil", pt: ["AutoModelForCausalLM"] } }],
    ["custom_generate", "someone/generate"],
    ["trust_remote_code", true],
    ["attn_implementation", "someone/kernel"],
    ["_attn_implementation", "kernels-community/flash-attn:flash"],
    ["_attn_implementation_internal", "someone/kernel@main"],
    ["_attn_implementation", { "": "someone/kernel" }],
    ["_experts_implementation", "someone/kernel"],
    ["use_kernels", true],
    ["kernel_config", { RMSNorm: "someone/kernel:Evil" }],
  ])("%s %j is dropped with a note that names it", (key, value) => {
    const { value: kept, notes } = strip({ n_layer: 2, [key]: value });
    expect(kept).toEqual({ n_layer: 2 });
    expect(notes).toEqual([
      expect.stringMatching(new RegExp(`^m/config\\.json: ${key} .+ is left out: it makes other`)),
    ]);
    const nested = strip({ text_config: [{ deep: { [key]: value, a: 1 } }] });
    expect(nested.value).toEqual({ text_config: [{ deep: { a: 1 } }] });
    expect(nested.notes).toHaveLength(1);
  });

  it("nfc's own auto_map goes without a note, because its module is written where it is wanted", () => {
    const own = { AutoModel: "modeling_nfc_gpt2.GPT2Model" };
    expect(strip({ auto_map: own })).toEqual({ value: {}, notes: [] });
    expect(strip({ auto_map: { ...own, AutoTokenizer: "x.Evil" } }).notes).toHaveLength(1);
  });

  it("an empty map goes without a note", () => {
    expect(strip({ auto_map: null, trust_remote_code: false })).toEqual({ value: {}, notes: [] });
  });
});

it("an object without such keys is returned itself", () => {
  const value = {
    _attn_implementation: "eager",
    attn_implementation: "flash_attention_2",
    cache_implementation: "static",
    task_specific_params: { "text-generation": { do_sample: true, max_length: 50 } },
    architectures: ["GPT2LMHeadModel"],
    id2label: { 0: "auto_map" },
  };
  expect(strip(value)).toEqual({ value, notes: [] });
  expect(strip(value).value).toBe(value);
});

it("an object that is nested without end is refused", async () => {
  let value: Record<string, unknown> = {};
  for (let i = 0; i < 5000; i++) value = { a: [value] };
  const { message } = await failureOf(() => strip(value));
  expect(message).toBe("m/config.json: nested deeper than 100 levels");
});
