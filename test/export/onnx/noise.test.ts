// Noise drawn inside the exported graph: repeatable by seed, fresh at every run, and gone when σ is.
import { describe, expect, it } from "vitest";
import { Session } from "../../../src/graph/session.ts";
import { makePromptFeeds } from "../../../src/inference/generate/decoder-feeds.ts";
import type { Variant } from "../../../src/model/variants.ts";
import { decoded, exported, onnxLogits, ownLogits, PROMPTS } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { converted, MODEL, opened, TEXT } from "../../support/fixture.ts";
import { worstOf } from "../../support/golden-models.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("export-noise");
const NOISY = ["noise-shared", "noise-per-head", "noise-distance"] as const;
let count = 0;

/** A model whose σ is `noiseStd`, exported with a seed; logits of the first run. */
async function sampled(variant: (typeof NOISY)[number], seed: number, noiseStd = 1) {
  const model = path(`model-${count}`);
  const folder = path(`onnx-${count++}`);
  const text = variant === "noise-distance" ? { calibration: [TEXT], calibrationTokens: 128 } : {};
  await converted({ output: model, variant, noiseStd, ...text });
  const { onnx } = await exported(model, folder, { noise: { kind: "generated", seed } });
  return { model, folder, onnx, logits: await onnxLogits(folder, PROMPTS, model) };
}

describe.each(NOISY)("a graph of %s that draws noise", (variant) => {
  it("the first run follows from the seed", async () => {
    const [a, again, b] = [await sampled(variant, 7), await sampled(variant, 7), await sampled(variant, 8)];
    expect(again.logits).toEqual(a.logits);
    expect(worstOf(b.logits, a.logits)).toBeGreaterThan(1e-3);
    expect(worstOf(a.logits, await ownLogits(a.model))).toBeGreaterThan(1e-3);
    expect(a.onnx[0]?.verification).toBeNull();
  });

  it("every run of a session draws fresh noise", async () => {
    const { folder, model } = await sampled(variant, 7);
    const config = await opened(model, (checkpoint) => checkpoint.config);
    const session = await Session.fromFile(`${folder}/onnx/model.onnx`, { threads: 1 });
    const feeds = makePromptFeeds(PROMPTS, config);
    const first = Float32Array.from((await session.run(feeds)).logits?.data as Float32Array);
    const second = Float32Array.from((await session.run(feeds)).logits?.data as Float32Array);
    await session.close();
    expect(worstOf(first, second)).toBeGreaterThan(1e-3);
  });

  it("a graph with σ near 0 gives the logits of the mean", async () => {
    const { model, logits } = await sampled(variant, 7, 1e-9);
    expect(worstOf(logits, await ownLogits(model))).toBeLessThan(1e-4);
  });

  it("the graph needs σ, and one draw per head or one for all heads", async () => {
    const { folder } = await sampled(variant, 7);
    const { graph } = decoded(folder);
    const noise = graph.initializer.map(({ name }) => name as string).filter((name) => name.includes("noise_"));
    const perLayer = variant === "noise-distance" ? ["noise_log_std", "noise_mean"] : ["noise_log_std"];
    expect(noise.sort()).toEqual([0, 1].flatMap((layer) => perLayer.map((name) => `h.${layer}.attn.${name}`)));
    const draws = graph.node.filter(({ opType }) => opType === "RandomNormalLike");
    const seeds = draws.map(({ attribute }) => attribute?.find(({ name }) => name === "seed")?.f);
    expect(seeds).toEqual([7, 8]);
  });
});

it("noise moves no token that sees only itself, and moves one that sees two", async () => {
  for (const variant of ["noise-shared", "noise-per-head"] as const) {
    const { model, folder } = await sampled(variant, 3);
    const [drawn, own] = [await onnxLogits(folder, [[5, 6]], model), await ownLogits(model, [[5, 6]])];
    expect(worstOf(drawn.slice(0, 384), own.slice(0, 384))).toBeLessThan(1e-4);
    expect(worstOf(drawn.slice(384), own.slice(384))).toBeGreaterThan(1e-4);
  }
});

it.each(["dense", "symmetric"] satisfies Variant[])("a %s model has no noise to sample", async (variant) => {
  const model = variant === "dense" ? MODEL : path("symmetric");
  if (variant === "symmetric") await converted({ output: model });
  const noise = { kind: "generated", seed: 1 } as const;
  const error = await failureOf(() => exported(model, path("refused"), { noise }));
  expect(error.code).toBe("usage");
  expect(error.message).toBe(`${model}: a ${variant} model has no noise to sample`);
  expect(error.hint).toBe("leave out --noise sample");
});
