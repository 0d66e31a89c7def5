// Draws a few tokens of a distribution so that they stand for all of it: every sum over them is right on average.

/**
 * Draws k of the V tokens, token j with probability min(1, t_j/τ), where τ is such that these add up to k. Counted as
 * max(t_j, τ), every token counts t_j on average, and the k drawn ones add up to Σt each time. One number decides
 * (systematic sampling: Särndal, Swensson and Wretman 1992, 3.6): tokens of at least τ are taken, and of the others, laid
 * end to end, those on which the points (u + i)·τ fall.
 * @param t probabilities [V], V at least k
 * @param u a number in [0, 1)
 * @returns the k tokens, the most likely first
 */
export function drawTokens(t: Float32Array, k: number, u: number): number[] {
  const threshold = findThreshold(t, k);
  const drawn: number[] = [];
  const others: number[] = [];
  let [passed, point] = [0, u * threshold];
  for (const [j, probability] of t.entries()) {
    let chosen = probability >= threshold && probability > 0;
    if (!chosen) {
      passed += probability;
      chosen = passed > point;
      if (chosen) point += threshold;
    }
    if (chosen) drawn.push(j);
    else if (others.length < k) others.push(j);
  }
  // Rounding of the sums may leave one out or add one; tokens that have no probability fill up what is left.
  drawn.sort((a, b) => (t[b] as number) - (t[a] as number));
  return [...drawn.slice(0, k), ...others.slice(0, Math.max(0, k - drawn.length))];
}

/** τ with Σ min(1, t_j/τ) = k; 0 where k tokens have all of the probability. */
function findThreshold(t: Float32Array, k: number): number {
  const total = t.reduce((sum, x) => sum + x, 0);
  let [threshold, taken] = [total / k, 0];
  for (;;) {
    let [count, sum] = [0, 0];
    for (const x of t)
      if (x >= threshold) {
        count++;
        sum += x;
      }
    // What is taken lowers τ, so that more tokens may reach it, never more than k.
    if (count === taken) return threshold;
    if (count >= k) return 0;
    taken = count;
    threshold = Math.max(0, total - sum) / (k - count);
  }
}

/**
 * What each drawn token counts, max(t_j, τ): τ is found again from the tokens alone, because those of at least τ are
 * always among them. The counts add up to 1, as rounded probabilities do not.
 * @param logProbabilities ln t of the drawn tokens, the most likely first: [k]
 * @param weights takes the counts: [k]
 */
export function weighTokens(logProbabilities: Float32Array, weights: Float32Array): void {
  const k = logProbabilities.length;
  let [rest, sum, taken] = [1, 0, true];
  for (const [i, logProbability] of logProbabilities.entries()) {
    const probability = Math.exp(logProbability);
    const threshold = rest / (k - i);
    taken &&= probability >= threshold;
    const weight = taken ? probability : threshold;
    weights[i] = weight;
    rest -= weight;
    sum += weight;
  }
  for (let i = 0; i < k; i++) weights[i] = (weights[i] as number) / sum;
}
