// Tokens drawn from a teacher's distribution: right on average, a sum of 1 each time, and what training makes of them.
import { beforeAll, describe, expect, it } from "vitest";
import { buildHeadLoss, type TeacherSignal } from "../../../src/distill/step/losses.ts";
import { drawTokens, weighTokens } from "../../../src/distill/teacher/draw-tokens.ts";
import { openSampledTeacher } from "../../../src/distill/teacher/sampled.ts";
import { openTopKTeacher } from "../../../src/distill/teacher/top-k.ts";
import { decodeFloats, encodeFloats } from "../../../src/formats/dtype.ts";
import { Graph, type Value } from "../../../src/graph/ir.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session, type Tensor } from "../../../src/graph/session.ts";
import { failureOf } from "../../support/failure.ts";
import { opened } from "../../support/fixture.ts";
import { countLeaks } from "../../support/session-faults.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { metricsOf, signalAt, type Workshop, weightsOf, workshop } from "../../support/training.ts";

/** A distribution over `size` tokens, sharper for a larger `sharpness`. */
function distribution(size: number, sharpness: number): Float32Array {
  const powers = Array.from({ length: size }, (_, j) => Math.exp(sharpness * Math.sin(7 * j + 1) * Math.cos(j)));
  const sum = powers.reduce((a, b) => a + b);
  return Float32Array.from(powers, (x) => x / sum);
}

/** The drawn tokens and what each counts. */
function draw(t: Float32Array, k: number, u: number): { ids: number[]; logs: Float32Array; weights: Float32Array } {
  const ids = drawTokens(t, k, u);
  const logs = Float32Array.from(ids, (id) => Math.max(-60, Math.log(t[id] as number)));
  const weights = new Float32Array(k);
  weighTokens(logs, weights);
  return { ids, logs, weights };
}

describe("drawing tokens", () => {
  const DRAWS = 4000;
  it.each([
    [40, 3, 1],
    [40, 8, 3],
    [40, 8, 12],
    [300, 20, 0],
  ])("of %i tokens, %i at a time, every token counts its probability on average (sharpness %i)", (size, k, sharp) => {
    const t = distribution(size, sharp);
    const counts = new Float64Array(size);
    for (let i = 0; i < DRAWS; i++) {
      const { ids, weights } = draw(t, k, (i + 0.5) / DRAWS);
      expect(new Set(ids).size).toBe(k);
      expect(weights.reduce((sum, w) => sum + w, 0)).toBeCloseTo(1, 5);
      for (const [j, id] of ids.entries()) {
        if (j > 0) expect(t[id]).toBeLessThanOrEqual(t[ids[j - 1] as number] as number);
        counts[id] = (counts[id] as number) + (weights[j] as number) / DRAWS;
      }
    }
    for (const [j, x] of t.entries()) expect(Math.abs((counts[j] as number) - x)).toBeLessThan(1e-3);
  });

  it("likely tokens are always drawn and count what they are, the others alike", () => {
    const t = Float32Array.from({ length: 101 }, (_, j) => (j === 50 ? 0.5 : 0.005));
    const { ids, weights } = draw(t, 11, 0.3);
    expect(ids[0]).toBe(50);
    expect(weights[0]).toBeCloseTo(0.5, 6);
    for (const weight of weights.subarray(1)) expect(weight).toBeCloseTo(0.05, 6);
  });

  it.each<[string, Float32Array, number]>([
    ["all tokens", distribution(9, 2), 9],
    ["one token of all the probability", Float32Array.from({ length: 9 }, (_, j) => (j === 4 ? 1 : 0)), 3],
    ["as many likely tokens as are drawn", Float32Array.of(0, 0.5, 0, 0.25, 0.25), 3],
    ["equal tokens, all of them", new Float32Array(7).fill(1 / 7), 7],
  ])("%s count as they are", (_, t, k) => {
    for (const u of [0, 0.5, 0.999]) {
      const { ids, weights } = draw(t, k, u);
      expect(new Set(ids).size).toBe(k);
      for (const [j, id] of ids.entries()) expect(weights[j]).toBeCloseTo(t[id] as number, 6);
    }
  });

  it("log-probabilities in float16 change what tokens count by their rounding alone", () => {
    const { logs, weights } = draw(distribution(300, 2), 20, 0.4);
    const rounded = new Float32Array(20);
    decodeFloats(encodeFloats(logs, "F16"), "F16", rounded);
    const again = new Float32Array(20);
    weighTokens(rounded, again);
    for (const [j, weight] of weights.entries()) expect((again[j] as number) / weight).toBeCloseTo(1, 2);
    expect(again.reduce((sum, w) => sum + w, 0)).toBeCloseTo(1, 6);
  });
});

