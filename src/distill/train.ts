// Starts a training run or takes one up again: checks inputs, opens the corpora, and knows a changed run from its own.
import { createHash } from "node:crypto";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { refuseOwnSource } from "../checkpoint/own-source.ts";
import { describeSource } from "../checkpoint/provenance.ts";
import { loadTokenizer } from "../checkpoint/tokenizer.ts";
import { NfcError } from "../errors.ts";
import { stageDirectory } from "../io/staging.ts";
import { refuseClassifier } from "../model/classifier.ts";
import { detectCorpusKind, findCorpusFiles } from "./data/corpus.ts";
import { TokenCorpus } from "./data/token-cache.ts";
import { holdOut, type TokenRange } from "./data/windows.ts";
import { Run, type TrainOptions, type TrainResult } from "./run.ts";
import { RunFolder, type RunIdentity, textStateSchema } from "./run-folder.ts";
import { listChangedSettings, resolveTrainSettings, type TrainSettings } from "./settings.ts";
import { canTransfer } from "./step/transfer-step.ts";
import { checkTeacherFits } from "./teacher/vocabulary-fit.ts";

/**
 * Trains a model. While it runs, `OUTPUT.run` beside the output holds settings, checkpoint, best weights and metrics;
 * at the end the best weights become the output and that folder goes.
 * @throws NfcError "aborted" once the signal fires, after saving; "diverged" when the loss or its gradient is not finite
 * (the last checkpoint stays); "mismatch" for a resumed run whose settings or inputs changed, "exists", "invalid-file"
 */
export async function train(student: Checkpoint, options: TrainOptions): Promise<TrainResult> {
  const { output, resume = false, teacher = null, signal } = options;
  for (const model of teacher ? [student, teacher] : [student]) refuseClassifier(model);
  const settings = settleSettings(student, options);
  checkTeacher(student, teacher, settings);
  const files = await findCorpusFiles(options.data);
  const heldOutFiles = options.heldOut ? await findCorpusFiles(options.heldOut) : null;
  await refuseOwnSource(output, student, [...files, ...(heldOutFiles ?? [])]);
  if (teacher) await refuseOwnSource(output, teacher);
  const folder = new RunFolder(output, textStateSchema);
  const force = options.force || (resume && (await folder.hasEnded()));
  await (await stageDirectory(output, { force })).discard(); // refuses an output that is there before hours are spent
  const corpus = await openCorpus(files, student, options);
  let separate: TokenCorpus | null = null;
  try {
    separate = heldOutFiles ? await openCorpus(heldOutFiles, student, options) : null;
    const split = separate ? { train: whole(corpus), heldOut: whole(separate) } : holdOut(corpus, settings.length);
    const identity: RunIdentity = {
      ...settings,
      variant: student.config.variant,
      model: await fingerprintModel(student, signal),
      teacher: teacher ? await fingerprintModel(teacher, signal) : null,
      data: corpus.fingerprint,
      "held-out data": separate?.fingerprint ?? null,
    };
    await claimRun(folder, identity, options);
    try {
      const run = await Run.open(student, { ...options, settings, force }, folder, split);
      try {
        if (!resume) await folder.create(identity);
        return await run.finish();
      } finally {
        await run.close();
      }
    } finally {
      await folder.release();
    }
  } finally {
    await corpus.close();
    await separate?.close();
  }
}

/** Attention is transferred by default where it can be: a dense student has its teacher's already, or never will. */
function settleSettings({ config }: Checkpoint, { settings = {}, teacher = null }: TrainOptions): TrainSettings {
  const transferable = teacher !== null && config.variant !== "dense" && canTransfer(config, teacher.config);
  return resolveTrainSettings(settings.task ?? (teacher ? "distill" : "finetune"), config, {
    ...settings,
    transferable,
  });
}

const whole = (corpus: TokenCorpus): TokenRange => ({ corpus, start: 0, end: corpus.tokens });

async function openCorpus(files: readonly string[], student: Checkpoint, options: TrainOptions): Promise<TokenCorpus> {
  const { field, cache, onProgress, signal } = options;
  const tokenizer = detectCorpusKind(files) === "text" ? await loadTokenizer(student.folder, student.config) : null;
  return TokenCorpus.open(files, tokenizer, {
    vocabulary: student.config.vocab_size,
    ...{ field, cache, onProgress, signal },
  });
}

/** sha256 over the weight files' hashes and the configuration. */
export async function fingerprintModel(checkpoint: Checkpoint, signal: AbortSignal | undefined): Promise<string> {
  const { files } = await describeSource(checkpoint, signal);
  const parts = [files.map(({ sha256 }) => sha256), checkpoint.config];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** @throws NfcError "mismatch" where the two cannot be compared token by token, "usage" for settings without a teacher */
function checkTeacher(student: Checkpoint, teacher: Checkpoint | null, settings: TrainSettings): void {
  const { kd, transferSteps, length } = settings;
  if (!teacher) {
    if (kd > 0 || transferSteps > 0)
      throw new NfcError("usage", "there is no teacher", { hint: "set kd and transferSteps to 0" });
    return;
  }
  checkTeacherFits(student, teacher, length);
  if (transferSteps > 0 && !canTransfer(student.config, teacher.config))
    throw new NfcError(
      "mismatch",
      `${student.source} and its teacher ${teacher.source} differ in layers, heads or width`,
      { hint: "no attention can be transferred: give --transfer-steps 0" },
    );
}

/**
 * Whether this run may begin, or go on; then its folder is this process's, until it is released.
 * @throws NfcError "exists", also while another process is at work in it; "not-found", "mismatch"
 */
export async function claimRun(
  folder: Pick<RunFolder, "path" | "refuseOccupied" | "identity" | "claim">,
  identity: RunIdentity,
  { resume, force = false }: Pick<TrainOptions, "resume" | "force">,
): Promise<void> {
  if (!resume) {
    await folder.refuseOccupied(force);
    return folder.claim();
  }
  const changed = listChangedSettings(await folder.identity(), identity);
  if (changed.length > 0)
    throw new NfcError("mismatch", `${folder.path}: this run had other settings: ${changed.join(", ")}`, {
      hint: "resume with the settings that it began with, or start over with --force",
    });
  return folder.claim();
}
