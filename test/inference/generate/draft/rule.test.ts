// The law of drafted text: exact probabilities of a tiny model at three places, a χ² test, and rules that it refutes.
import { describe, expect, it } from "vitest";
import type { Tokenizer } from "../../../../src/checkpoint/tokenizer.ts";
import { DraftedText } from "../../../../src/inference/generate/draft/decode-drafted.ts";
import { Pace } from "../../../../src/inference/generate/draft/pace.ts";
import {
  findShare,
  type Proposal,
  SpeculativeRule,
  subtractShares,
} from "../../../../src/inference/generate/draft/rule.ts";
import {
  type Candidates,
  draw,
  type SamplingOptions,
  selectCandidates,
} from "../../../../src/inference/generate/sampling.ts";
import { TextRow } from "../../../../src/inference/generate/text-row.ts";
import { makeRandom } from "../../../../src/numeric/random.ts";
import { slowUnless } from "../../../support/slow.ts";
import { tableDecoder, tableLogits, TABLE_VOCABULARY as V } from "../../../support/table-model.ts";

const [MODEL, DRAFT] = [3, 8];
const PROMPT = [1, 2];
const TOKENS = 3;
const SEEDS = 4_000;
const tokenizer: Tokenizer = {
  ...{ name: "", fingerprint: "", size: V, encode: () => [], stream: async function* () {} },
  decode: (ids) => ids.join(""),
};

class FixedPace extends Pace {
  private readonly count: number;
  constructor(count: number) {
    super({ greedy: false });
    this.count = count;
  }
  override next(): number {
    return this.count;
  }
}

type Rule = new (options: SamplingOptions, seed: number, stream: number) => SpeculativeRule;

/** How often each text of three tokens came, by its ids as a number of base V. */
async function countTexts(options: SamplingOptions, count: number, Rule: Rule = SpeculativeRule): Promise<number[]> {
  const [model, draft] = [tableDecoder(MODEL), tableDecoder(DRAFT)];
  const counts = Array<number>(V ** TOKENS).fill(0);
  for (let seed = 0; seed < SEEDS; seed++) {
    const text = new DraftedText({ model, draft, pace: new FixedPace(count) }, new Rule(options, seed, 0), PROMPT);
    // One token more than is looked at, so that the last one is drafted too.
    const row = new TextRow(0, PROMPT, tokenizer, model.config, { maxNewTokens: TOKENS + 1 });
    const ids: number[] = [];
    for await (const { id } of text.write(row, undefined)) ids.push(id as number);
    const cell = ids.slice(0, TOKENS).reduce((sum, id) => sum * V + id, 0);
    counts[cell] = (counts[cell] as number) + 1;
  }
  return counts;
}

/** The probabilities of the texts by the model alone. */
function exactTexts(options: SamplingOptions): number[] {
  return Array.from({ length: V ** TOKENS }, (_, cell) => {
    const ids = Array.from({ length: TOKENS }, (_, i) => Math.floor(cell / V ** (TOKENS - 1 - i)) % V);
    return ids.reduce((product, id, i) => {
      const logits = Float32Array.from(tableLogits(MODEL, [...PROMPT, ...ids.slice(0, i)]));
      return product * findShare(selectCandidates(logits, options), id);
    }, 1);
  });
}

/** Pearson's χ² as a standard normal (Wilson and Hilferty); impossible cells must be empty. */
function scoreOf(counts: readonly number[], probabilities: readonly number[]): number {
  let [sum, cells] = [0, 0];
  for (const [i, p] of probabilities.entries()) {
    const count = counts[i] as number;
    if (p === 0) expect(count).toBe(0);
    else {
      sum += (count - SEEDS * p) ** 2 / (SEEDS * p);
      cells += 1;
    }
  }
  const [freedom, spread] = [cells - 1, 2 / (9 * (cells - 1))];
  return (Math.cbrt(sum / freedom) - (1 - spread)) / Math.sqrt(spread);
}

