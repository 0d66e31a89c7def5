// Moves streams of hidden states through one layer of a model.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { SessionOptions } from "../../graph/session.ts";
import { type Hidden, openLayerSession } from "../../inference/layerwise.ts";

export interface StreamOptions extends Pick<SessionOptions, "device" | "threads"> {
  signal?: AbortSignal | undefined;
  /** Where the streams come out: after the layer unless given, or in its middle, after the attention. */
  point?: "middle" | "output" | undefined;
  /** In place of the checkpoint's own, by name. */
  weights?: ReadonlyMap<string, Float32Array> | undefined;
}

/**
 * @param streams before the layer: a list of windows each, [T, C] a window
 * @returns the same after it
 * @throws NfcError "aborted"
 */
export async function moveStreams(
  checkpoint: Checkpoint,
  layer: number,
  streams: readonly (readonly Hidden[])[],
  { point = "output", ...options }: StreamOptions = {},
): Promise<Hidden[][]> {
  const session = await openLayerSession(checkpoint, layer, {
    ...options,
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
