// The head's losses and gradients against the formulas in float64: chunks, rows at once, temperatures, missing labels.
import { describe, expect, it } from "vitest";
import { chunkedSoftmax } from "../../../src/distill/step/distribution.ts";
import { buildHeadLoss } from "../../../src/distill/step/losses.ts";
import { Graph, type Value } from "../../../src/graph/ir.ts";
import { gemm, mul, reduceSum } from "../../../src/graph/ops.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session } from "../../../src/graph/session.ts";
import { slice } from "../../../src/graph/shape-ops.ts";

const [N, C, V] = [7, 3, 10];
const wave = (n: number, seed: number) =>
  Float32Array.from({ length: n }, (_, i) => 2 * Math.sin(seed + 1.7 * i + 0.3 * i * i));
const [HIDDEN, MATRIX, TEACHER] = [wave(N * C, 1), wave(V * C, 2), wave(N * C, 3)];
const LABELS = [4, 0, 9, 9, 3, 0, 5];

interface Case {
  chunk: number;
  rowsAtOnce: number;
  nllWeight: number[];
  klWeight: number[] | null;
  temperature: number;
  matrixTrained?: boolean;
}

async function run({ chunk, rowsAtOnce, nllWeight, klWeight, temperature, matrixTrained = true }: Case) {
  const graph = new Graph();
  const hidden = graph.input("hidden", "float32", [N, C]);
  const matrix = graph.input("matrix", "float32", [V, C]);
  const starts = Array.from({ length: Math.ceil(V / chunk) }, (_, i) => i * chunk);
  const chunks = starts.map((start) => slice(matrix, 0, start, Math.min(V, start + chunk)));
  const other = klWeight ? graph.input("teacher", "float32", [N, C]) : hidden;
  const loss = buildHeadLoss({
    hidden,
    matrix,
    chunks,
    labels: graph.input("labels", "int64", [N]),
    nllWeight: graph.input("nll_weight", "float32", [N, 1]),
    klWeight: klWeight && graph.input("kl_weight", "float32", [N, 1]),
    teacher: klWeight && {
      kind: "logits",
      logits: ({ start, end }, c) =>
        gemm(slice(other, 0, start, end), chunks[c] as (typeof chunks)[number], {
          transB: true,
        }),
    },
    temperature,
    rowsAtOnce,
    matrixTrained,
  });
  graph.output(loss.nll, "nll");
  if (loss.kl) graph.output(loss.kl, "kl");
  graph.output(loss.dHidden, "dHidden");
  for (const [c, part] of loss.dChunks.entries()) graph.output(part, `dChunk.${c}`);
  if (loss.labelRows) graph.output(loss.labelRows, "labelRows");
  const session = await Session.withInputs(graph, { threads: 1 });
  const column = (values: readonly number[]) => makeFloat32Tensor(Float32Array.from(values), [N, 1]);
  const output = await session.run({
    hidden: makeFloat32Tensor(HIDDEN, [N, C]),
    matrix: makeFloat32Tensor(MATRIX, [V, C]),
    labels: makeInt64Tensor(LABELS, [N]),
    nll_weight: column(nllWeight),
    ...(klWeight && { teacher: makeFloat32Tensor(TEACHER, [N, C]), kl_weight: column(klWeight) }),
  });
  const read = (name: string) => [...((output[name]?.data ?? []) as Float32Array)];
  // dMatrix: the chunks one after the other, and the labels' rows added.
  const dMatrix = starts.flatMap((_, c) => read(`dChunk.${c}`));
  for (const [i, x] of read("labelRows").entries()) {
    const at = (LABELS[Math.floor(i / C)] as number) * C + (i % C);
    dMatrix[at] = (dMatrix[at] as number) + x;
  }
  await session.close();
  return { nll: read("nll"), kl: read("kl"), dHidden: read("dHidden"), dMatrix, chunks: loss.dChunks.length };
}

