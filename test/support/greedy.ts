// Two greedy decoders: one as a runtime does it, on an exported file with its cache; one on our forward pass alone.
import { Session } from "../../src/graph/session.ts";
import { cacheOf, promptFeeds, stepFeeds } from "../../src/inference/decoding.ts";
import type { Checkpoint } from "../../src/model/checkpoint.ts";
import { layerwiseLogits } from "../../src/model/layerwise.ts";

function argmax(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > (values[best] as number) ? i : best), 0);
}

/** Continues each prompt by `steps` tokens: [B][steps]. All rows go on, past an end token too. */
export async function greedyOnnx(
  path: string,
  checkpoint: Checkpoint,
  prompts: readonly (readonly number[])[],
  steps: number,
): Promise<number[][]> {
  const session = await Session.fromFile(path, { threads: 1 });
  const V = checkpoint.config.vocab_size;
  const chosen: number[][] = prompts.map(() => []);
  let feeds = promptFeeds(prompts, checkpoint.config);
  for (let step = 0; step < steps; step++) {
    const output = await session.run(feeds);
    const logits = output.logits?.data as Float32Array; // [B, T, V]
    const length = output.logits?.shape[1] as number;
    const next = prompts.map((_, row) => argmax(logits.subarray(((row + 1) * length - 1) * V, (row + 1) * length * V)));
    for (const [row, id] of next.entries()) chosen[row]?.push(id);
    feeds = stepFeeds(
      feeds,
      next.map((id) => [id]),
      cacheOf(output),
    );
  }
  await session.close();
  return chosen;
}

/** The same without cache, batch or exported file: the whole text anew for every token. */
export async function greedyOwn(checkpoint: Checkpoint, prompt: readonly number[], steps: number): Promise<number[]> {
  const V = checkpoint.config.vocab_size;
  const ids = [...prompt];
  for (let step = 0; step < steps; step++) {
    const logits = await layerwiseLogits(checkpoint, [Int32Array.from(ids)], { threads: 1 });
    ids.push(argmax(logits.subarray((ids.length - 1) * V)));
  }
  return ids.slice(prompt.length);
}
