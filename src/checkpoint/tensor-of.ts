// Looks up a parameter's tensor in an open checkpoint.
import type { Checkpoint, CheckpointTensor } from "./checkpoint.ts";

/** A parameter's tensor; that an open checkpoint has all of them is its own promise, so a missing one is our bug. */
export function requireTensor(checkpoint: Checkpoint, name: string): CheckpointTensor {
  const tensor = checkpoint.tensors.get(name);
  if (tensor === undefined) throw new Error(`${checkpoint.source}: no tensor ${name}`);
  return tensor;
}