/** NLL and KL of each row, and their weighted sum, in float64. */
function formula(hidden: readonly number[], matrix: readonly number[], { nllWeight, klWeight, temperature }: Case) {
  const logits = (h: ArrayLike<number>, m: ArrayLike<number>, row: number, T: number) =>
    Array.from({ length: V }, (_, v) => {
      let dot = 0;
      for (let c = 0; c < C; c++) dot += (h[row * C + c] as number) * (m[v * C + c] as number);
      return dot / T;
    });
  const logSoftmax = (z: number[]) => {
    const sum = Math.log(z.reduce((total, x) => total + Math.exp(x), 0));
    return z.map((x) => x - sum);
  };
  const nll = LABELS.map((label, i) => -(logSoftmax(logits(hidden, matrix, i, 1))[label] as number));
  // The teacher's head is the same matrix here, but a constant.
  const kl = LABELS.map((_, i) => {
    const student = logSoftmax(logits(hidden, matrix, i, temperature));
    const teacher = logSoftmax(logits(TEACHER, MATRIX, i, temperature));
    return teacher.reduce((sum, t, v) => sum + Math.exp(t) * (t - (student[v] as number)), 0);
  });
  const total = nll.reduce(
    (sum, x, i) => sum + x * (nllWeight[i] as number) + (kl[i] as number) * (klWeight?.[i] ?? 0),
    0,
  );
  return { nll, kl, total };
}

const EVEN = Array(N).fill(1 / N) as number[];
const HOLES = EVEN.map((w, i) => (i === 2 || i === 6 ? 0 : w));

describe("the head's loss", () => {
  it.each<[string, Case]>([
    ["labels alone", { chunk: V, rowsAtOnce: N, nllWeight: EVEN, klWeight: null, temperature: 1 }],
    ["rows without a label", { chunk: V, rowsAtOnce: N, nllWeight: HOLES, klWeight: null, temperature: 1 }],
    ["labels in chunks and blocks", { chunk: 4, rowsAtOnce: 3, nllWeight: HOLES, klWeight: null, temperature: 1 }],
    ["half a teacher", { chunk: V, rowsAtOnce: N, nllWeight: HOLES, klWeight: EVEN, temperature: 1 }],
    [
      "half a teacher in chunks and blocks",
      { chunk: 3, rowsAtOnce: 2, nllWeight: HOLES, klWeight: EVEN, temperature: 1 },
    ],
    ["a teacher alone", { chunk: 4, rowsAtOnce: N, nllWeight: Array(N).fill(0), klWeight: EVEN, temperature: 1 }],
    ["a warm teacher", { chunk: V, rowsAtOnce: N, nllWeight: EVEN, klWeight: EVEN, temperature: 3 }],
    [
      "a cold teacher in chunks and blocks",
      { chunk: 4, rowsAtOnce: 5, nllWeight: EVEN, klWeight: HOLES, temperature: 0.5 },
    ],
  ])("the head's loss with %s is the formula's, gradients included", async (_, given) => {
    const { nll, kl, dHidden, dMatrix } = await run(given);
    const [hidden, matrix] = [[...HIDDEN], [...MATRIX]];
    const expected = formula(hidden, matrix, given);
    for (const [i, x] of expected.nll.entries()) expect(nll[i]).toBeCloseTo(x, 4);
    if (given.klWeight) for (const [i, x] of expected.kl.entries()) expect(kl[i]).toBeCloseTo(x, 4);
    for (const [values, gradient] of [
      [hidden, dHidden],
      [matrix, dMatrix],
    ] as const)
      for (const [i, value] of values.entries()) {
        const [up, down] = [1e-5, -1e-5].map((move) => {
          values[i] = value + move;
          return formula(hidden, matrix, given).total;
        }) as [number, number];
        values[i] = value;
        expect(gradient[i]).toBeCloseTo((up - down) / 2e-5, 4);
      }
  });

  it("the head's loss leaves out the matrix's gradient where the matrix is frozen", async () => {
    const given = { chunk: 4, rowsAtOnce: 3, nllWeight: EVEN, klWeight: EVEN, temperature: 1 };
    const [frozen, trained] = [await run({ ...given, matrixTrained: false }), await run(given)];
    expect([frozen.chunks, trained.chunks]).toEqual([0, 3]);
    expect(frozen.dHidden).toEqual(trained.dHidden);
  });
});

it("the normalizer of a vocabulary in chunks is read together with the chunks' statistics", () => {
  const graph = new Graph();
  const logits = [3, 3, 2].map((v, c) => graph.input(`z${c}`, "float32", [N, v]));
  const { parts, logNormalizer } = chunkedSoftmax(logits, (z, p) => reduceSum(mul(z, p), [1], true));
  const before = new Set<Value>();
  const collect = (value: Value | null) => {
    if (!value || before.has(value)) return;
    before.add(value);
    value.producer?.inputs.forEach(collect);
  };
  collect(logNormalizer);
  expect(parts.map(({ statistic }) => before.has(statistic as Value))).toEqual([true, true, true]);
});
