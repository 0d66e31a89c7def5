// What an exported model is fed: left padding, masks, positions, and the cache from step to step.
import { describe, expect, it } from "vitest";
import { makeFloat32Tensor, type Tensor } from "../../../src/graph/session.ts";
import { makePromptFeeds, makeStepFeeds, takeCache } from "../../../src/inference/generate/decoder-feeds.ts";
import { tinyModelConfig } from "../../support/make-checkpoint.ts";

const config = tinyModelConfig(); // 2 layers, 2 heads of width 4

/** The rows of an int64 [B, T] tensor. */
function rows(tensor: Tensor | undefined): number[][] {
  expect(tensor?.dtype).toBe("int64");
  const [batch = 0, length = 0] = tensor?.shape ?? [];
  const values = Array.from(tensor?.data as BigInt64Array, Number);
  return Array.from({ length: batch }, (_, row) => values.slice(row * length, (row + 1) * length));
}

describe("the first step of decoding", () => {
  it("the first step of one prompt has no padding and counts positions from 0", () => {
    const feeds = makePromptFeeds([[7, 8, 9]], config);
    expect(rows(feeds.input_ids)).toEqual([[7, 8, 9]]);
    expect(rows(feeds.attention_mask)).toEqual([[1, 1, 1]]);
    expect(rows(feeds.position_ids)).toEqual([[0, 1, 2]]);
  });

  it("the first step pads shorter prompts on the left, and their positions start at their first token", () => {
    const feeds = makePromptFeeds([[7], [1, 2, 3, 4], [5, 6]], config, { padId: 10 });
    expect(rows(feeds.input_ids)).toEqual([
      [10, 10, 10, 7],
      [1, 2, 3, 4],
      [10, 10, 5, 6],
    ]);
    expect(rows(feeds.attention_mask)).toEqual([
      [0, 0, 0, 1],
      [1, 1, 1, 1],
      [0, 0, 1, 1],
    ]);
    expect(rows(feeds.position_ids)).toEqual([
      [1, 1, 1, 0],
      [0, 1, 2, 3],
      [1, 1, 0, 1],
    ]);
  });

  it("the first step pads with token 0 unless another is given", () => {
    expect(rows(makePromptFeeds([[7], [1, 2]], config).input_ids)).toEqual([
      [0, 7],
      [1, 2],
    ]);
  });

  it("the first step has an empty cache for every layer, with heads and their width as numbers", () => {
    const feeds = makePromptFeeds([[7], [1, 2]], config);
    const cache = Object.keys(feeds).filter((name) => name.startsWith("past"));
    expect(cache).toEqual(
      [0, 1].flatMap((layer) => ["key", "value"].map((part) => `past_key_values.${layer}.${part}`)),
    );
    for (const name of cache) expect(feeds[name]).toMatchObject({ dtype: "float32", shape: [2, 2, 0, 4] });
  });

  it("the first step has a float16 cache, as bits, for files that need one", () => {
    const cache = makePromptFeeds([[7]], config, { cacheDtype: "float16" })["past_key_values.1.value"];
    expect(cache).toEqual({ dtype: "float16", data: new Uint16Array(0), shape: [1, 2, 0, 4] });
  });
});

describe("later steps of decoding", () => {
  const first = makePromptFeeds([[7], [1, 2, 3]], config);
  const cache = { "past_key_values.0.key": makeFloat32Tensor(new Float32Array(0), [2, 2, 0, 4]) };

  it("a later step adds its tokens to the mask and continues each row's positions", () => {
    const feeds = makeStepFeeds(first, [[20], [30]], cache);
    expect(rows(feeds.input_ids)).toEqual([[20], [30]]);
    expect(rows(feeds.attention_mask)).toEqual([
      [0, 0, 1, 1],
      [1, 1, 1, 1],
    ]);
    expect(rows(feeds.position_ids)).toEqual([[1], [3]]);
    expect(feeds["past_key_values.0.key"]).toBe(cache["past_key_values.0.key"]);
  });

  it("a later step may have several tokens and be followed by another", () => {
    const second = makeStepFeeds(
      first,
      [
        [20, 21],
        [30, 31],
      ],
      cache,
    );
    expect(rows(second.position_ids)).toEqual([
      [1, 2],
      [3, 4],
    ]);
    const third = makeStepFeeds(second, [[22], [32]], cache);
    expect(rows(third.position_ids)).toEqual([[3], [5]]);
    expect(rows(third.attention_mask)).toEqual([
      [0, 0, 1, 1, 1, 1],
      [1, 1, 1, 1, 1, 1],
    ]);
  });

  it("a later step takes the present of the step before as its past, and nothing else", () => {
    const present = makeFloat32Tensor(new Float32Array(16), [1, 2, 2, 4]);
    const outputs = { logits: makeFloat32Tensor(new Float32Array(1), [1]), "present.1.value": present };
    expect(takeCache(outputs)).toEqual({ "past_key_values.1.value": present });
  });
});
