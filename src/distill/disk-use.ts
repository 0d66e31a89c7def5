// Estimates the space that a run takes on the disk.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { countElements } from "../formats/dtype.ts";
import { listParameters } from "../model/parameters.ts";
import type { TrainSettings } from "./train-settings.ts";

export interface DiskUse {
  /** Most of OUTPUT.run while the run is on; it goes at the end. */
  run: number;
  /** The model. */
  output: number;
  /** Files of token ids and of the teacher's output in the folder for cache files, which stay. */
  cache: number;
}

interface RunSizes {
  isTrained: (name: string) => boolean;
  steps: number;
  cache: number;
  /** Whether the mean of the parameters is kept. */
  averaged?: boolean;
}

/** Bytes of a line of metrics.jsonl. */
const METRICS_LINE = 300;

/**
 * OUTPUT.run holds the parameters with two moments, and their mean where one is kept, and the best parameters; a checkpoint is written beside the one that
 * it replaces. All are float32.
 * @param run `isTrained` says which parameters move; `cache` are bytes of cache files
 */
export function estimateDisk(
  { config, tensors }: Checkpoint,
  { isTrained, steps, cache, averaged = false }: RunSizes,
): DiskUse {
  const moving = listParameters(config).filter(({ name }) => isTrained(name));
  const trained = moving.reduce((sum, { shape }) => sum + 4 * countElements(shape), 0);
  return {
    run: 2 * (averaged ? 4 : 3) * trained + trained + METRICS_LINE * steps,
    output: [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
    cache,
  };
}

/** Bytes of the ids of a text in the token cache, and of the teacher's most likely tokens of some windows. */
export function estimateCache(
  { config }: Checkpoint,
  { length, cacheTeacher: k }: Pick<TrainSettings, "length" | "cacheTeacher">,
  { textTokens, windows }: { textTokens: number; windows: number },
): number {
  const idBytes = config.vocab_size <= 2 ** 16 ? 2 : 4;
  return textTokens * idBytes + (k > 0 ? windows * (8 + length * k * (idBytes + 2)) : 0);
}
