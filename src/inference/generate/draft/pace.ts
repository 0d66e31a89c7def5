// Chooses how many tokens to draft at a time by what the passes of both models cost, and tells what drafting gained.

/** Tokens drafted at a time at most, where the number is chosen. */
const MOST = 8;
/** Rounds without a draft at the beginning, which tell what a token costs without one. */
const PLAIN_ROUNDS = 4;
/** Then rounds of these lengths, which tell what a pass over several tokens costs. */
const TRIED = [4, 2, 4, 1];
/** After that, one round of this many is of the other kind, with a draft or without: costs change as the text grows. */
const RECHECK = 32;
/** The part that the past keeps in a mean at each new value. */
const KEPT = 0.9;

/** The outcome of a round: its tokens, how many of them were proposals, and the time of their choice in ms. */
export interface Settled {
  ids: number[];
  accepted: number;
  ms: number;
}

export interface DraftSummary {
  /** Passes of the model over drafted tokens, and the tokens that they gave. */
  steps: number;
  tokens: number;
  /** Tokens that the draft proposed, and those among them that the model kept. */
  proposed: number;
  accepted: number;
  /** A token's time without the draft, in ms: a pass of the model over one token, and the choice. Null before any. */
  plainMs: number | null;
}

export class Pace {
  private readonly fixed: number | null;
  private readonly greedy: boolean;
  private readonly counts = { steps: 0, tokens: 0, proposed: 0, accepted: 0 };
  private rounds = 0;
  /** Mean times in ms: a pass of the draft, of the model over one token, and the choice of a token. */
  private readonly draft = new Mean();
  private readonly single = new Mean();
  private readonly choice = new Mean();
  /** A pass of the model over several tokens, as a line over their number. */
  private readonly several = new Line();
  /** The share of tested proposals that was kept, begun at one half. */
  private readonly kept = new Mean(0.5);

  /** @param fixed tokens to draft at a time; null: chosen by their costs */
  constructor({ fixed = null, greedy }: { fixed?: number | null | undefined; greedy: boolean }) {
    this.fixed = fixed;
    this.greedy = greedy;
  }

  /** Tokens to draft in the next round. */
  next(): number {
    const { rounds } = this;
    if (rounds < PLAIN_ROUNDS) return 0;
    const recheck = rounds % RECHECK === 0;
    if (this.fixed !== null) return recheck ? 0 : this.fixed;
    const tried = TRIED[rounds - PLAIN_ROUNDS];
    if (tried !== undefined) return tried;
    const best = this.findBest();
    return recheck ? (best === 0 ? 2 : 0) : best;
  }

  drafted(ms: number): void {
    this.draft.add(ms);
  }

  /** A pass of the model over `count` tokens. The first one warms up and does not count. */
  ran(count: number, ms: number): void {
    if (this.rounds === 0) return;
    if (count === 1) this.single.add(ms);
    else this.several.add(count, ms);
  }

  /** The end of a round with so many proposals. */
  finished(proposed: number, { ids, accepted, ms }: Settled): void {
    this.rounds += 1;
    this.choice.add(ms / ids.length);
    if (proposed === 0) return;
    const { counts } = this;
    counts.steps += 1;
    counts.tokens += ids.length;
    counts.proposed += proposed;
    counts.accepted += accepted;
    for (let i = 0; i < Math.min(accepted + 1, proposed); i++) this.kept.add(i < accepted ? 1 : 0);
  }

  get summary(): DraftSummary {
    const single = this.single.value;
    return { ...this.counts, plainMs: single === null ? null : single + (this.choice.value ?? 0) };
  }

  private findBest(): number {
    let [best, most] = [0, 0];
    for (let k = 0; k <= MOST; k++) {
      const rate = this.estimateRate(k);
      if (rate > most) [best, most] = [k, rate];
    }
    return best;
  }

  /**
   * Tokens a ms with k drafted at a time, each kept with probability a: (1 + a + … + aᵏ) / (k·d + t(k + 1) + …), where
   * drawn text takes one more pass of the draft when all are kept. Leviathan et al. 2022, equation 1 and theorem 3.8.
   */
  private estimateRate(k: number): number {
    const a = this.kept.value ?? 0;
    const tokens = Array.from({ length: k + 1 }, (_, i) => a ** i).reduce((sum, share) => sum + share, 0);
    const passes = k + (this.greedy ? 0 : a ** k);
    const model = k === 0 ? (this.single.value ?? 0) : this.several.at(k + 1);
    return tokens / (passes * (this.draft.value ?? 0) + model + tokens * (this.choice.value ?? 0));
  }
}

/** A mean in which old values count less and less. */
class Mean {
  value: number | null;

  constructor(start: number | null = null) {
    this.value = start;
  }

  add(value: number): void {
    this.value = this.value === null ? value : KEPT * this.value + (1 - KEPT) * value;
  }
}

/** The line of least squares through points (x, y) of which old ones count less and less; it does not fall. */
class Line {
  private sums = { n: 0, x: 0, y: 0, xx: 0, xy: 0 };

  add(x: number, y: number): void {
    const { n, x: sx, y: sy, xx, xy } = this.sums;
    const [a, b] = [KEPT, 1];
    this.sums = { n: a * n + b, x: a * sx + x, y: a * sy + y, xx: a * xx + x * x, xy: a * xy + x * y };
  }

  at(x: number): number {
    const { n, x: sx, y: sy, xx, xy } = this.sums;
    if (n === 0) return 0;
    const spread = xx - (sx * sx) / n;
    const slope = spread > 1e-6 ? Math.max(0, (xy - (sx * sy) / n) / spread) : 0;
    return sy / n + slope * (x - sx / n);
  }
}
