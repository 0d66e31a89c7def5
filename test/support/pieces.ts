// Runs a computation that is made of pieces to its end at once.

export function finish<T>(pieces: Generator<void, T>): T {
  for (;;) {
    const { done, value } = pieces.next();
    if (done) return value;
  }
}
