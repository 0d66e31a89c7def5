// Sums what the tokens of a model cost over the windows of the source, whatever windows the model itself is read in.

/** What is measured at each token, in nats; `nll_against` and `kl` are about a second model. */
export interface TokenLosses {
  nll: Float32Array;
  nll_against: Float32Array;
  kl: Float32Array;
}

/** A window of the source: the means of one of its tokens, and its weight in those of the text. */
export interface Stretch {
  weight: number;
  nll: number;
  against: number;
  kl: number;
}

/** A text as a model reads it. */
export interface ReadText {
  ids: readonly number[];
  /** Of each of these, the place of the source's token that it is, or is a part of. */
  places: ArrayLike<number>;
}

interface Sums {
  tokens: number;
  scored: number;
  nll: number;
  against: number;
  kl: number;
}

/**
 * The stretches lie at the same bytes for every model of a source, so that losses can be compared stretch by stretch. The
 * first token of a window has no prediction: of its stretch, the other tokens stand for it.
 */
export class StretchSums {
  private readonly places: ArrayLike<number>;
  private readonly length: number;
  private readonly sums: Sums[];
  /** Tokens of the source in each stretch. */
  private readonly sizes: readonly number[];
  private at = 0; // tokens of the model in the windows so far

  /** @param count tokens of the source, `length` of them in a window */
  constructor({ places }: ReadText, { count, length }: { count: number; length: number }) {
    this.places = places;
    this.length = length;
    this.sizes = Array.from({ length: Math.ceil(count / length) }, (_, i) => Math.min(length, count - i * length));
    this.sums = this.sizes.map(() => ({ tokens: 0, scored: 0, nll: 0, against: 0, kl: 0 }));
    for (let t = 0; t < places.length; t++) this.sumsAt(t).tokens++;
  }

  /** Adds a window of the model: the losses of all of its tokens but the first. Windows come in the order of the text. */
  add({ nll, nll_against = nll, kl }: Pick<TokenLosses, "nll"> & Partial<TokenLosses>): void {
    for (let k = 0; k < nll.length; k++) {
      const sums = this.sumsAt(this.at + 1 + k);
      sums.scored++;
      sums.nll += nll[k] as number;
      sums.against += nll_against[k] as number;
      sums.kl += kl?.[k] ?? 0;
    }
    this.at += nll.length + 1;
  }

  private sumsAt(token: number): Sums {
    return this.sums[Math.floor((this.places[token] as number) / this.length)] as Sums;
  }

  /** The stretches of two tokens of the source and more. */
  list(): Stretch[] {
    return this.sums.flatMap(({ tokens, scored, ...sums }, i) => {
      const size = this.sizes[i] as number;
      if (size < 2) return [];
      const rate = tokens / size; // tokens of the model for each of the source
      const mean = (sum: number) => (sum / scored) * rate;
      return [{ weight: size - 1, nll: mean(sums.nll), against: mean(sums.against), kl: mean(sums.kl) }];
    });
  }
}
