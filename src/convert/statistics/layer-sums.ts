// Sums what a layer computes over windows of text.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { makeNotFiniteError } from "../../errors.ts";
import { countElements } from "../../formats/dtype.ts";
import type { Graph, Value } from "../../graph/ir.ts";
import { makeFloat32Tensor, type Tensor, type Tensors } from "../../graph/session.ts";
import { type Hidden, type LayerSessionOptions, openLayerSession } from "../../inference/layerwise.ts";
import type { AttentionContext, AttentionOutput } from "../../model/attention.ts";
import type { BlockOutput } from "../../model/gpt2.ts";
import { addInto } from "../../numeric/linalg.ts";

export interface LayerSumOptions<K extends string, Attention>
  extends Omit<LayerSessionOptions<Attention>, "outputs" | "given"> {
  /** What is summed, by name. It may name further outputs of the graph. */
  values: (graph: Graph, block: BlockOutput<Attention>, context: AttentionContext) => Record<K, Value>;
  /** Inputs that `values` has declared, of a window. */
  inputs?: ((window: number) => Tensors) | undefined;
  /** Where further outputs of a window are written to. */
  into?: ((window: number) => Tensors) | undefined;
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
  { values, inputs, into, ...options }: LayerSumOptions<K, Attention>,
): Promise<LayerSums<K>> {
  const tensors: Record<string, Tensor> = {}; // of one window
  const session = await openLayerSession<Attention>(checkpoint, layer, {
    ...options,
    given: true,
    outputs: (graph, ...block) => {
      const summed = values(graph, ...block);
      for (const [name, value] of Object.entries<Value>(summed)) {
        graph.output(value, name);
        const shape = value.shape as number[];
        tensors[name] = makeFloat32Tensor(new Float32Array(countElements(shape)), shape);
      }
    },
  });
  const sums: Partial<Record<string, Float64Array>> = {};
  let positions = 0;
  try {
    for (const [window, hidden] of stream.entries()) {
      await session.runInto(hidden, { ...tensors, ...into?.(window) }, inputs?.(window));
      for (const [name, { data }] of Object.entries(tensors)) {
        sums[name] ??= new Float64Array(data.length);
        addInto(sums[name], data as Float32Array);
      }
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
  throw makeNotFiniteError(`${source}: ${where}: what it computes is not finite`);
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
