// The standard error of a weighted mean.

/** SE² = n/(n − 1) · Σ w²(x − x̄)² / (Σ w)² with x̄ = Σ w·x / Σ w; 0 for a single window, which tells nothing. */
export function computeStandardError<T extends { weight: number }>(
  windows: readonly T[],
  read: (window: T) => number,
): number {
  const total = windows.reduce((sum, { weight }) => sum + weight, 0);
  const mean = windows.reduce((sum, window) => sum + window.weight * read(window), 0) / total;
  const squares = windows.reduce((sum, window) => sum + (window.weight * (read(window) - mean)) ** 2, 0);
  return windows.length < 2 ? 0 : Math.sqrt((windows.length / (windows.length - 1)) * squares) / total;
}
