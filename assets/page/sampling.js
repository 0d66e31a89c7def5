// Chooses the next token as nfc generate does: temperature, top-k, top-p, and a seeded draw.

/**
 * The id of the next token: the likeliest at temperature 0, else one that `random` draws from the `topK` likeliest
 * (0: all), and of these from the smallest set of likeliest ones whose probability reaches `topP`. Tokens as likely as
 * the last one of a set stay.
 */
export function chooseToken(logits, { temperature, topK, topP }, random) {
  if (temperature === 0) return logits.indexOf(logits.reduce((most, logit) => Math.max(most, logit)));
  const best = logits.slice().sort().reverse();
  const last = topK > 0 ? best[Math.min(topK, best.length) - 1] : -Infinity;
  const kept = best.filter((logit) => logit >= last);
  const weigh = (logit) => Math.exp((logit - best[0]) / temperature);
  const least = kept[countNucleus(kept, topP, weigh) - 1];
  const likely = [...logits.keys()].filter((id) => logits[id] >= least);
  const weights = likely.map((id) => weigh(logits[id]));
  let rest = random() * weights.reduce((sum, weight) => sum + weight);
  const drawn = weights.findIndex((weight) => {
    rest -= weight;
    return rest < 0;
  });
  return likely.at(drawn);
}

/** How many of the falling logits have the share `topP` of the probability. */
function countNucleus(kept, topP, weigh) {
  const total = kept.reduce((sum, logit) => sum + weigh(logit), 0);
  let [mass, count] = [0, 0];
  for (; mass < topP * total && count < kept.length; count++) mass += weigh(kept[count]);
  return count;
}

/** Numbers in [0, 1) by mulberry32 (public domain); equal seeds give equal numbers. */
export function makeRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}
