// genai_config.json: the names in it are those of the exported graph, the numbers those of the model.
import { describe, expect, it } from "vitest";
import { makeGenaiConfig } from "../../../src/export/onnx/genai-config.ts";
import { buildDecoderGraph } from "../../../src/model/decoder-graph.ts";
import { GPT2_SMALL, TINY } from "../../support/fake-checkpoint.ts";

interface Genai {
  model: Record<string, unknown> & {
    decoder: Record<string, unknown> & { inputs: Record<string, string>; outputs: Record<string, string> };
  };
  search: Record<string, unknown>;
}

/** All layers with these ranks. */
const ranked = (ranks: { qk_ranks?: number[]; vo_ranks?: number[] }) =>
  makeGenaiConfig({ ...TINY, variant: "low-rank", ...ranks }, "onnx/model.onnx") as Genai | null;

describe("the width of the cache in genai_config.json", () => {
  it("head_size is the one width that keys and values have", () => {
    expect(ranked({ qk_ranks: [3, 3], vo_ranks: [3, 3] })?.model.decoder.head_size).toBe(3);
    expect(ranked({ qk_ranks: [4, 4] })?.model.decoder.head_size).toBe(4);
  });

  it.each([
    ["keys and values", { qk_ranks: [2, 2] }],
    ["layers", { qk_ranks: [2, 3], vo_ranks: [2, 3] }],
  ])("there is none where %s have different widths", (_, ranks) => {
    expect(ranked(ranks)).toBeNull();
  });
});

const genai = (...args: Parameters<typeof makeGenaiConfig>) => makeGenaiConfig(...args) as unknown as Genai;

it("genai_config.json names every input and output of the graph", () => {
  const { inputs, outputs } = genai(TINY, "onnx/model.onnx").model.decoder;
  const graph = buildDecoderGraph(TINY, { kind: "mean" });
  const layers = [...Array(TINY.n_layer).keys()];
  const named = (names: Record<string, string>) =>
    new Set(Object.values(names).flatMap((name) => layers.map((layer) => name.replace("%d", String(layer)))));
  expect(named(inputs)).toEqual(new Set(graph.inputs.map(({ name }) => name)));
  expect(named(outputs)).toEqual(new Set(graph.outputs.map(({ name }) => name)));
});

it("genai_config.json has the sizes of the model, the file and a cache that is not shared", () => {
  const { model, search } = genai({ ...GPT2_SMALL, eos_token_id: 50256 }, "onnx/model_quantized.onnx");
  expect(model).toMatchObject({ type: "decoder", context_length: 1024, vocab_size: 50257, eos_token_id: 50256 });
  expect(model).not.toHaveProperty("bos_token_id");
  expect(model.decoder).toMatchObject({
    filename: "onnx/model_quantized.onnx",
    hidden_size: 768,
    head_size: 64,
    num_attention_heads: 12,
    num_key_value_heads: 12,
    num_hidden_layers: 12,
  });
  expect(search).toMatchObject({ max_length: 1024, past_present_share_buffer: false });
});