it("the loss of drawn tokens is the whole teacher's on average over the draws, and so is its gradient", async () => {
  const [V, C, K, DRAWS] = [17, 5, 4, 500];
  const numbers = (count: number, size: number) =>
    Float32Array.from({ length: count }, (_, i) => size * Math.sin(3 * i));
  const [hidden, matrix] = [numbers(C, 1), numbers(V * C, 1.5)];
  const t = distribution(V, 2);
  const run = async (sampled: boolean) => {
    const graph = new Graph();
    const head = graph.input("matrix", "float32", [V, C]);
    const known = (name: string) => graph.input(name, "float32", [1, K]);
    const teacher = (): TeacherSignal => {
      if (sampled) {
        const ids = graph.input("ids", "int64", [1, K]);
        return { kind: "sampled", ids, logProbabilities: known("logs"), weights: known("weights") };
      }
      const logits = graph.input("logits", "float32", [1, V]);
      return { kind: "logits", logits: () => logits };
    };
    const loss = buildHeadLoss({
      hidden: graph.input("hidden", "float32", [1, C]),
      matrix: head,
      chunks: [head],
      labels: graph.input("labels", "int64", [1]),
      nllWeight: graph.input("nll", "float32", [1, 1]),
      klWeight: graph.input("kl_weight", "float32", [1, 1]),
      teacher: teacher(),
      temperature: 1,
      rowsAtOnce: 1,
      matrixTrained: true,
    });
    graph.output(loss.kl as Value, "kl");
    graph.output(loss.dChunks[0] as Value, "dMatrix");
    const session = await Session.withInputs(graph, { threads: 1 });
    const sums = { kl: 0, dMatrix: new Float64Array(V * C) };
    const count = sampled ? DRAWS : 1;
    for (let i = 0; i < count; i++) {
      const { ids, logs, weights } = draw(t, K, (i + 0.5) / count);
      const output = await session.run({
        ...{ matrix: makeFloat32Tensor(matrix, [V, C]), hidden: makeFloat32Tensor(hidden, [1, C]) },
        ...{ labels: makeInt64Tensor(Int32Array.of(0), [1]), nll: makeFloat32Tensor(Float32Array.of(0), [1, 1]) },
        kl_weight: makeFloat32Tensor(Float32Array.of(1), [1, 1]),
        ...(sampled
          ? {
              ids: makeInt64Tensor(Int32Array.from(ids), [1, K]),
              logs: makeFloat32Tensor(logs, [1, K]),
              weights: makeFloat32Tensor(weights, [1, K]),
            }
          : { logits: makeFloat32Tensor(t.map(Math.log), [1, V]) }),
      });
      const read = (name: string) => (output[name] as Tensor).data as Float32Array;
      sums.kl += (read("kl")[0] as number) / count;
      for (const [j, x] of read("dMatrix").entries()) sums.dMatrix[j] = (sums.dMatrix[j] as number) + x / count;
    }
    await session.close();
    return sums;
  };
  const [whole, drawn] = [await run(false), await run(true)];
  expect(whole.kl).toBeGreaterThan(0.3);
  expect(Math.abs(drawn.kl - whole.kl)).toBeLessThan(0.01);
  for (const [j, x] of whole.dMatrix.entries()) expect(Math.abs((drawn.dMatrix[j] as number) - x)).toBeLessThan(3e-3);
});

