// Opens the checkpoints that a command names, shows downloads, and closes them whatever happens.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { type SourceFlags, toOpenOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import type { Context, OutputFlags } from "./terminal.ts";

/**
 * For commands that run models: refuses before a model is downloaded, read or written.
 * @throws NfcError "missing-dependency" when onnxruntime-node is not installed or does not load
 */
export async function requireRuntime(): Promise<void> {
  const { checkDevice } = await import("../graph/session.ts");
  await checkDevice("cpu");
}

/** Runs `use` on an open checkpoint. */
export async function withCheckpoint<T>(
  context: Context,
  model: string,
  flags: OutputFlags & SourceFlags,
  use: (checkpoint: Checkpoint, progress: Progress) => Promise<T>,
): Promise<T> {
  const { openCheckpoint } = await import("../checkpoint/checkpoint.ts");
  const progress = await Progress.open(context.io, flags);
  try {
    const checkpoint = await openCheckpoint(model, {
      ...toOpenOptions(flags),
      signal: context.signal,
      onProgress: progress.show,
    });
    try {
      return await use(checkpoint, progress);
    } finally {
      await checkpoint.close();
    }
  } finally {
    progress.stop();
  }
}
