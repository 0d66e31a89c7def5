// The loop of a run refuses saved states that the run cannot have been in, before it takes a step.
import { expect, it } from "vitest";
import type { RunFolder, RunState } from "../../src/distill/run-folder.ts";
import { ParameterStore } from "../../src/distill/step/parameter-store.ts";
import { type Objective, TrainingLoop } from "../../src/distill/training-loop.ts";
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
