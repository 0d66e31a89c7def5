// The distance means in the scores: what shifted rows give is μ[h, bucket(i − j)] looked up entry by entry.
import { describe, expect, it } from "vitest";
import type { Dim } from "../../src/graph/dims.ts";
import { Graph, type Value } from "../../src/graph/ir.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session, type Tensor } from "../../src/graph/session.ts";
import { attention, buildAttentionContext, makeBucketTable } from "../../src/model/attention.ts";
import { makeLayerLookup, makeParameterLookup } from "../../src/model/layers.ts";
import { DISTANCE_BUCKETS } from "../../src/model/variants.ts";
import { uniform } from "../numeric/matrices.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";

const random = uniform(17);
const [HEADS, WIDTH] = [3, 12];
const SIZE = WIDTH / HEADS;

interface Sizes {
  batch: number;
  length: number;
  past: number;
  positions: number;
}

/** The scores [B, H, T, S] of a layer whose c_attn is 0, so that nothing but mask and bias is in them. */
async function biasOf(sizes: Sizes, mean: Float32Array, { fixed = false, mask = null as number[] | null } = {}) {
  const { batch, length, past, positions } = sizes;
  const config = tinyModelConfig({ variant: "noise-distance", heads: HEADS, width: WIDTH, positions, layers: 1 });
  const graph = new Graph();
  const dims: [Dim, Dim] = fixed ? [batch, length] : ["batch_size", "sequence_length"];
  const ids = graph.input("ids", "int64", dims);
  const total = fixed ? past + length : "past_sequence_length + sequence_length";
  const cached = past > 0 || mask !== null;
  const attentionMask = cached ? graph.input("mask", "int64", [dims[0], total]) : null;
  const cacheDims = [dims[0], HEADS, fixed ? past : "past_sequence_length", SIZE];
  const cache = cached
    ? { key: graph.input("key", "float32", cacheDims), value: graph.input("value", "float32", cacheDims) }
    : null;
  const rows: Dim = fixed ? batch * length : "batch_size * sequence_length";
  const x = graph.input("x", "float32", [rows, WIDTH]);
  const context = buildAttentionContext(config, { ids, attentionMask }, { kind: "mean" });
  const { scores } = attention(x, makeLayerLookup(makeParameterLookup(graph, config), 0), context, 0, cache);
  graph.output(scores, "scores");
  const weightOf = ({ name, shape }: Value) =>
    name.endsWith("noise_mean") ? mean : new Float32Array((shape as number[]).reduce((a, b) => a * b, 1));
  const session = await Session.withWeights(graph, weightOf, { threads: 1 });
  const emptied = makeFloat32Tensor(new Float32Array(batch * HEADS * past * SIZE), [batch, HEADS, past, SIZE]);
  const outputs = await session.run({
    ids: makeInt64Tensor(new Int32Array(batch * length), [batch, length]),
    x: makeFloat32Tensor(new Float32Array(batch * length * WIDTH), [batch * length, WIDTH]),
    ...(cached && {
      mask: makeInt64Tensor(mask ?? new Int32Array(batch * (past + length)).fill(1), [batch, past + length]),
      key: emptied,
      value: emptied,
    }),
  });
  await session.close();
  return outputs.scores as Tensor;
}

const meansOf = () => Float32Array.from({ length: HEADS * DISTANCE_BUCKETS }, random);

/** μ[h, bucket(i − j)]/√D at each visible entry; far distances have the last position's bucket. */
function check({ data, shape }: Tensor, sizes: Sizes, mean: Float32Array, mask: number[] | null = null): void {
  const { batch, length, past, positions } = sizes;
  const total = past + length;
  expect(shape).toEqual([batch, HEADS, length, total]);
  const table = makeBucketTable(positions);
  for (let b = 0, at = 0; b < batch; b++)
    for (let h = 0; h < HEADS; h++)
      for (let i = 0; i < length; i++)
        for (let j = 0; j < total; j++, at++) {
          const distance = i + past - j;
          const score = data[at] as number;
          const label = `row ${b}, head ${h}, query ${i}, key ${j}`;
          if (distance < 0 || mask?.[b * total + j] === 0) {
            expect(score, label).toBeLessThan(-1e38);
            continue;
          }
          const bucket = table[Math.min(distance, positions - 1)] as number;
          const expected = (mean[h * DISTANCE_BUCKETS + bucket] as number) / Math.sqrt(SIZE);
          expect(Math.abs(score - expected), label).toBeLessThan(1e-6);
        }
}

describe("the attention bias of noise-distance", () => {
  it.each<[string, Sizes]>([
    ["T = S", { batch: 2, length: 19, past: 0, positions: 64 }],
    ["T = S = 1", { batch: 1, length: 1, past: 0, positions: 64 }],
    ["T = S at all positions, in every bucket", { batch: 1, length: 200, past: 0, positions: 200 }],
    ["T < S, behind a cache", { batch: 2, length: 5, past: 30, positions: 64 }],
    ["T > past", { batch: 1, length: 30, past: 5, positions: 64 }],
    ["T = 1, behind a cache", { batch: 2, length: 1, past: 63, positions: 64 }],
    ["S beyond the positions", { batch: 1, length: 40, past: 0, positions: 20 }],
    ["S beyond the positions, T = 1", { batch: 1, length: 1, past: 99, positions: 20 }],
    ["fewer positions than exact buckets", { batch: 1, length: 12, past: 3, positions: 7 }],
    ["one position", { batch: 1, length: 3, past: 0, positions: 1 }],
  ])(
    "the bias follows μ at the bucket of each distance: %s, with sizes known at run time and before",
    async (_, sizes) => {
      const mean = meansOf();
      for (const fixed of [false, true]) check(await biasOf(sizes, mean, { fixed }), sizes, mean);
    },
  );

  it("the bias does not depend on what is padded, but where that is", async () => {
    const sizes = { batch: 2, length: 4, past: 6, positions: 64 };
    const mask = [...Array(10).fill(1), 0, 0, 0, ...Array(7).fill(1)];
    const mean = meansOf();
    check(await biasOf(sizes, mean, { mask }), sizes, mean, mask);
  });

  it("the last queries behind a cache get the bias that they have in the whole text", async () => {
    const mean = meansOf();
    const whole = await biasOf({ batch: 1, length: 24, past: 0, positions: 64 }, mean);
    for (const past of [1, 11, 23]) {
      const length = 24 - past;
      const rest = await biasOf({ batch: 1, length, past, positions: 64 }, mean);
      for (let h = 0; h < HEADS; h++) {
        const tail = whole.data.slice((h * 24 + past) * 24, (h + 1) * 24 * 24);
        expect(rest.data.slice(h * length * 24, (h + 1) * length * 24)).toEqual(tail);
      }
    }
  });
});
