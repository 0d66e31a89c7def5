// Opens several things that have to be closed: where one fails, those before it are closed.

interface Closable {
  close(): Promise<unknown>;
}

/** Gives back what was opened; it is closed where something that is opened after it fails. */
export type Keep = <T extends Closable>(opened: T) => T;

/** @throws what `open` throws, once everything that it has kept is closed */
export async function openAll<T>(open: (keep: Keep) => Promise<T>): Promise<T> {
  const kept: Closable[] = [];
  try {
    return await open((opened) => {
      kept.push(opened);
      return opened;
    });
  } catch (error) {
    await Promise.allSettled(kept.map((opened) => opened.close())); // the first fault is the one to tell
    throw error;
  }
}
