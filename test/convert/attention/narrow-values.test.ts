// Values of a lower rank: what the heads of a layer put out, on a sample of mixed values.
import { Matrix, SVD } from "ml-matrix";
import { describe, expect, test } from "vitest";
import { factorValues, narrowValues, type ValueLayer } from "../../../src/convert/attention/narrow-values.ts";
import { fromFlat, randomMatrix, uniform } from "../../numeric/matrices.ts";

const C = 12;
const H = 3;
const D = C / H;
const SAMPLES = 40;

/** A layer, the inputs m [SAMPLES, C] that each head mixes, and the moments that follow from them. */
function randomLayer(seed: number, bias = true) {
  const random = uniform(seed);
  const values = (count: number) => Float32Array.from({ length: count }, random);
  const weights = {
    vWeight: values(C * C),
    vBias: bias ? values(C) : null,
    outWeight: values(C * C),
    outBias: bias ? values(C) : null,
  };
  const inputs = Array.from({ length: H }, () => randomMatrix(SAMPLES, C, random).add(0.7));
  const mixed = inputs.map((m, head) => project(m, weights.vWeight, weights.vBias, head));
  const moments = mixed.map((a) => Float64Array.from(a.transpose().mmul(a).div(SAMPLES).to1DArray()));
  const means = mixed.map((a) => Float64Array.from(a.mean("column")));
  return { layer: { n_embd: C, n_head: H, ...weights, mixed: { moments, means }, trust: 1 }, inputs };
}

/** m W + b of one head: [SAMPLES, width] */
function project(m: Matrix, weight: Float32Array, bias: Float32Array | null, head: number): Matrix {
  const width = weight.length / C / H;
  const w = fromFlat(weight, C, H * width).subMatrix(0, C - 1, head * width, (head + 1) * width - 1);
  const out = m.mmul(w);
  return bias ? out.addRowVector([...bias.subarray(head * width, (head + 1) * width)]) : out;
}

type Weights = Pick<ValueLayer, "vBias" | "outWeight" | "outBias"> & { weight: Float32Array };

/** What one head adds to the output, without the bias of c_proj: [SAMPLES, C] */
function headOutput(m: Matrix, { weight, vBias, outWeight }: Weights, head: number): Matrix {
  const a = project(m, weight, vBias, head);
  const out = fromFlat(outWeight, H * a.columns, C);
  return a.mmul(out.subMatrix(head * a.columns, (head + 1) * a.columns - 1, 0, C - 1));
}

function outputs(inputs: Matrix[], weights: Weights): Matrix {
  const sum = Matrix.zeros(SAMPLES, C).addRowVector([...(weights.outBias ?? new Float32Array(C))]);
  for (const [head, m] of inputs.entries()) sum.add(headOutput(m, weights, head));
  return sum;
}

function narrowed(layer: ValueLayer, r: number) {
  const { bias: vBias, ...rest } = narrowValues(layer, factorValues(layer), r);
  return { ...rest, vBias };
}

describe("values of a lower rank", () => {
  test.each([1, 2, 3])("each head's output at rank %i is the closest one, around its mean", (r) => {
    const { layer, inputs } = randomLayer(r);
    const result = narrowed(layer, r);
    for (const [head, m] of inputs.entries()) {
      const centered = (output: Matrix) => output.clone().subRowVector(output.mean("column"));
      const whole = centered(headOutput(m, { ...layer, weight: layer.vWeight }, head));
      const { diagonal } = new SVD(whole);
      const lost = Math.hypot(...diagonal.slice(r)) / Math.hypot(...diagonal);
      const rest = Matrix.sub(centered(headOutput(m, result, head)), whole);
      expect(rest.norm() / whole.norm()).toBeCloseTo(lost, 3); // the ridge
      expect(result.errors[head]).toBeCloseTo(lost, 3);
    }
  });

  test("the mean of the output is kept by the bias of c_proj", () => {
    const { layer, inputs } = randomLayer(5);
    const [before, after] = [outputs(inputs, { ...layer, weight: layer.vWeight }), outputs(inputs, narrowed(layer, 1))];
    const lost = Matrix.sub(after, before).mean("column");
    for (const value of lost) expect(Math.abs(value)).toBeLessThan(1e-5);
  });

  test("without text the part of the output that the bias of v makes is kept", () => {
    const { layer } = randomLayer(6);
    const bare = { ...layer, mixed: null };
    const nothing = Array.from({ length: H }, () => Matrix.zeros(SAMPLES, C));
    const [before, after] = [outputs(nothing, { ...bare, weight: bare.vWeight }), outputs(nothing, narrowed(bare, 1))];
    expect(Matrix.sub(after, before).norm()).toBeLessThan(1e-4);
  });

  test("all columns give the output itself, with and without biases", () => {
    for (const bias of [true, false]) {
      const { layer, inputs } = randomLayer(7, bias);
      const before = outputs(inputs, { ...layer, weight: layer.vWeight });
      expect(Matrix.sub(outputs(inputs, narrowed(layer, D)), before).norm()).toBeLessThan(1e-5 * before.norm());
    }
  });

  test("a number that is not finite is refused", () => {
    const { layer } = randomLayer(8);
    layer.outWeight[D * C] = Number.NaN;
    expect(() => factorValues(layer)).toThrow("head 1: V or c_proj is not finite");
  });
});
