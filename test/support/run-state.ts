// The state of a run on text after four steps, for tests that save it or spoil it.
import type { RunState } from "../../src/distill/run-folder.ts";

export const RUN_STATE: RunState = {
  step: 4,
  tokens: 640,
  metricsBytes: 0,
  best: { step: 4, perplexity: 12.5 },
  evaluated: 4,
  before: 99,
  teacher: null,
};
