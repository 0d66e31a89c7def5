// Estimates the space that a run on text takes on the disk.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { countElements } from "../formats/dtype.ts";
import { listParameters } from "../model/parameters.ts";
import type { TrainSettings } from "./train-settings.ts";
import { isTrained } from "./trained-model.ts";

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

/**
 * OUTPUT.run holds the parameters with two moments, and the best parameters; a checkpoint is written beside the one that
 * it replaces. All are float32.
 * @param counts tokens of text that are cached, and windows whose teacher's output is
 */
export function estimateDisk(
  student: Checkpoint,
  settings: TrainSettings,
  { textTokens, windows }: { textTokens: number; windows: number },
): DiskUse {
  const { length, cacheTeacher: k, steps } = settings;
  const sizes = listParameters(student.config)
    .filter(({ name }) => isTrained(name, settings))
    .map(({ shape }) => 4 * countElements(shape));
  const trained = sizes.reduce((sum, size) => sum + size, 0);
  const idBytes = student.config.vocab_size <= 2 ** 16 ? 2 : 4;
  return {
    run: 2 * 3 * trained + trained + METRICS_LINE * steps,
    output: [...student.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
    cache: textTokens * idBytes + (k > 0 ? windows * (8 + length * k * (idBytes + 2)) : 0),
  };
}
