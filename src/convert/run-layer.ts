// Runs windows of text through one layer of a model.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { type Hidden, openLayerSession } from "../inference/layerwise.ts";

/** The stream after a layer, for each of several streams before it: a list of windows each, [T, C] a window. */
export async function runLayer(
  checkpoint: Checkpoint,
  layer: number,
  streams: readonly (readonly Hidden[])[],
  threads?: number | undefined,
): Promise<Hidden[][]> {
  const session = await openLayerSession(checkpoint, layer, {
    threads,
    outputs: (graph, { output }) => graph.output(output, "output"),
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
