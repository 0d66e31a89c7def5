// The forward pass one layer at a time: equal to the reference's numbers and to itself in other batches and dtypes.
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/checkpoint/checkpoint.ts";
import { computeLogits, embedWindows, openLayerSession } from "../../src/inference/layerwise.ts";
import { bytesOf, MODEL, opened } from "../support/fixture.ts";
import { GOLDEN_NAMES, goldenModel, worstOf } from "../support/golden-models.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("layerwise");
const A = Int32Array.of(5, 1, 383, 0, 77, 12, 12, 200);
const B = Int32Array.of(9, 300, 2, 2, 41, 0, 355, 8);
const logitsOf = (model: string, windows: readonly Int32Array[]) =>
  opened(model, (checkpoint) => computeLogits(checkpoint, windows, { threads: 1 }));

describe("layerwiseLogits", () => {
  it.each(GOLDEN_NAMES)("layerwise logits of %s are the reference implementation's", async (name) => {
    const { folder, ids, logits } = await goldenModel(name, path(name));
    expect(worstOf(await logitsOf(folder, ids), logits)).toBeLessThan(1e-5);
  });

  it("layerwise logits of a batch are those of its windows", async () => {
    const [together, a, b] = [await logitsOf(MODEL, [A, B]), await logitsOf(MODEL, [A]), await logitsOf(MODEL, [B])];
    expect(worstOf(together, Float32Array.of(...a, ...b))).toBeLessThan(1e-5);
  });

  it("layerwise logits of a text do not depend on the tokens after it", async () => {
    const [whole, start] = [await logitsOf(MODEL, [A]), await logitsOf(MODEL, [A.slice(0, 5)])];
    expect(worstOf(whole.slice(0, start.length), start)).toBeLessThan(1e-5);
  });

  it("layerwise logits of half floats are those of the same values in float32", async () => {
    const windows = [Int32Array.of(1, 2, 10, 0, 7)];
    const half = await writeCheckpoint(path("half"), { dtype: "F16" });
    const { config, tensors } = await opened(half, async (checkpoint) => ({
      config: checkpoint.rawConfig,
      tensors: await Promise.all(
        [...checkpoint.tensors.values()].map(async ({ name, shape }) => {
          const values = await checkpoint.readF32(name);
          return {
            name,
            dtype: "F32",
            shape,
            bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
          };
        }),
      ),
    }));
    const single = await writeCheckpoint(path("single"), { config, tensors });
    expect(await logitsOf(half, windows)).toEqual(await logitsOf(single, windows));
  });

  it("layerwise logits of a model with its own head use the head's matrix", async () => {
    const [own, tied] = await Promise.all(
      (["own", "none"] as const).map(async (head) =>
        logitsOf(await writeCheckpoint(path(`head-${head}`), { head }), [Int32Array.of(3, 4)]),
      ),
    );
    expect(worstOf(own as Float32Array, tied as Float32Array)).toBeGreaterThan(0.1);
  });

  it("layerwise logits of a model without biases are finite and differ from those with biases", async () => {
    const window = [Int32Array.of(3, 4, 5)];
    const [bare, biased] = await Promise.all(
      [false, true].map(async (bias) => logitsOf(await writeCheckpoint(path(`bias-${bias}`), { bias }), window)),
    );
    expect(bare?.every(Number.isFinite)).toBe(true);
    expect(worstOf(bare as Float32Array, biased as Float32Array)).toBeGreaterThan(0.1);
  });
});

describe("embedWindows", () => {
  it("an embedded token is the sum of the token's row and the position's row", async () => {
    await opened(MODEL, async (checkpoint) => {
      const { x, batch, length } = await embedWindows(checkpoint, [A, B]);
      expect([batch, length]).toEqual([2, 8]);
      const C = checkpoint.config.n_embd;
      const [wte, wpe] = [await checkpoint.readF32("wte.weight"), await checkpoint.readF32("wpe.weight")];
      const expected = [...A, ...B].flatMap((id, i) =>
        Array.from({ length: C }, (_, c) =>
          Math.fround((wte[id * C + c] as number) + (wpe[(i % 8) * C + c] as number)),
        ),
      );
      expect(Array.from(x)).toEqual(expected);
    });
  });

  it("embedding reads rows that lie across pieces of the stream", async () => {
    const checkpoint = await openCheckpoint(MODEL);
    const wte = await bytesOf(checkpoint, "wte.weight");
    const pieces = {
      ...checkpoint,
      async *chunks(name: string) {
        if (name !== "wte.weight") yield* checkpoint.chunks(name);
        else for (let at = 0; at < wte.length; at += 1001) yield wte.subarray(at, at + 1001);
      },
    };
    expect(await embedWindows(pieces, [A])).toEqual(await embedWindows(checkpoint, [A]));
    await checkpoint.close();
  });

  it("embedding fails on a tensor that ends early", async () => {
    await opened(MODEL, async (checkpoint) => {
      const short = {
        ...checkpoint,
        async *chunks() {
          yield new Uint8Array(256);
        },
      };
      await expect(embedWindows(short, [A])).rejects.toThrow("stream ended early");
    });
  });
});

describe("LayerSession", () => {
  it("a layer session reads only the weights that its outputs need", async () => {
    await opened(MODEL, async (checkpoint) => {
      const read: string[] = [];
      const readF32 = (name: string) => {
        read.push(name);
        return checkpoint.readF32(name);
      };
      const watched = { ...checkpoint, readF32 };
      const session = await openLayerSession(watched, 1, {
        threads: 1,
        outputs: (graph, { normed }) => graph.output(normed, "normed"),
      });
      const { normed } = await session.run(await embedWindows(checkpoint, [A]));
      expect(normed?.shape).toEqual([8, 64]);
      expect(read.sort()).toEqual(["h.1.ln_1.bias", "h.1.ln_1.weight"]);
      await session.close();
    });
  });

  it("attention in a layer looks back only, and its probabilities sum to 1", async () => {
    await opened(MODEL, async (checkpoint) => {
      const session = await openLayerSession(checkpoint, 0, {
        threads: 1,
        outputs: (graph, { attention }) => graph.output(attention.probabilities, "p"),
      });
      const { p } = await session.run(await embedWindows(checkpoint, [A]));
      expect(p?.shape).toEqual([1, 4, 8, 8]);
      const values = p?.data as Float32Array;
      for (let row = 0; row < 4 * 8; row++) {
        const weights = values.subarray(row * 8, row * 8 + 8);
        expect(weights.reduce((a, b) => a + b)).toBeCloseTo(1, 5);
        expect(weights.subarray((row % 8) + 1).every((weight) => weight === 0)).toBe(true);
      }
      await session.close();
    });
  });
});
