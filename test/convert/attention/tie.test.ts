// A layer's heads: where their columns go, what each strategy stores, and what is refused.
import { Matrix } from "ml-matrix";
import { describe, expect, test } from "vitest";
import { type LayerTieInput, TIE_STRATEGIES, tieHeads, tieLayer } from "../../../src/convert/attention/tie.ts";
import { flat, fromFlat, visibleLoss } from "../../numeric/matrices.ts";
import { failureOf } from "../../support/failure.ts";
import { randomLayer, withSigma } from "./layer-input.ts";

/** W̃ of a head in dense matrices: its columns, the bias as the last row. */
function dense(weight: Float32Array, bias: Float32Array | null, head: number, input: LayerTieInput): Matrix {
  const D = input.n_embd / input.n_head;
  const rows = fromFlat(weight, input.n_embd, input.n_embd).to2DArray();
  if (bias) rows.push([...bias]);
  return new Matrix(rows.map((row) => row.slice(head * D, (head + 1) * D)));
}

/** Σ with its ridge, 1e-4 of its mean diagonal. */
function ridged(sigma: Matrix): Matrix {
  return Matrix.add(sigma, Matrix.eye(sigma.rows).mul((1e-4 * sigma.trace()) / sigma.rows));
}

describe("the layer that is stored", () => {
  test("the stored layer is Q for the strategy query and K for key, to the bit", () => {
    const input = randomLayer();
    const query = tieLayer({ ...input, strategy: "query" });
    const key = tieLayer({ ...input, strategy: "key" });
    expect([query.weight, query.bias]).toEqual([input.qWeight, input.qBias]);
    expect([key.weight, key.bias]).toEqual([input.kWeight, input.kBias]);
  });

  test("the stored layer is the float32 mean of Q and K for the strategy mean", () => {
    const input = randomLayer({ seed: 2 });
    const { weight, bias } = tieLayer({ ...input, strategy: "mean" });
    expect(weight).toEqual(input.qWeight.map((value, i) => (value + (input.kWeight[i] as number)) / 2));
    expect(bias).toEqual(input.qBias?.map((value, i) => (value + (input.kBias?.[i] as number)) / 2));
  });

  test.each(TIE_STRATEGIES)(
    "the stored layer has each head of %s in its own columns, with the error that is reported for it",
    (strategy) => {
      for (const bare of [false, true]) {
        const input = randomLayer({ seed: 3, strategy, bare });
        if (strategy === "spectral") input.inputs = null;
        const { weight, bias, errors } = tieLayer(input);
        expect(bias === null).toBe(bare);
        const size = bare ? 12 : 13;
        const sigma = input.inputs ? ridged(fromFlat(input.sigma, size, size)) : Matrix.eye(size);
        for (let head = 0; head < 4; head++) {
          const query = dense(input.qWeight, input.qBias, head, input);
          const key = dense(input.kWeight, input.kBias, head, input);
          const s = dense(weight, bias, head, input);
          const loss = (form: Matrix) => visibleLoss({ query, key, sigma, constant: !bare }, form);
          const error = Math.sqrt(loss(s.mmul(s.transpose())) / loss(Matrix.zeros(size, size)));
          expect(errors[head]).toBeCloseTo(error, 5); // S is stored in float32
        }
      }
    },
  );

  test("a tied layer that exceeds float32 is refused, though Q and K do not exceed it", async () => {
    const input = randomLayer({ seed: 4, strategy: "spectral" });
    input.inputs = null;
    const largest = Math.max(...[...input.qWeight, ...input.kWeight].map(Math.abs));
    const enlarge = (weight: Float32Array) => weight.map((value) => (value / largest) * 3.4e38);
    const failure = await failureOf(() =>
      tieLayer({ ...input, qWeight: enlarge(input.qWeight), kWeight: enlarge(input.kWeight) }),
    );
    expect(failure).toMatchObject({ code: "unsupported" });
    expect(failure.message).toMatch(/^head \d+: the tied weights exceed float32$/);
  });

  test("the stored layer differs only in the head whose Q or K differs", () => {
    const input = randomLayer({ seed: 4 });
    const before = tieLayer(input).weight;
    input.qWeight[2 * 12 + 7] = 3; // row 2, head 2
    const after = tieLayer(input).weight;
    const changed = new Set<number>();
    for (const [at, value] of after.entries()) if (value !== before[at]) changed.add(Math.floor((at % 12) / 3));
    expect([...changed]).toEqual([2]);
  });

  test.each(["calibrated", "spectral"] as const)("the stored layer keeps q·k of a layer with Q = K: %s", (strategy) => {
    const input = randomLayer({ seed: 5, strategy });
    const same = withSigma({ ...input, kWeight: input.qWeight, kBias: input.qBias }, input.sigma);
    if (strategy === "spectral") same.inputs = null;
    const { weight, bias, errors } = tieLayer(same);
    expect(Math.max(...errors)).toBeLessThan(1e-5);
    for (let head = 0; head < 4; head++) {
      // Up to a term constant along the keys: the last column of the form.
      const [q, s] = [dense(input.qWeight, input.qBias, head, input), dense(weight, bias, head, input)];
      const difference = Matrix.sub(s.mmul(s.transpose()), q.mmul(q.transpose())).subMatrix(0, 12, 0, 11);
      expect(Matrix.abs(difference).max()).toBeLessThan(2e-4);
    }
  });

  test("the calibrated tie has the smallest error of all strategies in the metric of the inputs", () => {
    const input = randomLayer({ seed: 6 });
    const errors = (strategy: LayerTieInput["strategy"]) => tieLayer({ ...input, strategy }).errors;
    for (const other of ["mean", "query", "key"] as const)
      for (const [head, error] of errors("calibrated").entries())
        expect(error).toBeLessThan(errors(other)[head] as number);
  });
});

