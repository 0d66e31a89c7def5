// Tells whether queries and keys have grown over a baseline: a model that was to be tied, or of low rank, and is no more.
import type { BaselineEntry } from "./baseline.ts";
import type { WeighedModel } from "./measure-model.ts";

/** Layers by the columns of c_attn that are queries and keys, in widths C: 2 of GPT-2, 1 where they are tied. */
type LayersByWidth = Readonly<Record<string, number>>;

/** @returns null where the columns of c_attn are not known */
export function countByWidth({ columns }: Pick<WeighedModel, "columns">): Record<string, number> | null {
  if (columns === null) return null;
  const layers: Record<string, number> = {};
  for (const count of columns.queryKey) {
    const width = count / columns.width;
    layers[width] = (layers[width] ?? 0) + 1;
  }
  return layers;
}

/**
 * They have grown where a layer has more columns of them on average, and more layers are at least as wide as one that is
 * there now. The mean alone rises where a model of uneven ranks loses its narrow layers, the widest layer alone where ranks
 * are shared out anew.
 * @returns the fault in one sentence, or null
 */
export function describeAttentionGrowth(model: WeighedModel, before: BaselineEntry): string | null {
  if (before.attention === 2 && model.attention === 3)
    return "K is back in c_attn: 3C columns where the baseline has 2C: convert the model again";
  const now = countByWidth(model);
  const old = before.queryKey ?? estimateWidth(model, before);
  if (now === null || old === null) return null;
  const [mean, oldMean] = [averageWidth(now), averageWidth(old)];
  if (!(mean > oldMean * (1 + LEAST_GROWTH)) || !hasMoreWide(now, old)) return null;
  const [columns, oldColumns] = [mean, oldMean].map((width) => `${Number(width.toPrecision(4))}C`);
  return `Q and K have grown in c_attn: ${columns} columns a layer where the baseline has ${oldColumns}: convert the model again`;
}

/** Less is no fault: a share of D is rounded to whole ranks, and has another mean over fewer layers. */
const LEAST_GROWTH = 0.01;

function averageWidth(layers: LayersByWidth): number {
  const entries = Object.entries(layers);
  const sum = entries.reduce((total, [width, count]) => total + Number(width) * count, 0);
  return sum / entries.reduce((total, [, count]) => total + count, 0);
}

/** Whether there is a width that more layers have at least than before. */
function hasMoreWide(now: LayersByWidth, old: LayersByWidth): boolean {
  const list = (layers: LayersByWidth, sign: number) =>
    Object.entries(layers).map(([width, count]) => [Number(width), sign * count] as const);
  const changes = [...list(old, -1), ...list(now, 1)].sort(([a], [b]) => b - a); // of equal widths the old layers come first
  let more = 0;
  return changes.some(([, change]) => {
    more += change;
    return more > 0;
  });
}

/**
 * The mean width by the groups of a baseline that an earlier version wrote, where the norms tell that C and the number of
 * layers are the model's. With b = 1 for biases, and sums over L layers, c_attn has (C + b) (Σqk + Σv) weights, and the
 * output C Σv + L b C. Forms A count with c_attn: the mean of a pairwise model comes out larger than it is.
 */
function estimateWidth({ columns, groups }: WeighedModel, before: BaselineEntry): LayersByWidth | null {
  const [norms, input, output] = ["norms", "attention q, k, v", "attention out"].map((group) =>
    Object.hasOwn(before.groups, group) ? (before.groups[group]?.parameters ?? null) : null,
  );
  if (columns === null || input == null || output == null || norms == null) return null;
  if (norms !== groups.norms?.parameters) return null;
  const { width: C, queryKey } = columns;
  const [L, b] = [queryKey.length, columns.biased ? 1 : 0];
  const values = output / C - L * b; // Σv
  const mean = (input / (C + b) - values) / (L * C);
  return mean > 0 ? { [mean]: L } : null;
}
