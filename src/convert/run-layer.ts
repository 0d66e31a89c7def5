// Runs windows of text through one layer of a model.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { type Hidden, openLayerSession } from "../inference/layerwise.ts";

/**
 * The stream after a layer, or in its middle, for each of several streams before it: a list of windows each, [T, C] a
 * window. @param weights in place of the checkpoint's own, by name
 */
export async function runLayer(
  checkpoint: Checkpoint,
  layer: number,
  streams: readonly (readonly Hidden[])[],
  threads?: number | undefined,
  point: "middle" | "output" = "output",
  weights?: ReadonlyMap<string, Float32Array>,
): Promise<Hidden[][]> {
  const session = await openLayerSession(checkpoint, layer, {
    threads,
    ...(weights && { weights }),
    outputs: (graph, block) => graph.output(block[point], "output"),
  });
  try {
    const results: Hidden[][] = [];
    for (const stream of streams) {
      const after: Hidden[] = [];
      for (const hidden of stream) {
        const { output } = await session.run(hidden);
        after.push({ ...hidden, x: Float32Array.from(output?.data as Float32Array) });
      }
      results.push(after);
    }
    return results;
  } finally {
    await session.close();
  }
}
