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

/** Opens a checkpoint as the flags say, with progress and Ctrl-C; the caller closes it. */
export async function openModel(
  { signal }: Context,
  model: string,
  flags: SourceFlags,
  progress: Progress,
): Promise<Checkpoint> {
  const { openCheckpoint } = await import("../checkpoint/checkpoint.ts");
  return openCheckpoint(model, { ...toOpenOptions(flags), signal, onProgress: progress.show });
}

/** Runs `use` on an open checkpoint. */
export async function withCheckpoint<T>(
  context: Context,
  model: string,
  flags: OutputFlags & SourceFlags,
  use: (checkpoint: Checkpoint, progress: Progress) => Promise<T>,
): Promise<T> {
  const progress = await Progress.open(context.io, flags);
  try {
    const checkpoint = await openModel(context, model, flags, progress);
    try {
      return await use(checkpoint, progress);
    } finally {
      await checkpoint.close();
    }
  } finally {
    progress.stop();
  }
}
