// Two greedy decoders: one as a runtime does it, on an exported file with its cache; one on our forward pass alone.

import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { Decoder } from "../../src/inference/generate/decoder.ts";
import { argmax } from "../../src/inference/generate/sampling.ts";
import { computeLogits } from "../../src/inference/layerwise.ts";

/** Continues each prompt by `steps` tokens: [B][steps]. All rows go on, past an end token too. */
export async function greedyOnnx(
  path: string,
  checkpoint: Checkpoint,
  prompts: readonly (readonly number[])[],
  steps: number,
): Promise<number[][]> {
  const decoder = await Decoder.ofFile(
    { precision: "fp32", path, data: [], bytes: 0, cacheDtype: "float32", logitsDtype: "float32", halfFloats: false },
    checkpoint.config,
    { threads: 1 },
  );
  const chosen = await greedy(decoder, prompts, steps);
  await decoder.close();
  return chosen;
}

/** The same with an open decoder. */
export async function greedy(
  decoder: Decoder,
  prompts: readonly (readonly number[])[],
  steps: number,
): Promise<number[][]> {
  const chosen: number[][] = prompts.map(() => []);
  let logits = await decoder.prompt(prompts);
  for (let step = 1; ; step++) {
    const next = logits.map(argmax);
    for (const [row, id] of next.entries()) chosen[row]?.push(id);
    if (step === steps) return chosen;
    logits = await decoder.step(next);
  }
}

/** The same without cache, batch or exported file: the whole text anew for every token. */
export async function greedyOwn(checkpoint: Checkpoint, prompt: readonly number[], steps: number): Promise<number[]> {
  const V = checkpoint.config.vocab_size;
  const ids = [...prompt];
  for (let step = 0; step < steps; step++) {
    const logits = await computeLogits(checkpoint, [Int32Array.from(ids)], { threads: 1 });
    ids.push(argmax(logits.subarray((ids.length - 1) * V)));
  }
  return ids.slice(prompt.length);
}
