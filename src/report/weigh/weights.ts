// Adds up parameters and bytes, of all tensors or by group.

/** Bytes and parameters; null for codes that are packed in a way that headers do not explain. */
export interface Weight<Count extends number | null = number | null> {
  parameters: Count;
  bytes: number;
}

/** The sum of all; its parameters are unknown as soon as those of one are. */
export function sumWeights<Count extends number | null>(weights: readonly Weight<Count>[]): Weight<Count> {
  const sum: Weight = { parameters: 0, bytes: 0 };
  for (const { parameters, bytes } of weights) {
    sum.parameters = sum.parameters === null || parameters === null ? null : sum.parameters + parameters;
    sum.bytes += bytes;
  }
  return sum as Weight<Count>; // null only where Count allows it
}

/** The sum of each group, in the order in which groups come up; bytes first, as baselines are written. */
export function sumGroups<Count extends number | null>(
  weights: readonly (Weight<Count> & { group: string })[],
): Record<string, Weight<Count>> {
  const groups = [...groupBy(weights, ({ group }) => group)];
  return Object.fromEntries(
    groups.map(([group, own]) => {
      const { parameters, bytes } = sumWeights(own);
      return [group, { bytes, parameters }];
    }),
  );
}

/** Items by key, keys in the order in which they come up. */
export function groupBy<Item, Key>(items: readonly Item[], keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}
