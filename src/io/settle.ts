// Waits for several pieces of work that run at the same time, and ends those that are not needed any more.

/** All results once nothing runs any more. @throws the first fault, in time */
export async function settleAll<const T extends readonly Promise<unknown>[]>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const all = Promise.all(work);
  await Promise.allSettled([all, ...work]);
  return all;
}

/**
 * Begins work, and lets `use` run beside it, which awaits what it needs. Once `use` has ended, by a fault or not, the signal
 * that both were given fires, and all that was begun is waited for: a fault of one ends the others.
 */
export async function withBackground<const Work extends readonly Promise<unknown>[], T>(
  outer: AbortSignal | undefined,
  begin: (signal: AbortSignal) => Work,
  use: (work: Work, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const signal = AbortSignal.any(outer ? [outer, stop.signal] : [stop.signal]);
  const work = begin(signal);
  // Attached before anything is awaited, so that no fault counts as unhandled.
  const settled = Promise.allSettled(work);
  try {
    return await use(work, signal);
  } finally {
    stop.abort();
    await settled;
  }
}
