// Measures how long a step takes.

/** A first call of more than so many times the seconds is not followed by another. */
const PATIENCE = 4;

/**
 * Mean seconds of a call, as many as fit. The first one prepares kernels and memory: it counts only where it is alone,
 * because it took much too long.
 */
export async function measure(
  seconds: number,
  call: (index: number, spent: number) => Promise<unknown>,
): Promise<number> {
  const time = async (index: number, spent: number) => {
    const started = performance.now();
    await call(index, spent);
    return (performance.now() - started) / 1000;
  };
  const first = await time(0, 0);
  let [count, sum] = [0, 0];
  while (first + sum < seconds || (count === 0 && first < PATIENCE * seconds)) sum += await time(++count, first + sum);
  return count > 0 ? sum / count : first;
}
