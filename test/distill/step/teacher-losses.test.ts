// KL to a teacher's k most likely tokens: against plain numbers in double, finite differences, and the whole teacher.
import { describe, expect, it } from "vitest";
import { buildHeadLoss } from "../../../src/distill/step/losses.ts";
import { Graph, type GraphDtype, type Value } from "../../../src/graph/ir.ts";
import { Session, type Tensor } from "../../../src/graph/session.ts";
import { uniform } from "../../numeric/matrices.ts";

const [N, C, V] = [6, 5, 17];
type Float = "float32" | "float64";

interface Problem {
  hidden: number[]; // [N, C]
  matrix: number[]; // [V, C]
  teacher: number[]; // logits [N, V]
  weight: number[]; // of each row's KL: [N]
}

function problem(sharpness = 2, seed = 5): Problem {
  const random = uniform(seed);
  const draw = (count: number, size: number) => Array.from({ length: count }, () => size * random());
  const [hidden, matrix, teacher] = [draw(N * C, 2), draw(V * C, 1.5), draw(N * V, sharpness)];
  return { hidden, matrix, teacher, weight: Array.from({ length: N }, (_, i) => (i + 1) / 10) };
}

const row = (values: readonly number[], i: number, width: number) => values.slice(i * width, (i + 1) * width);

function logSoftmax(z: readonly number[]): number[] {
  const top = Math.max(...z);
  const normalizer = top + Math.log(z.reduce((sum, x) => sum + Math.exp(x - top), 0));
  return z.map((x) => x - normalizer);
}

/** The k most likely tokens of each row. */
function topK({ teacher }: Problem, k: number): { ids: number[]; logs: number[] } {
  const [ids, logs]: [number[], number[]] = [[], []];
  for (let i = 0; i < N; i++) {
    const all = logSoftmax(row(teacher, i, V));
    const best = all.map((_, j) => j).sort((a, b) => (all[b] as number) - (all[a] as number));
    ids.push(...best.slice(0, k));
    logs.push(...best.slice(0, k).map((j) => all[j] as number));
  }
  return { ids, logs };
}

/** Each row's KL and dL/dz of L = Σ weight·KL with k tokens and the rest as one outcome, in double. */
function bruteForce(given: Problem, k: number): { kl: number[]; dLogits: number[] } {
  const { ids, logs } = topK(given, k);
  const [kl, dLogits]: [number[], number[]] = [[], []];
  for (let i = 0; i < N; i++) {
    const h = row(given.hidden, i, C);
    const z = Array.from({ length: V }, (_, j) =>
      row(given.matrix, j, C).reduce((s, w, c) => s + w * (h[c] as number), 0),
    );
    const logQ = logSoftmax(z);
    const known = new Map(row(ids, i, k).map((id, j) => [id, logs[i * k + j] as number]));
    const unknown = logQ.map((_, j) => j).filter((j) => !known.has(j));
    // Both rests as sums, not as 1 − Σ: nothing cancels.
    const rest = (p: readonly number[]) => unknown.reduce((sum, j) => sum + Math.exp(p[j] as number), 0);
    const [tRest, qRest] = [rest(logSoftmax(row(given.teacher, i, V))), rest(logQ)];
    let sum = unknown.length > 0 ? tRest * Math.log(tRest / qRest) : 0;
    for (const [j, t] of known) sum += Math.exp(t) * (t - (logQ[j] as number));
    kl.push(sum);
    for (const [j, q] of logQ.entries()) {
      const target = known.get(j);
      const slope = target === undefined ? Math.exp(q) * (1 - tRest / qRest) : Math.exp(q) - Math.exp(target);
      dLogits.push((given.weight[i] as number) * slope);
    }
  }
  return { kl, dLogits };
}

const array = (dtype: GraphDtype, values: readonly number[]) =>
  dtype === "float64"
    ? Float64Array.from(values)
    : dtype === "int64"
      ? BigInt64Array.from(values, BigInt)
      : Float32Array.from(values);

/** A session of the head's loss, NLL at weight 0, on the problem's numbers: k null is the whole teacher. */
async function head(given: Problem, k: number | null, dtype: Float, rowsAtOnce: number) {
  const graph = new Graph();
  const feeds: Record<string, Tensor> = {};
  const input = (name: string, shape: number[], values: readonly number[], type: GraphDtype = dtype): Value => {
    feeds[name] = { dtype: type, data: array(type, values), shape };
    return graph.input(name, type, shape);
  };
  const matrix = input("matrix", [V, C], given.matrix);
  const logits = k === null ? input("teacher", [N, V], given.teacher) : null;
  const known = topK(given, k ?? 1);
  const loss = buildHeadLoss({
    hidden: input("hidden", [N, C], given.hidden),
    matrix,
    chunks: [matrix],
    labels: input("labels", [N], Array(N).fill(0), "int64"),
    nllWeight: input("nll_weight", [N, 1], Array(N).fill(0)),
    klWeight: input("kl_weight", [N, 1], given.weight),
    teacher: logits
      ? { kind: "logits", logits: () => logits }
      : {
          kind: "top-k",
          ids: input("ids", [N, k as number], known.ids, "int64"),
          logProbabilities: input("logs", [N, k as number], known.logs),
        },
    temperature: 1,
    rowsAtOnce: logits ? N : rowsAtOnce,
    matrixTrained: true,
  });
  graph.output(loss.kl as Value, "kl");
  graph.output(loss.dHidden, "dHidden");
  graph.output(loss.dChunks[0] as Value, "dMatrix");
  const session = await Session.withInputs(graph, { threads: 1 });
  const run = async () => {
    const outputs = await session.run(feeds);
    const numbers = (name: string) => Array.from((outputs[name] as Tensor).data as Float64Array);
    return { kl: numbers("kl"), dHidden: numbers("dHidden"), dMatrix: numbers("dMatrix") };
  };
  return { run, feeds, close: () => session.close() };
}

