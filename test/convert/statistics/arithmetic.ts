// What the statistics of a layer are held against: its inputs, projections and attention in float64, row by row.
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { embedWindows, openLayerSession } from "../../../src/inference/layerwise.ts";
import { uniform } from "../../numeric/matrices.ts";

/** Tokens of a window. */
export const LENGTH = 40;

/** Windows of ids below `vocabulary`. */
export function windowsOf(vocabulary: number, count = 3, length = LENGTH): Int32Array[] {
  const random = uniform(4);
  return Array.from({ length: count }, () =>
    Int32Array.from({ length }, () => Math.floor(((random() + 1) / 2) * vocabulary)),
  );
}

/** Layer norm of each row of x [N, C], in float64. */
export async function normed(checkpoint: Checkpoint, name: string, x: Float32Array): Promise<number[][]> {
  const { n_embd: C, layer_norm_epsilon: epsilon, bias } = checkpoint.config;
  const weight = await checkpoint.readF32(`${name}.weight`);
  const shift = bias ? await checkpoint.readF32(`${name}.bias`) : new Float32Array(C);
  return Array.from({ length: x.length / C }, (_, row) => {
    const values = [...x.subarray(row * C, (row + 1) * C)];
    const mean = values.reduce((sum, value) => sum + value, 0) / C;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / C;
    return values.map(
      (value, c) => ((value - mean) / Math.sqrt(variance + epsilon)) * (weight[c] as number) + (shift[c] as number),
    );
  });
}

/** What enters a layer [N, C], from the windows all at once. */
export async function statesBefore(
  checkpoint: Checkpoint,
  windows: Int32Array[],
  layer: number,
): Promise<Float32Array> {
  let hidden = await embedWindows(checkpoint, windows);
  for (let at = 0; at < layer; at++) {
    const session = await openLayerSession(checkpoint, at, {
      outputs: (graph, { output }) => graph.output(output, "output"),
    });
    hidden = { ...hidden, x: Float32Array.from((await session.run(hidden)).output?.data as Float32Array) };
    await session.close();
  }
  return hidden.x;
}

/** E[x̃ x̃ᵀ], row by row. */
export function secondMoments(rows: number[][], constant: boolean): number[][] {
  const inputs = constant ? rows.map((row) => [...row, 1]) : rows;
  const size = inputs[0]?.length ?? 0;
  return Array.from({ length: size }, (_, i) =>
    Array.from(
      { length: size },
      (_, j) => inputs.reduce((sum, row) => sum + (row[i] as number) * (row[j] as number), 0) / inputs.length,
    ),
  );
}

/** x W + b for the columns of one head: [N, D] */
export function project(rows: number[][], weight: Float32Array, bias: Float32Array | null, head: number, D: number) {
  const C = rows[0]?.length ?? 0;
  return rows.map((row) =>
    Array.from({ length: D }, (_, d) => {
      const column = head * D + d;
      return row.reduce((sum, value, c) => sum + value * (weight[c * C + column] as number), bias?.[column] ?? 0);
    }),
  );
}

export function dot(a: number[], b: number[]): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
}

export function softmax(scores: number[]): number[] {
  const top = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - top));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

/** p_ij of each row i over the keys j ≤ i of its window, which are the last of them: [N][1 … LENGTH] */
export function attend(query: number[][], key: number[][], factor: number): number[][] {
  return query.map((q, i) => softmax(key.slice(i - (i % LENGTH), i + 1).map((k) => dot(q, k) * factor)));
}

/** z̄_i = Σ_j p_ij z_j: [N, D] */
export function mix(p: number[][], z: number[][]): number[][] {
  return p.map((row, i) => {
    const first = i - (i % LENGTH);
    return (z[i] as number[]).map((_, a) => row.reduce((sum, pij, j) => sum + pij * (z[first + j]?.[a] as number), 0));
  });
}

/** E_i Σ_j p_ij (z_j − z̄_i)(z_j − z̄_i)ᵀ: [D, D] */
export function measureSpread(p: number[][], z: number[][]): number[] {
  const D = z[0]?.length ?? 0;
  const spread = Array<number>(D * D).fill(0);
  for (const [i, mean] of mix(p, z).entries())
    for (const [j, pij] of (p[i] as number[]).entries()) {
      const away = mean.map((value, a) => (z[i - (i % LENGTH) + j]?.[a] as number) - value);
      for (let a = 0; a < D; a++)
        for (let b = 0; b < D; b++)
          spread[a * D + b] =
            (spread[a * D + b] as number) + (pij * (away[a] as number) * (away[b] as number)) / p.length;
    }
  return spread;
}
