// Measures how long a step takes.

/** Mean seconds of a call, as many as fit; the first one, which prepares kernels and memory, counts only if it is alone. */
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
  while (first + sum < seconds) sum += await time(++count, first + sum);
  return count > 0 ? sum / count : first;
}
