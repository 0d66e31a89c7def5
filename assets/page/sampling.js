// Top-k and top-p, which transformers.js does not do together.

/**
 * Sets all logits to -Infinity but those of the `topK` likeliest tokens (0: all), and of these but the smallest set of
 * likeliest ones whose probability reaches `topP`. Tokens as likely as the last one of the set stay.
 */
export function keepLikely(logits, topK, topP) {
  const best = logits.slice().sort().reverse();
  const kept = topK > 0 ? best.subarray(0, topK) : best;
  const weight = (logit) => Math.exp(logit - kept[0]);
  const total = kept.reduce((sum, logit) => sum + weight(logit), 0);
  let [mass, last] = [0, 0];
  for (; mass < topP * total && last < kept.length; last++) mass += weight(kept[last]);
  const least = kept[last - 1];
  for (let i = 0; i < logits.length; i++) if (logits[i] < least) logits[i] = -Infinity;
}
