// The choice of a token: Hugging Face's numbers for each step, ties, draws by their frequencies, seeds.
import { describe, expect, it } from "vitest";
import {
  draw,
  findKthLargest,
  isGreedy,
  makeSampler,
  type SamplingOptions,
  selectCandidates,
} from "../../../src/inference/generate/sampling.ts";
import { makeRandom, xoshiro128 } from "../../../src/numeric/random.ts";
import { failureOf } from "../../support/failure.ts";

/** Ids 3 and 6 are equally likely. */
const LOGITS = [1.5, -0.5, 0.25, 2.0, -1.0, 0.75, 2.0, -3.0];
const PROMPT = [3, 1, 3, 7];

function probabilities(options: SamplingOptions, logits = LOGITS): number[] {
  const { ids, weights } = selectCandidates(Float32Array.from(logits), options);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const all = logits.map(() => 0);
  for (const [i, id] of ids.entries()) all[id] = (weights[i] as number) / total;
  return all;
}

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(actual[i]).toBeCloseTo(value, 5);
}

describe("probabilities of the next token", () => {
  // softmax of transformers' warpers (5.18) on LOGITS
  it.each<[string, SamplingOptions, number[]]>([
    [
      "temperature 0.7",
      { temperature: 0.7 },
      [0.175969, 0.010106, 0.029506, 0.359457, 0.004947, 0.060273, 0.359457, 0.000284],
    ],
    ["top-k 3", { topK: 3 }, [0.232697, 0, 0, 0.383652, 0, 0, 0.383652, 0]],
    ["top-k 1 with a tie", { topK: 1 }, [0, 0, 0, 0.5, 0, 0, 0.5, 0]],
    ["top-p 0.8", { topP: 0.8 }, [0.232697, 0, 0, 0.383652, 0, 0, 0.383652, 0]],
    ["top-p 0.5", { topP: 0.5 }, [0, 0, 0, 0.5, 0, 0, 0.5, 0]],
    ["temperature 1.5, then top-p 0.7", { temperature: 1.5, topP: 0.7 }, [0.263767, 0, 0, 0.368116, 0, 0, 0.368116, 0]],
    ["top-k 4, then top-p 0.9", { topK: 4, topP: 0.9 }, [0.232697, 0, 0, 0.383652, 0, 0, 0.383652, 0]],
  ])("the probabilities are Hugging Face's for %s", (_, options, expected) => {
    expectClose(probabilities(options), expected);
  });

  it("the probabilities keep all tokens with top-k 0, with top-k as large as the vocabulary, and with top-p 1", () => {
    const all = probabilities({});
    for (const options of [{ topK: 0 }, { topK: 8 }, { topK: 99 }, { topP: 1 }])
      expect(probabilities(options)).toEqual(all);
    expect(all.every((p) => p > 0)).toBe(true);
  });

  it("the probabilities keep the likeliest token however small top-p is", () => {
    expect(probabilities({ topP: 1e-9 }, [0, 3, 1])).toEqual([0, 1, 0]);
  });

  it("the probabilities with top-p on a large vocabulary are those of the definition", () => {
    const random = makeRandom(4);
    const logits = Array.from({ length: 5000 }, () => Math.fround(Math.floor(1e4 * random()) / 1e3));
    const full = probabilities({}, logits);
    for (const topP of [0.05, 0.5, 0.9, 0.999]) {
      // The smallest set of likeliest tokens that reaches p, by sorting everything.
      const order = [...full.keys()].sort((a, b) => (full[b] as number) - (full[a] as number));
      const kept = new Set<number>();
      let sum = 0;
      let last = 1;
      for (const id of order) {
        if (sum >= topP && (full[id] as number) < last) break; // equals stay together
        last = full[id] as number;
        kept.add(id);
        sum += full[id] as number;
      }
      const ours = probabilities({ topP }, logits);
      expect(new Set(ours.flatMap((p, id) => (p > 0 ? [id] : [])))).toEqual(kept);
    }
  });
});

describe("the k-th largest value", () => {
  it("the k-th largest value is that of the sorted list", () => {
    const random = makeRandom(9);
    const values = Float32Array.from({ length: 1000 }, () => Math.floor(300 * random())); // with many ties
    const sorted = values.slice().sort().reverse();
    for (const k of [1, 2, 7, 40, 333, 999, 1000]) expect(findKthLargest(values, k)).toBe(sorted[k - 1]);
  });

  it("the k-th largest value is -∞ where there are fewer finite ones", () => {
    expect(findKthLargest(Float32Array.of(1, Number.NEGATIVE_INFINITY, 3), 3)).toBe(Number.NEGATIVE_INFINITY);
  });
});

