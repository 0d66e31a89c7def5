// Makes a classifier of a language model: the same weights, and a new score.weight.

import { type Checkpoint, makeMemoryCheckpoint } from "../../checkpoint/checkpoint.ts";
import { NoiseBuffers } from "../../distill/step/noise.ts";
import { NfcError } from "../../errors.ts";
import { hasSameLabels } from "../../model/classifier.ts";
import { SCORE } from "../../model/parameters.ts";

/** GPT-2's initializer_range: the standard deviation of a new head in Hugging Face's transformers. */
const STD = 0.02;

/**
 * The checkpoint itself where it classifies with these labels already; else with a head N(0, 0.02²), in memory.
 * @throws NfcError "mismatch" for a classifier of other labels
 */
export function addHead(checkpoint: Checkpoint, labels: readonly string[], seed: number): Checkpoint {
  const own = checkpoint.config.labels;
  if (own) {
    if (hasSameLabels(own, labels)) return checkpoint;
    throw new NfcError(
      "mismatch",
      `${checkpoint.source}: classifies as ${own.join(", ")}, not as ${labels.join(", ")}`,
      {
        hint: "start from the language model that it was made from",
      },
    );
  }
  const draws = new NoiseBuffers([labels.length * checkpoint.config.n_embd], seed);
  draws.draw(0);
  const values = Float32Array.from(draws.arrays[0] as Float32Array, (value) => STD * value);
  const base = { ...checkpoint, config: { ...checkpoint.config, labels } };
  return makeMemoryCheckpoint(base, new Map([[SCORE, () => values.slice()]]));
}
