// The whole plan: head, vocabulary, dtypes, and what is missing or foreign.
import { describe, expect, it } from "vitest";
import { type SourceTensor, settleHead } from "../../../src/checkpoint/naming/plan.ts";
import { listParameters } from "../../../src/model/parameters.ts";
import { failureOf } from "../../support/failure.ts";
import { opened } from "../../support/fixture.ts";
import { tinyHfConfig, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { adding, plan, refused, reshaping, without } from "../../support/tiny-plan.ts";

const path = temporaryFolder("naming");

describe("the head in a plan", () => {
  it("a head beside wte is compared before it counts", () => {
    const result = plan({ head: "copy" });
    expect(result.headCandidate).toBe(true);
    const tied = settleHead(result, true);
    expect(tied.config.tied_head).toBe(true);
    expect(tied.tensors.has("lm_head.weight")).toBe(false);
    expect(tied.notes).toContain("lm_head.weight is a copy of wte.weight: stored and counted once");
    const untied = settleHead(result, false);
    expect(untied.config.tied_head).toBe(false);
    expect([...untied.tensors.keys()]).toEqual(listParameters(untied.config).map(({ name }) => name));
    expect(untied.notes.join()).toContain("kept as a head of its own");
  });

  it("a head in another dtype than wte stays separate", () => {
    const result = plan({ head: "copy", dtype: (name) => (name === "lm_head.weight" ? "F16" : "F32") });
    expect(result.headCandidate).toBe(false);
    expect(result.config.tied_head).toBe(false);
  });

  it("a head alone (safetensors' save_model with its alias) is wte as well", () => {
    const metadata = { "transformer.wte.weight": "lm_head.weight" };
    const result = plan({ head: "only", base: "transformer.", metadata });
    expect(result.tensors.get("wte.weight")).toMatchObject({ source: "lm_head.weight", shape: [11, 8] });
    expect(result.config.tied_head).toBe(true);
    expect(result.headCandidate).toBe(false);
    expect(result.notes).toContain('"transformer.wte.weight" is "lm_head.weight" (alias in the file\'s metadata)');
  });

  it("a head alone without an alias is wte as well, and the note says so", () => {
    const result = plan({ head: "only", base: "transformer." });
    expect(result.tensors.get("wte.weight")?.source).toBe("lm_head.weight");
    expect(result.notes).toContain("wte.weight is not stored: lm_head.weight serves as both");
  });

  it("a head under an alias of wte (the other way round) is tied", () => {
    const metadata = { "lm_head.weight": "transformer.wte.weight", format: "pt" };
    expect(plan({ base: "transformer.", metadata }).config.tied_head).toBe(true);
  });

  it("a head of another shape than wte is refused with both shapes", async () => {
    const error = await refused({ edit: adding(["lm_head.weight", [12, 8]]) });
    expect(error.message).toContain("lm_head.weight is [12, 8], expected [11, 8]");
  });

  it("a head that config.json calls separate must be there", async () => {
    const error = await refused({ raw: { ...tinyHfConfig(), tie_word_embeddings: false } });
    expect(error.message).toContain("lm_head.weight is missing");
    expect(error.hint).toContain("tie_word_embeddings");
  });

  it("a head that config.json calls separate cannot stand in for wte", async () => {
    const error = await refused({ head: "only", raw: { ...tinyHfConfig(), tie_word_embeddings: false } });
    expect(error.message).toContain("no wte.weight");
  });
});

describe("the vocabulary in a plan", () => {
  const gpt2 = { vocab: 50304, width: 2, heads: 1, layers: 1, positions: 4, layout: "linear" } as const;

  it("a vocabulary of 50304 is kept, with a note on its 47 padding rows", () => {
    const result = plan(gpt2);
    expect(result.config.vocab_size).toBe(50304);
    expect(result.notes.join()).toContain(
      "vocabulary 50304: 47 rows beyond the 50257 tokens in use (--trim-vocab drops them)",
    );
  });

  it("a vocabulary of 50304 is trimmed to 50257", () => {
    const result = plan({ ...gpt2, trimVocab: true, head: "copy" });
    expect(result.config.vocab_size).toBe(50257);
    expect(result.tensors.get("wte.weight")?.shape).toEqual([50257, 2]);
    expect(result.tensors.get("lm_head.weight")?.shape).toEqual([50257, 2]);
    expect(result.notes).toContain("vocabulary trimmed from 50304 to 50257 rows");
  });

  it("a vocabulary is trimmed to the tokenizer's size", () => {
    expect(plan({ trimVocab: true, tokenizerSize: 7 }).config.vocab_size).toBe(7);
  });

  it("a vocabulary is trimmed to a given number", () => {
    expect(plan({ trimVocab: 9, tokenizerSize: 7 }).tensors.get("wte.weight")?.shape).toEqual([9, 8]);
  });

  it.each([11, 20])("a vocabulary without padding is left alone (tokenizer of %s)", (tokenizerSize) => {
    const result = plan({ trimVocab: true, tokenizerSize });
    expect(result.config.vocab_size).toBe(11);
    expect(result.notes).toContain("vocabulary 11: no padding rows to trim");
  });

  it.each([12, 0, -1, 1.5, Number.NaN])("a vocabulary cannot be trimmed to %s", async (trimVocab) => {
    const error = await refused({ trimVocab });
    expect(error.code).toBe("usage");
    expect(error.message).toContain(`cannot be trimmed to ${trimVocab}`);
  });

  it("a vocabulary of a size that only a tokenizer could explain is not trimmed without one", async () => {
    const error = await refused({ trimVocab: true });
    expect(error.code).toBe("usage");
    expect(error.message).toMatch(/without a tokenizer it is not known how many of the 11 rows are in use$/);
    expect(error.hint).toContain("--trim-vocab N");
  });

  it.each([
    ["its end token", { eos_token_id: 10, bos_token_id: 3 }, "eos_token_id is 10", 11],
    ["one of its end tokens", { eos_token_id: [3, 9] }, "eos_token_id is 9", 10],
    ["its first token", { bos_token_id: 8 }, "bos_token_id is 8", 9],
  ])("a number of rows that would cut off %s is refused", async (_, ids, fact, least) => {
    const error = await refused({ raw: { ...tinyHfConfig(), ...ids }, trimVocab: 8 });
    expect(error.code).toBe("usage");
    expect(error.message).toMatch(new RegExp(`cannot be trimmed to 8: ${fact}$`));
    expect(error.hint).toContain(`at least ${least} rows`);
  });

  it("rows beyond the tokenizer's that a configuration names stay", () => {
    const raw = { ...tinyHfConfig(), eos_token_id: [5, 7] };
    expect(plan({ raw, trimVocab: true, tokenizerSize: 6 }).config).toMatchObject({ vocab_size: 8, eos_token_id: 5 });
    const namedIds = [
      { key: "pad_token_id", id: 8 },
      { key: "decoder_start_token_id", id: 11 },
    ];
    const result = plan({ raw, trimVocab: true, tokenizerSize: 6, namedIds });
    expect(result.config.vocab_size).toBe(9); // 11 is in no row of the model
  });

  it("the vocabulary bounds the token ids of config.json", () => {
    const result = plan({ raw: { ...tinyHfConfig(), eos_token_id: 50256, bos_token_id: 3 } });
    expect(result.config).toMatchObject({ bos_token_id: 3 });
    expect(result.config).not.toHaveProperty("eos_token_id");
    expect(result.notes).toContain("config.json: eos_token_id 50256 is beyond the vocabulary of 11; ignored");
  });

  it.each([
    ["silent", {}, 50256],
    ["of null", { eos_token_id: null, bos_token_id: null }, undefined],
    ["of -1", { eos_token_id: -1, bos_token_id: -1 }, undefined],
    ["of [7, 50256]", { eos_token_id: [7, 50256], bos_token_id: 7 }, 7],
  ])("a config.json %s about the end of a text means what it means to transformers", (_, ids, expected) => {
    const { bos_token_id: __, eos_token_id: ___, ...raw } = tinyHfConfig({ ...gpt2 });
    const { config } = plan({ ...gpt2, raw: { ...raw, ...ids } });
    expect(config.eos_token_id).toBe(expected);
    expect(config.bos_token_id).toBe(expected);
  });

  it("GPT-2's default ids that the tokenizer does not have are dropped with the padding", () => {
    const result = plan({ ...gpt2, trimVocab: true, tokenizerSize: 40_000 });
    expect(result.config).not.toHaveProperty("eos_token_id");
    expect(result.notes.join()).toContain("eos_token_id 50256, GPT-2's default, is beyond the trimmed vocabulary");
  });

  it("a vocabulary of GPT-2's size without a config brings GPT-2's end token", () => {
    expect(plan({ ...gpt2, raw: null, nHead: 1 }).config).toMatchObject({ bos_token_id: 50256, eos_token_id: 50256 });
  });
});

describe("the dtypes in a plan", () => {
  it("mixed dtypes are kept per tensor and noted", () => {
    const result = plan({ dtype: (name) => (name.includes("ln_") ? "F32" : "BF16") });
    expect(result.tensors.get("wte.weight")?.dtype).toBe("BF16");
    expect(result.tensors.get("ln_f.weight")?.dtype).toBe("F32");
    expect(result.notes).toContain("mixed dtypes: 18 tensors BF16, 10 tensors F32");
  });

  it.each(["I8", "U8", "F8_E4M3", "I64"] as const)("the dtype %s of a parameter is refused by name", async (dtype) => {
    const edit = (tensors: SourceTensor[]) =>
      tensors.map((tensor) => (tensor.name === "h.0.mlp.c_fc.weight" ? { ...tensor, dtype } : tensor));
    const error = await refused({ edit });
    expect(error.message).toContain(`"h.0.mlp.c_fc.weight" is ${dtype}`);
  });
});

describe("incomplete or foreign tensors", () => {
  it("missing tensors are listed by name, with the number of those not listed", async () => {
    const error = await refused({ edit: without(/mlp\.c_proj|ln_f|ln_2/) });
    expect(error.message).toBe(
      "m.safetensors: missing h.0.ln_2.weight, h.0.ln_2.bias, h.0.mlp.c_proj.weight, h.0.mlp.c_proj.bias, h.1.ln_2.weight, h.1.ln_2.bias and 4 more",
    );
  });

  it("unexpected tensors are listed under their stored names", async () => {
    const error = await refused({ base: "transformer.", edit: adding(["transformer.extra.weight", [2, 8]]) });
    expect(error.message).toBe("m.safetensors: unexpected transformer.extra.weight");
  });

  it("a classifier's head makes a classifier, with the label names of config.json", async () => {
    const folder = (labels: number, config?: object) =>
      writeCheckpoint(path(`labels ${labels} ${config !== undefined}`), {
        ...{ labels, base: "transformer." },
        ...(config && { config: { ...tinyHfConfig({ labels }), ...config } }),
      });
    const labelsOf = async (model: string) => opened(model, ({ config }) => config.labels);
    expect(await labelsOf(await folder(3))).toEqual(["class 0", "class 1", "class 2"]);
    expect(await labelsOf(await folder(2, { id2label: null }))).toEqual(["LABEL_0", "LABEL_1"]);
    const wrong = await folder(1, { id2label: { 0: "a", 1: "b" } });
    expect((await failureOf(() => labelsOf(wrong))).message).toContain("score.weight is [1, 8], expected [2, 8]");
    const odd = await folder(4, { id2label: { 0: "a", 2: "b" } });
    expect((await failureOf(() => labelsOf(odd))).message).toContain("id2label");
  });

  it("missing, misshapen and unexpected tensors stand in one line", async () => {
    const edit = (tensors: SourceTensor[]) =>
      adding(["extra", [1]])(reshaping("ln_f.bias", [9])(without(/^ln_f\.weight/)(tensors)));
    const error = await refused({ edit });
    expect(error.message).toBe("m.safetensors: missing ln_f.weight; ln_f.bias is [9], expected [8]; unexpected extra");
  });

  it("a checkpoint without wpe is refused", async () => {
    expect((await refused({ edit: without(/wpe/) })).message).toContain("no wpe.weight among its");
  });

  it("a gap in the layers is refused", async () => {
    const error = await refused({ layers: 3, edit: without(/^h\.1\./) });
    expect(error.message).toBe("m.safetensors: layer 1 (h.1.*) is missing");
  });

  it("absurdly many layers are refused", async () => {
    const many = Array.from({ length: 1025 }, (_, layer) => [`h.${layer}.x`, [1]] as [string, number[]]);
    expect((await refused({ edit: adding(...many) })).message).toContain("1025 layers");
  });

  it("an absurd width is refused", async () => {
    const edit = reshaping("wte.weight", [2, 2 ** 17]);
    expect((await refused({ edit })).message).toContain("widths end at 65536");
  });
});
