// Chooses which layers of a model stay: by the measured loss of the model without each, or evenly spaced.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { throwIfAborted } from "../../errors.ts";
import { embedWindowsApart, type Hidden } from "../../inference/layerwise.ts";
import type { CutTools } from "../cut.ts";
import { countTokens } from "../statistics/calibration-text.ts";
import { type Divergence, DivergenceMeter } from "../statistics/divergence.ts";
import { moveStreams } from "../statistics/layer-stream.ts";

/** Tokens of the calibration text that layers are chosen on. */
const CHOICE_TOKENS = 4096;
/** Layers that are tried in a round: of more, those that change the stream least. */
const MAX_CANDIDATES = 12;

/** A layer that went, and how far from the source the model was without it and those before. */
interface RemovedLayer extends Divergence {
  layer: number;
}

export interface LayerChoice {
  /** Indices in the source, ascending. */
  kept: number[];
  /** In the order in which they went. */
  removed: RemovedLayer[];
  tokens: number;
}

/** Evenly spaced layers with the first and the last, as DistilGPT2 began: 0, 2, 4, 7, 9, 11 of 12. */
export function spaceLayers(count: number, keep: number): number[] {
  if (keep === 1) return [0];
  return Array.from({ length: keep }, (_, i) => Math.round((i * (count - 1)) / (keep - 1)));
}

/**
 * Removes one layer after another: in each round the one without which the model is nearest the source (mean
 * KL(source ‖ model) on the calibration text). A round is one pass through the layers, in which the stream without layer
 * l leaves the common one at l, so that what comes before is computed once.
 */
export async function chooseLayers(
  checkpoint: Checkpoint,
  keep: number,
  windows: readonly Int32Array[],
  tools: CutTools,
): Promise<LayerChoice> {
  const chosen = takeTokens(windows, CHOICE_TOKENS);
  const { n_layer } = checkpoint.config;
  const start = await embedWindowsApart(checkpoint, chosen);
  const progress = makeProgress(n_layer, keep, tools);
  const { last: reference, changes } = await runSource(checkpoint, start, progress, tools);
  const meter = await DivergenceMeter.open(checkpoint, tools);
  try {
    let kept = changes.map((_, layer) => layer);
    const removed: RemovedLayer[] = [];
    while (kept.length > keep) {
      const candidates = limitCandidates(kept, changes);
      const streams = await runWithoutEach(checkpoint, { kept, candidates, start, progress }, tools);
      const costs = await meter.measure(chosen, reference, streams);
      const [first] = candidates
        .map((layer, i): RemovedLayer => ({ layer, ...(costs[i] as Divergence) }))
        .sort((a, b) => a.kl - b.kl);
      const gone = first as RemovedLayer;
      removed.push(gone);
      kept = kept.filter((layer) => layer !== gone.layer);
    }
    return { kept, removed, tokens: countTokens(chosen) };
  } finally {
    await meter.close();
  }
}

/** Whole windows of about `count` tokens, at least one. */
function takeTokens(windows: readonly Int32Array[], count: number): Int32Array[] {
  const length = windows[0]?.length ?? 1;
  return windows.slice(0, Math.max(1, Math.ceil(count / length)));
}

type Progress = (detail: string) => void;

/** Counts layers passed: once through the source, and once through what is left in each round. */
function makeProgress(layers: number, keep: number, { onProgress, signal }: CutTools): Progress {
  let total = layers;
  for (let left = layers; left > keep; left--) total += left;
  let done = 0;
  return (detail) => {
    throwIfAborted(signal);
    onProgress?.({ phase: "choosing layers", done: done++, total, unit: "layers", detail });
  };
}

/** The stream after the last layer, and by how much each layer changes the stream: Σ‖after − before‖² / Σ‖before‖². */
async function runSource(
  checkpoint: Checkpoint,
  start: Hidden[],
  progress: Progress,
  { device, threads, signal }: CutTools,
) {
  let stream = start;
  const changes: number[] = [];
  for (let layer = 0; layer < checkpoint.config.n_layer; layer++) {
    progress(`h.${layer}`);
    const [after] = (await moveStreams(checkpoint, layer, [stream], { device, threads, signal })) as [Hidden[]];
    let [change, size] = [0, 0];
    for (const [w, { x }] of after.entries()) {
      const before = (stream[w] as Hidden).x;
      for (let i = 0; i < x.length; i++) {
        change += ((x[i] as number) - (before[i] as number)) ** 2;
        size += (before[i] as number) ** 2;
      }
    }
    changes.push(change / size);
    stream = after;
  }
  return { last: stream, changes };
}

function limitCandidates(kept: readonly number[], changes: readonly number[]): number[] {
  const least = [...kept].sort((a, b) => (changes[a] as number) - (changes[b] as number));
  return least.slice(0, MAX_CANDIDATES).sort((a, b) => a - b);
}

interface Round {
  kept: readonly number[];
  /** Ascending. */
  candidates: readonly number[];
  start: readonly Hidden[];
  progress: Progress;
}

/** The last streams of the models of the kept layers without each candidate. */
async function runWithoutEach(
  checkpoint: Checkpoint,
  { kept, candidates, start, progress }: Round,
  { device, threads, signal }: CutTools,
): Promise<Hidden[][]> {
  let whole: Hidden[][] = [[...start]]; // emptied once all candidates have left it
  let without: Hidden[][] = [];
  for (const layer of kept) {
    progress(`h.${layer}`);
    const before = whole[0];
    if (layer === candidates.at(-1)) whole = [];
    const after = await moveStreams(checkpoint, layer, [...whole, ...without], { device, threads, signal });
    whole = after.slice(0, whole.length);
    without = after.slice(whole.length);
    if (before && candidates.includes(layer)) without.push(before);
  }
  return without;
}
