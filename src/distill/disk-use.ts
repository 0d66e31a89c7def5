// Estimates the space that a run takes on the disk.
import type { Checkpoint, CheckpointTensor } from "../checkpoint/checkpoint.ts";
import { countElements } from "../formats/dtype.ts";
import type { StateArray } from "./run-arrays.ts";
import { listBest, listState } from "./run-folder.ts";
import type { ParameterState } from "./step/parameter-state.ts";
import type { TrainSettings } from "./train-settings.ts";

export interface DiskUse {
  /** Most of OUTPUT.run while the run is on; it goes at the end. */
  run: number;
  /** The model. */
  output: number;
  /** Files of token ids and of the teacher's output in the folder for cache files, which stay. */
  cache: number;
}

/** Bytes of a line of metrics.jsonl. */
const METRICS_LINE = 300;

/** Bytes of OUTPUT.run when it is fullest: while a checkpoint is written beside the one that it replaces. */
export function estimateRunBytes(store: ParameterState, steps: number): number {
  const countBytes = (arrays: readonly StateArray[]) =>
    arrays.reduce((sum, { name, part }) => sum + 4 * countElements(store.shapePart(name, part) ?? []), 0);
  return 2 * countBytes(listState(store)) + countBytes(listBest(store)) + METRICS_LINE * steps;
}

/** Bytes of the model that a run writes: its tensors keep their types, but rounded ones are float32. */
export function estimateOutputBytes({ tensors }: Checkpoint, { rounds }: { rounds: boolean }): number {
  const countBytes = ({ shape, byteLength }: CheckpointTensor) => (rounds ? 4 * countElements(shape) : byteLength);
  return [...tensors.values()].reduce((sum, tensor) => sum + countBytes(tensor), 0);
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
