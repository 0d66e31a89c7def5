// Input statistics, distance means and hidden states of the fixture against arithmetic written out here.
import { beforeAll, describe, expect, test } from "vitest";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { type InputMoments, type LayerTie, tieLayer } from "../../../src/convert/attention/tie.ts";
import { readProjections } from "../../../src/convert/attention/tied-attention.ts";
import { Calibration } from "../../../src/convert/statistics/calibration.ts";
import { moveStreams } from "../../../src/convert/statistics/layer-stream.ts";
import { computeLogits, embedWindows, openLayerSession } from "../../../src/inference/layerwise.ts";
import { computeScoreScale, makeBucketTable } from "../../../src/model/attention.ts";
import { uniform } from "../../numeric/matrices.ts";
import { MODEL, opened } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("calibration");
const LENGTH = 40;

/** Windows of ids below `vocabulary`. */
function windowsOf(vocabulary: number, count = 3, length = LENGTH): Int32Array[] {
  const random = uniform(4);
  return Array.from({ length: count }, () =>
    Int32Array.from({ length }, () => Math.floor(((random() + 1) / 2) * vocabulary)),
  );
}

/** Layer norm of each row of x [N, C], in float64. */
async function normed(checkpoint: Checkpoint, name: string, x: Float32Array): Promise<number[][]> {
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
async function statesBefore(checkpoint: Checkpoint, windows: Int32Array[], layer: number): Promise<Float32Array> {
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
function secondMoments(rows: number[][], constant: boolean): number[][] {
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
function project(rows: number[][], weight: Float32Array, bias: Float32Array | null, head: number, D: number) {
  const C = rows[0]?.length ?? 0;
  return rows.map((row) =>
    Array.from({ length: D }, (_, d) => {
      const column = head * D + d;
      return row.reduce((sum, value, c) => sum + value * (weight[c * C + column] as number), bias?.[column] ?? 0);
    }),
  );
}

function dot(a: number[], b: number[]): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
}

function softmax(scores: number[]): number[] {
  const top = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - top));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

describe("input statistics", () => {
  /** E[zᵀz] of each head's z = [q, k, 1], and the mean diagonal of E[x̃ᵀx̃], of normalized inputs in rows. */
  async function expectMoments(checkpoint: Checkpoint, layer: number, rows: number[][], inputs: InputMoments) {
    const { n_embd: C, n_head, bias } = checkpoint.config;
    const { qWeight, kWeight, qBias, kBias } = await readProjections(checkpoint, layer);
    const size = (2 * C) / n_head + (bias ? 1 : 0);
    expect(inputs.heads.length).toBe(n_head);
    for (const [head, moments] of inputs.heads.entries()) {
      const query = project(rows, qWeight, qBias, head, C / n_head);
      const key = project(rows, kWeight, kBias, head, C / n_head);
      const expected = secondMoments(
        query.map((q, i) => [...q, ...(key[i] as number[])]),
        bias,
      );
      expect(moments.length).toBe(size ** 2);
      for (const [at, value] of expected.flat().entries()) expect(moments[at]).toBeCloseTo(value, 4);
      if (bias) expect(moments[moments.length - 1]).toBe(1);
    }
    const sigma = secondMoments(rows, bias);
    expect(inputs.level).toBeCloseTo(sigma.reduce((sum, row, i) => sum + (row[i] as number), 0) / sigma.length, 4);
  }

  test("the statistics of a layer are E[zᵀz] of each head's [q, k], with the constant 1 last", async () => {
    await opened(MODEL, async (checkpoint) => {
      const { vocab_size, n_layer } = checkpoint.config;
      const windows = windowsOf(vocab_size);
      const run = await Calibration.open(checkpoint, windows, { threads: 1 });
      for (let layer = 0; layer < n_layer; layer++) {
        const { inputs } = await run.inputStatistics(layer);
        const x = await statesBefore(checkpoint, windows, layer);
        await expectMoments(checkpoint, layer, await normed(checkpoint, `h.${layer}.ln_1`, x), inputs);
        run.advance();
      }
    });
  });

  test("the statistics of a layer have no constant where the model has no biases", async () => {
    const folder = await writeCheckpoint(at("bare"), { bias: false });
    await opened(folder, async (checkpoint) => {
      const windows = windowsOf(11, 2, 7);
      const run = await Calibration.open(checkpoint, windows, { threads: 1 });
      const { inputs } = await run.inputStatistics(0);
      const rows = await normed(checkpoint, "h.0.ln_1", await statesBefore(checkpoint, windows, 0));
      await expectMoments(checkpoint, 0, rows, inputs);
    });
  });

  test("the statistics of a layer tell how each head's attention spreads over its queries and keys", async () => {
    await opened(MODEL, async (checkpoint) => {
      const { n_embd, n_head, vocab_size } = checkpoint.config;
      const D = n_embd / n_head;
      const windows = windowsOf(vocab_size, 2);
      const run = await Calibration.open(checkpoint, windows, { threads: 1 });
      const { keyMoments } = await run.inputStatistics(0);
      const { qWeight, qBias, kWeight, kBias } = await readProjections(checkpoint, 0);
      const inputs = await normed(checkpoint, "h.0.ln_1", await statesBefore(checkpoint, windows, 0));
      const head = 2;
      const q = project(inputs, qWeight, qBias, head, D);
      const k = project(inputs, kWeight, kBias, head, D);
      const expected = new Float64Array(4 * D * D);
      for (const i of inputs.keys()) {
        const first = i - (i % LENGTH);
        const z = Array.from({ length: i - first + 1 }, (_, j) => [
          ...(q[first + j] as number[]),
          ...(k[first + j] as number[]),
        ]);
        const scores = z.map(
          (_, j) => dot(q[i] as number[], k[first + j] as number[]) * computeScoreScale(checkpoint.config, 0),
        );
        const p = softmax(scores);
        const mean = Array.from({ length: 2 * D }, (_, a) =>
          dot(
            p,
            z.map((row) => row[a] as number),
          ),
        );
        for (let a = 0; a < 2 * D; a++)
          for (let b = 0; b < 2 * D; b++)
            for (const [j, row] of z.entries()) {
              const product = ((row[a] as number) - (mean[a] as number)) * ((row[b] as number) - (mean[b] as number));
              expected[a * 2 * D + b] =
                (expected[a * 2 * D + b] as number) + ((p[j] as number) * product) / inputs.length;
            }
      }
      expect(keyMoments.length).toBe(n_head);
      for (const [at, value] of expected.entries()) expect(keyMoments[head]?.[at]).toBeCloseTo(value, 3);
    });
  });

  test("the statistics of a layer do not change when they are asked for twice", async () => {
    await opened(MODEL, async (checkpoint) => {
      const run = await Calibration.open(checkpoint, windowsOf(checkpoint.config.vocab_size, 1), { threads: 1 });
      expect(await run.inputStatistics(0)).toEqual(await run.inputStatistics(0));
    });
  });
});

test("the hidden states before the last layer give the logits that evaluation gives", async () => {
  await opened(MODEL, async (checkpoint) => {
    const { n_embd: C, n_layer, vocab_size } = checkpoint.config;
    const windows = windowsOf(vocab_size);
    const run = await Calibration.open(checkpoint, windows, { threads: 1 });
    for (let layer = 0; layer < n_layer - 1; layer++) {
      await run.inputStatistics(layer);
      run.advance();
    }
    // What the last layer gives nobody reads.
    // biome-ignore lint/complexity/useLiteralKeys: a private field, which only brackets reach
    const [states = []] = await moveStreams(checkpoint, n_layer - 1, [run["hidden"]]);
    expect(states.map(({ batch, length }) => [batch, length])).toEqual(windows.map(() => [1, LENGTH]));
    const embedding = await checkpoint.readF32("wte.weight");
    const expected = await computeLogits(checkpoint, windows);
    for (const [w, { x }] of states.entries())
      for (const [t, row] of (await normed(checkpoint, "ln_f", x)).entries())
        for (let v = 0; v < vocab_size; v += 17) {
          const logit = dot(row, [...embedding.subarray(v * C, (v + 1) * C)]);
          expect(expected[(w * LENGTH + t) * vocab_size + v]).toBeCloseTo(logit, 3);
        }
  });
});

describe("distance means", () => {
  const LAYER = 1;
  let tie: LayerTie;
  let means: Float32Array;
  let table: number[] = [];
  let factor = 0;
  /** Teacher's less student's scores, and the mean of both probabilities, of each head's rows. */
  const rows: { head: number; residual: number[]; weight: number[] }[] = [];

  beforeAll(() =>
    opened(MODEL, async (checkpoint) => {
      const { n_embd, n_head, n_positions, vocab_size } = checkpoint.config;
      const windows = windowsOf(vocab_size, 2);
      const run = await Calibration.open(checkpoint, windows, { threads: 1 });
      await run.inputStatistics(0);
      run.advance();
      const { inputs: moments } = await run.inputStatistics(LAYER, { keep: true });
      const projections = await readProjections(checkpoint, LAYER);
      tie = tieLayer({ n_embd, n_head, ...projections, inputs: moments, strategy: "mean" });
      means = await run.distanceMean(LAYER, tie);
      table = makeBucketTable(n_positions);
      factor = computeScoreScale(checkpoint.config, LAYER);
      const D = n_embd / n_head;
      const inputs = await normed(checkpoint, `h.${LAYER}.ln_1`, await statesBefore(checkpoint, windows, LAYER));
      for (let head = 0; head < n_head; head++) {
        const query = project(inputs, projections.qWeight, projections.qBias, head, D);
        const key = project(inputs, projections.kWeight, projections.kBias, head, D);
        const s = project(inputs, tie.weight, tie.bias, head, D);
        for (const [n, q] of query.entries()) {
          const window = n - (n % LENGTH);
          const teacher = key.slice(window, n + 1).map((k) => dot(q, k) * factor);
          const student = s.slice(window, n + 1).map((k) => dot(s[n] as number[], k) * factor);
          const [p, r] = [softmax(teacher), softmax(student)];
          rows.push({
            head,
            residual: teacher.map((score, j) => score - (student[j] as number)),
            weight: p.map((probability, j) => (probability + (r[j] as number)) / 2),
          });
        }
      }
    }),
  );

  /** Σ w (r − μ·scale − c_i)² with each row's best c_i. */
  function loss(head: number, mean: (bucket: number) => number): number {
    let total = 0;
    for (const { residual, weight } of rows.filter((row) => row.head === head)) {
      const rest = residual.map((r, j) => r - mean(table[residual.length - 1 - j] as number) * factor);
      const shift = dot(rest, weight) / weight.reduce((a, b) => a + b, 0);
      total += rest.reduce((sum, r, j) => sum + (weight[j] as number) * (r - shift) ** 2, 0);
    }
    return total;
  }

  const meanOf = (head: number) => (bucket: number) => means[head * 32 + bucket] as number;

  test("fitted distance means lower the weighted residual of every head", () => {
    expect(means.length).toBe(4 * 32);
    for (let head = 0; head < 4; head++) expect(loss(head, meanOf(head))).toBeLessThan(0.999 * loss(head, () => 0));
  });

  test("fitted distance means are optimal: no change of one bucket lowers the residual", () => {
    for (let head = 0; head < 4; head++) {
      const least = loss(head, meanOf(head));
      for (let bucket = 0; bucket < 32; bucket += 3)
        for (const change of [-0.1, -0.01, 0.01, 0.1]) {
          const moved = (b: number) => meanOf(head)(b) + (b === bucket ? change : 0);
          expect(loss(head, moved)).toBeGreaterThanOrEqual(least * (1 - 1e-5));
        }
    }
  });

  test("fitted distance means are 0 for a layer that ties without loss", async () => {
    await opened(MODEL, async (checkpoint) => {
      const { n_embd, vocab_size } = checkpoint.config;
      // The fixture with Q in K's place.
      const { qWeight } = await readProjections(checkpoint, 0);
      const changed = Object.create(checkpoint) as Checkpoint;
      const same = async (name: string) => {
        const values = await checkpoint.readF32(name);
        if (!name.includes("c_attn")) return values;
        const count = values.length / (3 * n_embd);
        for (let row = 0; row < count; row++)
          values.copyWithin((3 * row + 1) * n_embd, 3 * row * n_embd, (3 * row + 1) * n_embd);
        return values;
      };
      Object.defineProperty(changed, "readF32", { value: same });
      const run = await Calibration.open(changed, windowsOf(vocab_size, 1), { threads: 1 });
      const bias = (await checkpoint.readF32("h.0.attn.c_attn.bias")).slice(0, n_embd);
      await run.inputStatistics(0, { keep: true });
      const found = await run.distanceMean(0, { weight: qWeight, bias });
      expect(Math.max(...found.map(Math.abs))).toBeLessThan(1e-3);
    });
  });
});
