// Settings of config.json that change the mathematics, against Hugging Face's GPT2LMHeadModel on seeded weights.
import { describe, expect, test } from "vitest";
import { computeLogits } from "../../src/inference/layerwise.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { opened } from "../support/fixture.ts";
import { encode, type RawTensor, tinyHfConfig, tinyModelConfig, writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("traps");
const SIZES = { layers: 2, heads: 4, width: 64, positions: 64, vocab: 384 };
const IDS = Int32Array.from({ length: 20 }, (_, i) => (7 * i + 3) % 384);

/** transformers 5.18, float32, eager attention: logits 0, 100, 200, 383 of the last position; mean of all |logits|. */
const REFERENCE: [Record<string, unknown>, number[], number][] = [
  [{}, [1.41112, -0.24582, 0.22172, -1.01134], 0.645954],
  [{ activation_function: "gelu" }, [1.41103, -0.24593, 0.22191, -1.01143], 0.645959],
  [{ activation_function: "relu" }, [1.26159, -0.24718, 0.49584, -1.39877], 0.654703],
  [{ activation_function: "silu" }, [1.42918, -0.29938, 0.06173, -0.77404], 0.644452],
  [{ activation_function: "tanh" }, [1.56476, -0.66817, -0.2688, 0.18673], 0.645001],
  [{ scale_attn_weights: false }, [1.56859, 0.63365, 0.29806, -1.48136], 0.641933],
  [{ scale_attn_by_inverse_layer_idx: true }, [1.35884, -0.24451, 0.21635, -1.05501], 0.645401],
  [{ layer_norm_epsilon: 0.05 }, [1.11897, -0.47091, -0.27481, -0.48603], 0.632589],
];

/** Mulberry32 */
function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The weights that the reference was computed with: N(0, 0.1²) by Box and Muller, around 1 in the norms. */
function tensors(): RawTensor[] {
  const next = uniform(20260111);
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  return listParameters(tinyModelConfig(SIZES)).map(({ name, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const base = /ln_\w+\.weight$/.test(name) ? 1 : 0;
    const values = Float32Array.from({ length: size }, () => base + 0.1 * normal());
    return { name, dtype: "F32", shape: [...shape], bytes: encode(values, "F32") };
  });
}

describe("settings of config.json in the forward pass", () => {
  test.each(REFERENCE)("the forward pass honors %j", async (settings, last, mean) => {
    const folder = path(Object.keys(settings)[0] ?? "plain", String(Object.values(settings)[0]));
    await writeCheckpoint(folder, { tensors: tensors(), config: { ...tinyHfConfig(SIZES), ...settings } });
    const logits = await opened(folder, (checkpoint) => computeLogits(checkpoint, [IDS]));
    const row = logits.subarray((IDS.length - 1) * 384);
    for (const [i, id] of [0, 100, 200, 383].entries()) expect(row[id]).toBeCloseTo(last[i] as number, 4);
    expect(logits.reduce((sum, value) => sum + Math.abs(value), 0) / logits.length).toBeCloseTo(mean, 5);
  });
});
