// The loop of a run refuses saved states that the run cannot have been in, before it takes a step.
import { describe, expect, it } from "vitest";
import type { RunFolder, RunState } from "../../src/distill/run-folder.ts";
import { keepScale } from "../../src/distill/step/loss-scale.ts";
import type { Optimizer } from "../../src/distill/step/optimizer.ts";
import { ParameterStore } from "../../src/distill/step/parameter-store.ts";
import { Divergence, type Objective, TrainingLoop } from "../../src/distill/training-loop.ts";
import { failureOf } from "../support/failure.ts";
import { RUN_STATE as STATE } from "../support/run-state.ts";

const OBJECTIVE: Objective<RunState> = {
  steps: 10,
  prepareStep: () => Promise.reject(new Error("a step was taken")),
  isEvaluated: () => false,
  evaluate: () => Promise.reject(new Error("an evaluation was begun")),
};

it.each<[string, Partial<RunState>]>([
  ["step 11 of a run of 10 steps", { step: 11 }],
  ["step 4, evaluated at step 5", { evaluated: 5 }],
  ["evaluated at step 2, best at step 4", { evaluated: 2 }],
])("a saved state is refused: %s", async (fact, changes) => {
  const folder = { path: "out.run" } as RunFolder;
  const options = { folder, store: new ParameterStore([]), saveEvery: 5 };
  const loop = new TrainingLoop<RunState>(OBJECTIVE, options, { ...STATE, ...changes }, 4);
  const { code, message, hint } = await failureOf(() => loop.finish());
  expect({ code, message }).toEqual({
    code: "invalid-file",
    message: `out.run: the saved state is impossible: ${fact}`,
  });
  expect(hint).toBe("the run cannot go on: remove out.run and start it again");
});

describe("a loss that is scaled", () => {
  /** Runs two steps whose gradients overflow above `limit`; gives each step that was tried with its scale, and the lines. */
  async function takeSteps(limit: number, finite = true, scaled = true) {
    const tried: string[] = [];
    const updates: unknown[] = [];
    const lines: object[] = [];
    const objective: Objective<RunState> = {
      steps: 2,
      async prepareStep(step, scale = 1) {
        tried.push(`${step} ${scale}`);
        const optimizer = {
          norm: async (by: number) => (scale > limit ? Number.POSITIVE_INFINITY : (3 * scale) / by),
          update: async (index: number, norm: number, by: number) => {
            updates.push([index, norm, by]);
            return 0.1;
          },
        } as unknown as Optimizer;
        const check = (norm: number) => {
          if (!finite || !Number.isFinite(norm)) throw new Divergence(step + 1, `norm ${norm}`);
        };
        return { optimizer, index: step, finite, check, report: () => ({ entry: { step: step + 1 }, changes: {} }) };
      },
      isEvaluated: () => false,
      evaluate: async ({ step }) => ({ entry: {}, changes: { best: { step, perplexity: 1 } } }),
    };
    const append = async (entry: object) => lines.push(entry);
    const saved: RunState[] = [];
    const save = async (_: unknown, state: RunState) => saved.push(state);
    const folder = { path: "out.run", append, save, saveBest: async () => {}, loadBest: async () => {} };
    const options = { folder: folder as unknown as RunFolder, store: new ParameterStore([]), saveEvery: 5 };
    const state = {
      ...STATE,
      step: 0,
      evaluated: 0,
      best: null,
      ...(scaled && { lossScale: { factor: 4096, steps: 7 } }),
    };
    const loop = new TrainingLoop<RunState>(objective, options, state, null);
    const end = loop.finish();
    return { end, tried, updates, lines, saved };
  }

  it("is halved until the gradients are finite, for the same step, and stays so", async () => {
    const { end, tried, updates, lines, saved } = await takeSteps(1024);
    await end;
    expect(tried).toEqual(["0 4096", "0 2048", "0 1024", "1 1024"]);
    expect(updates).toEqual([
      [0, 3, 1024],
      [1, 3, 1024],
    ]);
    expect(lines.slice(0, 2)).toEqual([
      { step: 1, loss_scale: 1024 },
      { step: 2, loss_scale: 1024 },
    ]);
    expect(saved.at(-1)?.lossScale).toEqual({ factor: 1024, steps: 2 });
  });

  it("ends the run where gradients overflow with no scale at all", async () => {
    const { end, tried } = await takeSteps(0);
    const { code, message } = await failureOf(() => end);
    expect([code, message]).toEqual([
      "diverged",
      expect.stringContaining("step 1: the run has diverged (norm Infinity)"),
    ]);
    expect(tried).toHaveLength(13); // 2¹² to 1
  });

  it("ends the run at once where it is not finite itself", async () => {
    const { end, tried } = await takeSteps(0, false);
    expect((await failureOf(() => end)).code).toBe("diverged");
    expect(tried).toEqual(["0 4096"]);
  });

  it("is none in float32: a gradient that overflows ends the run", async () => {
    const { end, tried, lines } = await takeSteps(0, true, false);
    expect((await failureOf(() => end)).code).toBe("diverged");
    expect(tried).toEqual(["0 1"]);
    expect(lines).toEqual([]);
  });

  it("rises after 1000 steps without an overflow, up to 2^16", () => {
    let scale = { factor: 4096, steps: 0 };
    for (let step = 0; step < 999; step++) scale = keepScale(scale);
    expect(scale).toEqual({ factor: 4096, steps: 999 });
    for (let step = 0; step < 10_000; step++) scale = keepScale(scale);
    expect(scale.factor).toBe(2 ** 16);
  });
});
