// Shares out ranks over layers: where a number more in each head saves most.

/** Numbers of each head: the same in all layers, one entry a layer, or a share of D that layers have on average. */
export type RankChoice = number | readonly number[] | { share: number };

/** What the rank of one part of a layer costs and saves. */
export interface RankSpectrum {
  /** The loss at each rank from 0 to D, falling ever more slowly: [D + 1] */
  losses: Float64Array;
  /** Parameters that one more rank takes. */
  parameters: number;
}

/**
 * The ranks, each at least 1, of the least summed loss that together take at most `budget` parameters. One rank after
 * another goes to where it saves most for its parameters, which is the optimum where each falls ever more slowly, but for
 * parameters left at the end that are too few for any.
 * @returns one rank a spectrum; all 1 where the budget does not suffice for more
 */
export function allocateRanks(spectra: readonly RankSpectrum[], budget: number): number[] {
  const ranks = spectra.map(() => 1);
  let left = budget - spectra.reduce((sum, { parameters }) => sum + parameters, 0);
  for (;;) {
    let best = -1;
    let most = 0;
    for (const [at, spectrum] of spectra.entries()) {
      const gain = measureGain(spectrum, ranks[at] as number);
      if (spectrum.parameters <= left && gain !== null && (best < 0 || gain > most)) [best, most] = [at, gain];
    }
    if (best < 0) return ranks;
    ranks[best] = (ranks[best] as number) + 1;
    left -= (spectra[best] as RankSpectrum).parameters;
  }
}

/** What one rank more saves, a parameter; null where there is none to add. */
function measureGain({ losses, parameters }: RankSpectrum, rank: number): number | null {
  if (rank + 1 >= losses.length) return null;
  return ((losses[rank] as number) - (losses[rank + 1] as number)) / parameters;
}
