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
 * Begins work, and lets `use` run beside it, which awaits what it needs. At the first fault, and once `use` has ended, the
 * signal that all were given fires, and all that was begun is waited for.
 * @throws the first fault
 */
export async function withBackground<const Work extends readonly Promise<unknown>[], T>(
  outer: AbortSignal | undefined,
  begin: (signal: AbortSignal) => Work,
  use: (work: Work, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const signal = AbortSignal.any(outer ? [outer, stop.signal] : [stop.signal]);
  const work = begin(signal);
  let first: { fault: unknown } | undefined;
  // Attached before anything is awaited, so that no fault counts as unhandled.
  for (const each of work)
    each.catch((fault: unknown) => {
      first ??= { fault };
      stop.abort();
    });
  const settled = Promise.allSettled(work);
  try {
    return await use(work, signal);
  } catch (error) {
    throw first ? first.fault : error;
  } finally {
    stop.abort();
    await settled;
  }
}