const CASES: [string, SamplingOptions][] = [
  ["temperature 1", { temperature: 1 }],
  ["temperature 0.7 and top-k 3", { temperature: 0.7, topK: 3 }],
  ["top-p 0.8", { topP: 0.8 }],
];
/** A sound sampler exceeds this once in three million tests. */
const BOUND = 5;

describe("the distribution of drafted text", () => {
  for (const [name, options] of CASES)
    it(`drafted text has the model's exact probabilities with ${name}`, slowUnless("topK" in options), async () => {
      const exact = exactTexts(options);
      for (const count of [1, 3])
        expect(Math.abs(scoreOf(await countTexts(options, count), exact))).toBeLessThan(BOUND);
    });

  it("the test refutes a rule that replaces by p instead of max(p − q, 0), and one that keeps too much", async () => {
    class ReplaceByModel extends SpeculativeRule {
      override settle(...[logits, before, place, source, proposal]: Parameters<SpeculativeRule["settle"]>): number {
        const p = selectCandidates(logits, {});
        const id = super.settle(logits, before, place, source, proposal);
        return id === proposal?.id ? id : draw(p, makeRandom(place, before.length + id)());
      }
    }
    class KeepMore extends SpeculativeRule {
      override settle(...[logits, before, place, source, proposal]: Parameters<SpeculativeRule["settle"]>): number {
        const softer = proposal?.q && { ...proposal, q: flatten(proposal.q) };
        return super.settle(logits, before, place, source, softer ?? proposal);
      }
    }
    const exact = exactTexts({ temperature: 1 });
    for (const Rule of [ReplaceByModel, KeepMore])
      expect(scoreOf(await countTexts({ temperature: 1 }, 2, Rule), exact)).toBeGreaterThan(2 * BOUND);
  });
});

/** As if the draft had been drawn from the root of its distribution. */
const flatten = ({ ids, weights }: Candidates): Candidates => ({ ids, weights: weights.map(Math.sqrt) });

describe("the choice of one token", () => {
  const p: Candidates = { ids: Int32Array.of(1, 3, 5), weights: Float64Array.of(2, 1, 1) };
  const q: Candidates = { ids: Int32Array.of(0, 3, 4), weights: Float64Array.of(1, 3, 6) };

  it("shares are those of the weights, and 0 for other tokens", () => {
    expect([1, 3, 5, 0, 4, 9].map((id) => findShare(p, id))).toEqual([0.5, 0.25, 0.25, 0, 0, 0]);
  });

  it("the rest of p over q leaves out what q has more of", () => {
    expect(Array.from(subtractShares(p, q).weights)).toEqual([0.5, 0, 0.25]);
    expect(Array.from(subtractShares(q, p).weights)).toEqual([0.1, 0.04999999999999999, 0.6]);
  });

  it("a token that both models draw alike is always kept, and one that the model rules out never", () => {
    const logits = [0.3, 0.1, -1, 2];
    const likely: Proposal = { id: 3, q: selectCandidates(Float32Array.from(logits), {}) };
    for (let place = 0; place < 200; place++) {
      const rule = new SpeculativeRule({ topK: 2 }, place, 0);
      const alone = new SpeculativeRule({ temperature: 1 }, place, 0);
      expect(alone.settle(Float32Array.from(logits), [], place, "", likely)).toBe(3);
      expect([0, 3]).toContain(rule.settle(Float32Array.from(logits), [], place, "", { ...likely, id: 2 }));
    }
  });

  it("greedy text takes the model's likeliest token, whatever was proposed", () => {
    const rule = new SpeculativeRule({ repetitionPenalty: 2 }, 0, 0);
    expect(rule.propose(Float32Array.of(1, 0.9, 0, 0), [0], 0, "")).toEqual({ id: 1, q: null });
    expect(rule.settle(Float32Array.of(1, 0.4, 0, 0), [0], 0, "", { id: 1, q: null })).toBe(0);
  });

  it("logits that are not finite are refused, with the model's name", () => {
    const rule = new SpeculativeRule({}, 0, 0);
    expect(() => rule.propose(Float32Array.of(0, Number.NaN), [], 0, "the draft")).toThrow(
      "the draft: its logits are not finite",
    );
  });
});
