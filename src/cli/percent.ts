// Reads percentages on the command line.

/** "62.5%" as 62.5; null for anything else. */
export function readPercent(text: string): number | null {
  const [, number] = /^\s*(\d{1,9}(?:\.\d{1,9})?)\s*%\s*$/.exec(text) ?? [];
  return number === undefined ? null : Number(number);
}
