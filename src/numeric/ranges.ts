// Writes ascending whole numbers as ranges.

/** "0-2,5,7-8", with `separator` in place of the comma. */
export function formatRanges(numbers: Iterable<number>, separator = ","): string {
  const ranges: [first: number, last: number][] = [];
  for (const number of numbers) {
    const range = ranges.at(-1);
    if (range && number === range[1] + 1) range[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(separator);
}
