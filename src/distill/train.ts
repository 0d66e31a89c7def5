// Starts a training run or takes one up again: checks inputs, opens the corpora, and knows a changed run from its own.
import { NfcError } from "../errors.ts";
import { stageDirectory } from "../io/staging.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { refuseOwnSource } from "../model/own-source.ts";
import { sourceOf } from "../model/provenance.ts";
import { loadTokenizer } from "../model/tokenizer.ts";
import { holdOut, type TokenRange } from "./batches.ts";
import { corpusFiles, corpusKind } from "./corpus.ts";
import { Run, type TrainOptions, type TrainResult } from "./run.ts";
import { RunFolder, type RunIdentity } from "./run-folder.ts";
import { TokenCorpus } from "./token-cache.ts";
import { changedSettings } from "./train-settings.ts";

/**
 * Trains a model. While it runs, `OUTPUT.run` beside the output holds settings, checkpoint, best weights and metrics;
 * at the end the best weights become the output and that folder goes.
 * @throws NfcError "aborted" once the signal fires, after saving; "diverged" when the loss or its gradient is not finite
 * (the last checkpoint stays); "mismatch" for a resumed run whose settings or inputs changed, "exists", "invalid-file"
 */
export async function train(student: Checkpoint, options: TrainOptions): Promise<TrainResult> {
  const { output, force = false, settings, teacher = null, signal } = options;
  checkTeacher(student, teacher);
  const files = await corpusFiles(options.data);
  const heldOutFiles = options.heldOut ? await corpusFiles(options.heldOut) : null;
  await refuseOwnSource(output, student, [...files, ...(heldOutFiles ?? [])]);
  if (teacher) await refuseOwnSource(output, teacher);
  await (await stageDirectory(output, { force })).discard(); // refuses an output that is there before hours are spent
  const corpus = await openCorpus(files, student, options);
  const separate = heldOutFiles ? await openCorpus(heldOutFiles, student, options) : null;
  try {
    const split = separate ? { train: whole(corpus), heldOut: whole(separate) } : holdOut(corpus, settings.length);
    const identity: RunIdentity = {
      ...settings,
      variant: student.config.variant,
      model: await fingerprint(student, signal),
      teacher: teacher ? await fingerprint(teacher, signal) : null,
      data: corpus.fingerprint,
      "held-out data": separate?.fingerprint ?? null,
    };
    const folder = new RunFolder(output);
    await claim(folder, identity, options);
    const run = await Run.open(student, options, folder, split);
    try {
      return await run.finish();
    } finally {
      await run.close();
    }
  } finally {
    await corpus.close();
    await separate?.close();
  }
}

const whole = (corpus: TokenCorpus): TokenRange => ({ corpus, start: 0, end: corpus.tokens });

async function openCorpus(files: readonly string[], student: Checkpoint, options: TrainOptions): Promise<TokenCorpus> {
  const { field, cache, onProgress, signal } = options;
  const tokenizer = corpusKind(files) === "text" ? await loadTokenizer(student.folder, student.config) : null;
  return TokenCorpus.open(files, tokenizer, {
    vocabulary: student.config.vocab_size,
    ...(field !== undefined && { field }),
    ...(cache !== undefined && { cache }),
    ...(onProgress && { onProgress }),
    ...(signal && { signal }),
  });
}

async function fingerprint(checkpoint: Checkpoint, signal: AbortSignal | undefined): Promise<string> {
  const { files } = await sourceOf(checkpoint, signal);
  return files.map(({ sha256 }) => sha256).join();
}

function checkTeacher(student: Checkpoint, teacher: Checkpoint | null): void {
  if (!teacher || teacher.config.vocab_size === student.config.vocab_size) return;
  throw new NfcError(
    "mismatch",
    `${student.source} has ${student.config.vocab_size} tokens, its teacher ${teacher.source} ${teacher.config.vocab_size}`,
    { hint: "the teacher must have the student's vocabulary" },
  );
}

/** Begins a run folder, or checks that the one that is there may go on. */
async function claim(folder: RunFolder, identity: RunIdentity, { resume, force }: TrainOptions): Promise<void> {
  if (!resume) {
    if (folder.exists() && !force)
      throw new NfcError("exists", `${folder.path}: an unfinished run is there`, {
        hint: "go on with --resume, or start over with --force",
      });
    return folder.create(identity);
  }
  const changed = changedSettings(await folder.identity(), identity);
  if (changed.length > 0)
    throw new NfcError("mismatch", `${folder.path}: this run had other settings: ${changed.join(", ")}`, {
      hint: "resume with the settings that it began with, or start over with --force",
    });
}