describe("the repetition penalty", () => {
  it("the repetition penalty is Hugging Face's, on prompt and text, once per token", () => {
    const logits = Float32Array.from(LOGITS);
    const sampler = makeSampler({ repetitionPenalty: 1.3 }, () => 0, PROMPT);
    expect(sampler(logits)).toBe(6);
    expectClose([...logits], [1.5, -0.65, 0.25, 1.5384615, -1, 0.75, 2, -3.8999999]);
    const second = Float32Array.from(LOGITS);
    expect(sampler(second)).toBe(3); // 6 has been written by now: 2 / 1.3 for both
    expectClose([...second], [1.5, -0.65, 0.25, 1.5384615, -1, 0.75, 1.5384615, -3.8999999]);
  });

  it("the repetition penalty comes before temperature, top-k and top-p", () => {
    const options = { repetitionPenalty: 1.3, temperature: 0.7, topK: 5, topP: 0.85 };
    const logits = Float32Array.from(LOGITS);
    makeSampler(options, () => 0, PROMPT)(logits);
    expectClose(probabilities(options, [...logits]), [0.243949, 0, 0, 0.257728, 0, 0, 0.498322, 0]);
  });
});

describe("greedy choice and invalid logits", () => {
  it("greedy choice is the default and is what temperature 0 gives", () => {
    expect([{}, { repetitionPenalty: 2 }, { temperature: 0, topK: 5 }].map(isGreedy)).toEqual([true, true, true]);
    expect([{ temperature: 1 }, { topK: 5 }, { topP: 0.5 }].map(isGreedy)).toEqual([false, false, false]);
  });

  it("greedy choice takes the first of the largest logits, without a draw", () => {
    const sampler = makeSampler({}, () => {
      throw new Error("a draw");
    });
    expect(sampler(Float32Array.from(LOGITS))).toBe(3);
  });

  it.each([
    [Number.NaN, 0, 0],
    [0, 0, Number.NaN],
    [0, Number.POSITIVE_INFINITY, 0],
    [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY],
  ])("the logits %s, %s, %s are refused, sampled or not", async (...logits) => {
    for (const options of [{}, { topK: 2 }]) {
      const sampler = makeSampler(options, () => 0, [], "out/onnx");
      const { code, message } = await failureOf(() => sampler(Float32Array.from(logits)));
      expect({ code, message }).toEqual({ code: "invalid-file", message: "out/onnx: its logits are not finite" });
    }
  });
});

describe("drawing a token", () => {
  it("a draw is the token at the drawn share of the sum", () => {
    const three = { ids: Int32Array.of(1, 3, 4), weights: Float64Array.of(1, 2, 1) };
    expect([0, 0.249, 0.25, 0.749, 0.75, 0.9999, 1].map((at) => draw(three, at))).toEqual([1, 1, 3, 3, 4, 4, 4]);
  });

  it.each<SamplingOptions>([{ temperature: 1 }, { temperature: 0.7, topK: 5 }, { topP: 0.9 }])(
    "draws have the frequencies of the probabilities (%j)",
    (options) => {
      const sampler = makeSampler(options, makeRandom(12));
      const expected = probabilities(options);
      const draws = 40_000;
      const counts = LOGITS.map(() => 0);
      for (let i = 0; i < draws; i++) {
        const id = sampler(Float32Array.from(LOGITS));
        counts[id] = (counts[id] as number) + 1;
      }
      let chiSquare = 0;
      for (const [id, p] of expected.entries()) {
        if (p === 0) expect(counts[id]).toBe(0);
        else chiSquare += ((counts[id] as number) - draws * p) ** 2 / (draws * p);
      }
      // 7 degrees of freedom at most: χ² exceeds 24.3 once in a thousand seeds.
      expect(chiSquare).toBeLessThan(24.3);
    },
  );
});

describe("random numbers", () => {
  it("the random numbers are those of xoshiro128**", () => {
    const next = xoshiro128(Uint32Array.of(1, 2, 3, 4));
    expect(Array.from({ length: 8 }, next)).toEqual([
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849,
    ]);
  });

  it("the random numbers follow from seed and stream", () => {
    const first = (seed: number, stream?: number) => {
      const next = makeRandom(seed, stream);
      return Array.from({ length: 4 }, next);
    };
    expect(first(7)).toEqual(first(7, 0));
    const all = [first(7), first(7, 1), first(8), first(8, 1), first(0)];
    expect(new Set(all.flat()).size).toBe(20);
  });

  it("the random numbers fill [0, 1) evenly, also across seeds", () => {
    const perSeed = Array.from({ length: 5000 }, (_, seed) => makeRandom(seed)());
    const next = makeRandom(3);
    const ofOne = Array.from({ length: 5000 }, next);
    for (const values of [perSeed, ofOne]) {
      const counts = Array<number>(20).fill(0);
      for (const value of values) counts[Math.floor(20 * value)] = (counts[Math.floor(20 * value)] as number) + 1;
      const chiSquare = counts.reduce((sum, count) => sum + (count - 250) ** 2 / 250, 0);
      expect(chiSquare).toBeLessThan(43.8); // 19 degrees of freedom, one in a thousand
    }
  });
});