async function once(...given: Parameters<typeof head>) {
  const session = await head(...given);
  const result = await session.run();
  await session.close();
  return result;
}

/** dLogits·W and dLogitsᵀ·h. */
function throughHead({ hidden, matrix }: Problem, dLogits: readonly number[]) {
  const [dHidden, dMatrix] = [Array(N * C).fill(0) as number[], Array(V * C).fill(0) as number[]];
  for (let i = 0; i < N; i++)
    for (let j = 0; j < V; j++)
      for (let c = 0; c < C; c++) {
        const d = dLogits[i * V + j] as number;
        dHidden[i * C + c] = (dHidden[i * C + c] as number) + d * (matrix[j * C + c] as number);
        dMatrix[j * C + c] = (dMatrix[j * C + c] as number) + d * (hidden[i * C + c] as number);
      }
  return { dHidden, dMatrix };
}

const worst = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length ? Math.max(...a.map((x, i) => Math.abs(x - (b[i] as number)))) : Number.NaN;

describe("a teacher of k tokens", () => {
  for (const [k, rowsAtOnce] of [
    [1, N],
    [4, N],
    [4, 4], // blocks of 4 and 2 rows
    [V - 1, N],
  ] as const)
    it(`the loss of a teacher of k = ${k} tokens, ${rowsAtOnce} rows at once, has the KL and gradients computed by hand`, async () => {
      const given = problem();
      const { kl, dLogits } = bruteForce(given, k);
      const { dHidden, dMatrix } = throughHead(given, dLogits);
      for (const [dtype, tolerance] of [
        ["float64", 1e-12],
        ["float32", 2e-5],
      ] as const) {
        const found = await once(given, k, dtype, rowsAtOnce);
        expect(worst(found.kl, kl)).toBeLessThan(tolerance);
        expect(worst(found.dHidden, dHidden)).toBeLessThan(tolerance);
        expect(worst(found.dMatrix, dMatrix)).toBeLessThan(tolerance);
      }
    });

  it("the loss of a teacher of k tokens has the gradient of its own KL, by central differences", async () => {
    const given = problem();
    const { run, feeds, close } = await head(given, 4, "float64", N);
    const { dHidden, dMatrix } = await run();
    const loss = async () => (await run()).kl.reduce((sum, x, i) => sum + x * (given.weight[i] as number), 0);
    for (const [name, gradient] of [
      ["hidden", dHidden],
      ["matrix", dMatrix],
    ] as const) {
      const values = (feeds[name] as Tensor).data as Float64Array;
      const differences: number[] = [];
      for (const [i, x] of values.entries()) {
        values[i] = x + 1e-5;
        const above = await loss();
        values[i] = x - 1e-5;
        differences.push((above - (await loss())) / 2e-5);
        values[i] = x;
      }
      expect(worst(gradient, differences), name).toBeLessThan(1e-8);
    }
    await close();
  });

  it("the loss of a teacher of k tokens is the whole teacher's when k is the vocabulary", async () => {
    for (const sharpness of [2, 12]) {
      const given = problem(sharpness);
      const [sparse, dense] = [await once(given, V, "float32", N), await once(given, null, "float32", N)];
      expect(worst(sparse.kl, dense.kl)).toBeLessThan(2e-5);
      expect(worst(sparse.dHidden, dense.dHidden)).toBeLessThan(5e-5);
      expect(worst(sparse.dMatrix, dense.dMatrix)).toBeLessThan(5e-5);
      expect(Math.max(...dense.kl)).toBeGreaterThan(0.5);
    }
  });

  it("the loss of a teacher of k tokens never exceeds the whole teacher's KL, and grows with k", async () => {
    const given = problem();
    const total = async (k: number | null) => (await once(given, k, "float64", N)).kl.reduce((sum, x) => sum + x);
    const sums = [await total(1), await total(4), await total(10), await total(null)];
    expect(sums).toEqual([...sums].sort((a, b) => a - b));
    expect(new Set(sums).size).toBe(4);
  });

  it("the loss of a teacher of k tokens is as accurate in float32 where the teacher is almost certain", async () => {
    const given = problem(60);
    const { kl, dLogits } = bruteForce(given, 6);
    const found = await once(given, 6, "float32", N);
    expect(worst(found.kl, kl)).toBeLessThan(1e-4);
    expect(worst(found.dHidden, throughHead(given, dLogits).dHidden)).toBeLessThan(1e-4);
  });

  it("the loss of a teacher of k tokens stays finite, and pulls the same way, where the student is almost certain of another token", async () => {
    for (const sharpness of [2, 60])
      for (const size of [4, 8, 100]) {
        const given = problem(sharpness);
        given.hidden = given.hidden.map((x) => size * x);
        const { dHidden } = throughHead(given, bruteForce(given, 6).dLogits);
        const found = await once(given, 6, "float32", N);
        expect(found.kl.every((x) => Number.isFinite(x) && x > -1e-5)).toBe(true);
        const dot = (a: readonly number[], b: readonly number[]) =>
          a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
        const cosine =
          dot(found.dHidden, dHidden) / Math.sqrt(dot(dHidden, dHidden) * dot(found.dHidden, found.dHidden));
        expect(cosine).toBeGreaterThan(size === 100 ? 0.9 : 0.999);
      }
  });
});