describe("the input statistics Σ", () => {
  test("a Σ of rank 1 gets a ridge that keeps S finite", () => {
    const { weight, bias, errors } = tieLayer(randomLayer({ seed: 7, sigma: new Float64Array(169).fill(1) }));
    expect([...weight, ...(bias ?? []), ...errors].every(Number.isFinite)).toBe(true);
  });

  test("a Σ counts by its shape, not by its scale", () => {
    const input = randomLayer({ seed: 8 });
    const scaled = tieLayer(
      withSigma(
        input,
        input.sigma.map((value) => value * 1024),
      ),
    );
    const plain = tieLayer(input);
    for (const [i, error] of plain.errors.entries()) expect(scaled.errors[i]).toBeCloseTo(error, 10);
    for (const [i, value] of plain.weight.entries()) expect(scaled.weight[i]).toBeCloseTo(value, 5);
  });

  test("the moments under Σ are not changed by the tie", () => {
    const input = randomLayer({ seed: 9 });
    const before = structuredClone(input.inputs);
    tieLayer(input);
    expect(input.inputs).toEqual(before);
  });

  test("a Σ of the identity gives the spectral tie, but for the ridge", () => {
    const input = randomLayer({ seed: 10 });
    const identity = tieLayer(withSigma(input, flat(Matrix.eye(13))));
    const spectral = tieLayer({ ...input, inputs: null, strategy: "spectral" });
    for (const [i, value] of spectral.weight.entries()) expect(identity.weight[i]).toBeCloseTo(value, 5);
  });
});

describe("repeating a tie", () => {
  test.each(TIE_STRATEGIES)("the same input gives the same bytes: %s", (strategy) => {
    expect(tieLayer(randomLayer({ strategy }))).toEqual(tieLayer(randomLayer({ strategy })));
  });

  test("the same input gives the same heads, alone or together and in any order", () => {
    const input = randomLayer();
    const [third, first] = tieHeads(input, [2, 0]);
    const all = tieHeads(input, [0, 1, 2, 3]);
    expect([first, third]).toEqual([all[0], all[2]]);
  });
});

describe("input that is not finite", () => {
  type Part = "qWeight" | "kWeight" | "qBias" | "kBias" | "sigma";
  const refusal = (part: Part, at: number, value: number, options: Parameters<typeof randomLayer>[0] = {}) => {
    const input = randomLayer(options);
    (input[part] as Float32Array | Float64Array)[at] = value;
    return failureOf(() => tieLayer(part === "sigma" ? withSigma(input, input.sigma) : input));
  };

  test.each<[Part, string]>([
    ["qWeight", "head 1: Q or K is not finite"],
    ["sigma", "the layer's inputs are not finite"],
  ])("a number in %s that is not finite is refused with the sentence: %s", async (part, sentence) => {
    expect((await refusal(part, 4, Number.NaN)).message).toBe(sentence);
  });

  test.each<Part>(["qWeight", "kWeight", "qBias", "kBias"])(
    "a number in %s that is not finite is refused with its head",
    async (part) => {
      const { code, message } = await refusal(part, 4, Number.NaN); // column 4 of the first row: head 1
      expect(code).toBe("invalid-file");
      expect(message).toMatch(/^head 1: Q or K/);
    },
  );

  test.each(TIE_STRATEGIES)("an infinity in K is refused with its head: %s", async (strategy) => {
    const { code, message } = await refusal("kWeight", 0, Number.POSITIVE_INFINITY, { strategy });
    expect(code).toBe("invalid-file");
    expect(message).toMatch(/^head 0: Q or K/);
  });

  test.each([0, 1, 168])("a Σ that is not finite at %i is refused as the layer's inputs", async (at) => {
    const { code, message } = await refusal("sigma", at, Number.NaN);
    expect(code).toBe("invalid-file");
    expect(message).toContain("inputs");
  });
});

describe("the trust in measured moments", () => {
  test("moments that are not trusted tie as spectral does, whatever they are", () => {
    for (const bare of [false, true]) {
      const input = randomLayer({ seed: 5, strategy: "calibrated", bare });
      const moments = Float64Array.from({ length: 36 }, (_, at) => (at % 7 === 0 ? 1 + at : 0.1));
      const keyMoments = Array.from({ length: input.n_head }, () => moments);
      const untrusted = tieLayer({ ...input, keyMoments, trust: 0 });
      const spectral = tieLayer({ ...input, strategy: "spectral", inputs: null });
      expect(tieLayer({ ...input, keyMoments }).errors).not.toEqual(untrusted.errors);
      for (const [head, error] of untrusted.errors.entries())
        expect(error).toBeCloseTo(spectral.errors[head] as number, 3);
    }
  });
});
