// Input statistics, distance means and hidden states of the fixture against arithmetic in float64.
import { beforeAll, describe, expect, test } from "vitest";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { type InputMoments, type LayerTie, tieLayer } from "../../../src/convert/attention/tie.ts";
import { readProjections } from "../../../src/convert/attention/tied-attention.ts";
import { Calibration } from "../../../src/convert/statistics/calibration.ts";
import { moveStreams } from "../../../src/convert/statistics/layer-stream.ts";
import { computeLogits } from "../../../src/inference/layerwise.ts";
import { computeScoreScale, makeBucketTable } from "../../../src/model/attention.ts";
import { columns, MODEL, opened } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import {
  attend,
  dot,
  LENGTH,
  measureSpread,
  mix,
  normed,
  project,
  secondMoments,
  softmax,
  statesBefore,
  windowsOf,
} from "./arithmetic.ts";

const at = temporaryFolder("calibration");

/** Each value is off by 1e-5 of the largest one at most. */
function expectClose(actual: ArrayLike<number> | undefined, expected: readonly number[]): void {
  expect(actual?.length).toBe(expected.length);
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (actual?.[i] as number))), 0);
  expect(worst / Math.max(...expected.map(Math.abs))).toBeLessThan(1e-5);
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
      const p = attend(q, k, computeScoreScale(checkpoint.config, 0));
      const expected = measureSpread(
        p,
        q.map((row, i) => [...row, ...(k[i] as number[])]),
      );
      expect(keyMoments.length).toBe(n_head);
      for (const [at, value] of expected.entries()) expect(keyMoments[head]?.[at]).toBeCloseTo(value, 3);
    });
  });

  test("the statistics of a layer tell of its queries and values alone, and of what attention makes of them", async () => {
    await opened(MODEL, async (checkpoint) => {
      const { n_embd: C, n_head, vocab_size } = checkpoint.config;
      const [D, layer] = [C / n_head, 1];
      const windows = windowsOf(vocab_size, 2);
      const run = await Calibration.open(checkpoint, windows, { threads: 1 });
      await run.inputStatistics(0);
      run.advance();
      const { power, ...found } = await run.inputStatistics(layer);
      const x = await statesBefore(checkpoint, windows, layer);
      const inputs = await normed(checkpoint, `h.${layer}.ln_1`, x);
      const { qWeight, qBias, kWeight, kBias } = await readProjections(checkpoint, layer);
      const read = (name: string) => checkpoint.readF32(`h.${layer}.attn.${name}`);
      const vWeight = Float32Array.from(columns(await read("c_attn.weight"), C, 2 * C, C).flatMap((row) => [...row]));
      const vBias = (await read("c_attn.bias")).subarray(2 * C);
      const mixed = inputs.map((): number[] => []); // of all heads side by side
      for (let head = 0; head < n_head; head++) {
        const q = project(inputs, qWeight, qBias, head, D);
        const v = project(inputs, vWeight, vBias, head, D);
        const factor = computeScoreScale(checkpoint.config, layer);
        const p = attend(q, project(inputs, kWeight, kBias, head, D), factor);
        const a = mix(p, v);
        const means = Array.from(
          { length: D },
          (_, d) => a.reduce((sum, row) => sum + (row[d] as number), 0) / a.length,
        );
        expectClose(found.queryMoments[head], secondMoments(q, false).flat());
        expectClose(found.mixedMoments[head], secondMoments(a, false).flat());
        expectClose(found.mixedMeans[head], means);
        expectClose(found.valueMoments[head], measureSpread(p, v));
        for (const [i, row] of a.entries()) mixed[i]?.push(...row);
      }
      const output = project(mixed, await read("c_proj.weight"), await read("c_proj.bias"), 0, C);
      const squares = output.flat().reduce((sum, value) => sum + value ** 2, 0) + x.reduce((sum, v) => sum + v ** 2, 0);
      expectClose([power], [squares / inputs.length]);
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