describe("a teacher that is drawn from", () => {
  const path = temporaryFolder("sampled");
  const SETTINGS = {
    steps: 60,
    transferSteps: 0,
    evalEvery: 20,
    lr: 3e-3,
    kd: 1,
    cacheTeacher: 6,
    cacheKind: "sampled",
  } as const;
  let shop: Workshop;
  let student: string;

  beforeAll(async () => {
    shop = await workshop(path);
    student = await shop.student("low-rank"); // trained apart from its teacher
  });

  it("leaves no session open where the second does not open", async () => {
    const open = () =>
      opened(shop.base, (model) => openSampledTeacher(model, { length: 16, k: 6, precision: "fp32", threads: 1 }));
    expect(await countLeaks(2, open)).toBe(0);
  });

  it("gives tokens of the model's own probabilities, the same ones for a window at each call", async () => {
    const [length, k] = [16, 6];
    const inputs = Int32Array.from({ length }, (_, i) => (7 * i) % 61);
    await opened(shop.base, async (model) => {
      const all = await openTopKTeacher(model, { length, k: 61, precision: "fp32", threads: 1 });
      const drawn = await openSampledTeacher(model, { length, k, precision: "fp32", rowsAtOnce: 5, threads: 1 });
      const [known, one, again, other] = [
        await all.run(inputs, 0),
        await drawn.run(inputs, 3),
        await drawn.run(inputs, 3),
        await drawn.run(inputs, 4),
      ];
      expect(again).toEqual(one);
      expect(other.ids).not.toEqual(one.ids);
      for (const [i, id] of one.ids.entries()) {
        const row = Math.floor(i / k) * 61;
        const place = known.ids.subarray(row, row + 61).indexOf(id);
        expect(one.logProbabilities[i]).toBeCloseTo(known.logProbabilities[row + place] as number, 4);
      }
      await all.close();
      await drawn.close();
    });
  });

  it("teaches a student, which resumes as if it had not stopped, from a file of its own", async () => {
    const straight = path("straight");
    await shop.distil(student, { output: straight, settings: SETTINGS });
    const kls = metricsOf(straight).flatMap(({ kl }) => (kl === undefined ? [] : [kl as number]));
    expect(kls.at(-1)).toBeLessThan((kls[0] as number) / 2);
    const output = path("stopped");
    await failureOf(() => shop.distil(student, { output, settings: SETTINGS, ...signalAt(3) }));
    await shop.distil(student, { output, settings: SETTINGS, resume: true });
    expect(weightsOf(output).equals(weightsOf(straight))).toBe(true);
    const top = path("top");
    await shop.distil(student, { output: top, settings: { ...SETTINGS, steps: 2, cacheKind: "top-k" } });
    expect(weightsOf(top).equals(weightsOf(straight))).toBe(false);
    const first = (folder: string) => metricsOf(folder)[0]?.kl as number;
    await shop.distil(student, {
      output: path("whole"),
      settings: { ...SETTINGS, cacheTeacher: 0, cacheKind: "top-k" },
    });
    expect(first(straight) / first(path("whole"))).toBeCloseTo(1, 0);
  });

  it("has no other temperature, and needs a cache", async () => {
    const refused = (settings: object) =>
      failureOf(() => shop.distil(student, { output: path("none"), settings: { ...SETTINGS, ...settings } }));
    expect((await refused({ temperature: 2 })).message).toBe("a cached teacher has no temperature but 1");
    expect((await refused({ cacheTeacher: 0 })).message).toBe("--cache-kind sampled without a cached teacher");
  });
});
