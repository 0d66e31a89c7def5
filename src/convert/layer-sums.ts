// Sums what a layer computes over windows of text.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { NfcError } from "../errors.ts";
import type { Graph, Value } from "../graph/ir.ts";
import type { Tensor, Tensors } from "../graph/session.ts";
import { type Hidden, type LayerSessionOptions, openLayerSession } from "../inference/layerwise.ts";
import type { AttentionContext, AttentionOutput } from "../model/attention.ts";
import type { BlockOutput } from "../model/gpt2.ts";
import { addInto } from "../numeric/linalg.ts";

export interface LayerSumOptions<K extends string, Attention> extends Omit<LayerSessionOptions<Attention>, "outputs"> {
  /** What is summed, by name. It may name further outputs of the graph. */
  values: (graph: Graph, block: BlockOutput<Attention>, context: AttentionContext) => Record<K, Value>;
  /** Inputs that `values` has declared, of a window. */
  inputs?: ((window: number) => Tensors) | undefined;
  /** Told of all outputs of each window. */
  onWindow?: ((outputs: Record<string, Tensor>, hidden: Hidden) => void) | undefined;
}

export interface LayerSums<K extends string> {
  sums: Record<K, Float64Array>;
  positions: number;
}

/** @param stream before the layer: [T, C] a window @throws NfcError "aborted" */
export async function sumOverWindows<K extends string, Attention extends { output: Value } = AttentionOutput>(
  checkpoint: Checkpoint,
  layer: number,
  stream: readonly Hidden[],
  { values, inputs, onWindow, ...options }: LayerSumOptions<K, Attention>,
): Promise<LayerSums<K>> {
  let names: K[] = [];
  const session = await openLayerSession<Attention>(checkpoint, layer, {
    ...options,
    outputs: (graph, ...block) => {
      const summed = values(graph, ...block);
      names = Object.keys(summed) as K[];
      for (const name of names) graph.output(summed[name], name);
    },
  });
  const sums: Partial<Record<K, Float64Array>> = {};
  let positions = 0;
  try {
    for (const [window, hidden] of stream.entries()) {
      const outputs = await session.run(hidden, {}, inputs?.(window));
      for (const name of names) {
        const data = outputs[name]?.data as Float32Array;
        sums[name] ??= new Float64Array(data.length);
        addInto(sums[name], data);
      }
      onWindow?.(outputs, hidden);
      positions += hidden.length;
    }
  } finally {
    await session.close();
  }
  return { sums: sums as Record<K, Float64Array>, positions };
}

/** @throws NfcError "invalid-file" where a sum is not finite */
export function requireFinite(
  sums: Readonly<Record<string, Float64Array>>,
  { source }: Checkpoint,
  where: string,
): void {
  if (Object.values(sums).every((values) => values.every(Number.isFinite))) return;
  throw new NfcError("invalid-file", `${source}: ${where}: what it computes is not finite`, {
    hint: "the checkpoint is damaged",
  });
}

/** Σ ãᵀã with ã = [a, 1] from Σ aᵀa [n, n] and Σ a [n]: [n + 1, n + 1] */
export function borderGram(gram: Float64Array, sum: Float64Array, count: number): Float64Array {
  const n = sum.length;
  const bordered = new Float64Array((n + 1) ** 2);
  for (let i = 0; i < n; i++) {
    bordered.set(gram.subarray(i * n, (i + 1) * n), i * (n + 1));
    bordered[i * (n + 1) + n] = bordered[n * (n + 1) + i] = sum[i] as number;
  }
  bordered[bordered.length - 1] = count;
  return bordered;
}
