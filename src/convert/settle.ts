// Waits for several pieces of work that run at the same time.

/** All results once nothing runs any more. @throws the first fault, in time */
export async function settleAll<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const all = Promise.all(work);
  await Promise.allSettled([all, ...work]);
  return all;
}
