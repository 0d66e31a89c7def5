// Plans a run on text before anything is written: its settings, its files, and the run that it goes on with.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import { refuseOwnSource } from "../checkpoint/source-guard.ts";
import { NfcError } from "../errors.ts";
import { checkProducts } from "../graph/check-products.ts";
import type { SessionOptions } from "../graph/session.ts";
import { refuseClassifier } from "../model/classifier.ts";
import { findCorpusFiles } from "./data/corpus.ts";
import { type FinishedTextRun, textRuns } from "./extend-text.ts";
import { findBegunRun } from "./extension.ts";
import type { Given } from "./resolve-settings.ts";
import { RunFolder, type RunState, textStateSchema } from "./run-folder.ts";
import { checkTeacherFits } from "./teacher/teacher.ts";
import { findTeacherLayers } from "./teacher-layers.ts";
import { resolveTrainSettings, type TrainMode, type TrainSettings } from "./train-settings.ts";
import { explainNoTransfer, type LayerMap } from "./transfer-match.ts";

/** What a plan depends on, as `TrainOptions` explains it. */
export interface PlanInput {
  output: string;
  data: readonly string[];
  task?: TrainMode | undefined;
  settings?: Given<TrainSettings> | undefined;
  heldOut?: readonly string[] | undefined;
  teacher?: Checkpoint | null | undefined;
  resume?: boolean | undefined;
  force?: boolean | undefined;
  session?: SessionOptions | undefined;
}

export interface RunPlan {
  folder: RunFolder<RunState>;
  settings: TrainSettings;
  /** The teacher's layer of each of the student's; null without a teacher, and where that is not known. */
  layers: LayerMap;
  /** Training text, and held-out text where it is not the end of that. */
  files: string[];
  heldOutFiles: string[] | null;
  /** Whether the output may be replaced. */
  force: boolean;
  /** The finished run that this one extends. */
  extended: FinishedTextRun | null;
  /** The record that the new model's continues, where it is not the student's. */
  past: NfcRecord | null;
}

/**
 * Reads, writes nothing.
 * @throws NfcError "usage" for settings that do not go together, "mismatch" for a teacher that does not fit the student,
 * "not-found" for a file or a run that is not there
 */
export async function planRun(student: Checkpoint, options: PlanInput): Promise<RunPlan> {
  const { output, teacher = null, resume = false, settings: given = {} } = options;
  for (const model of teacher ? [student, teacher] : [student]) refuseClassifier(model);
  const task = options.task ?? options.settings?.task ?? (teacher ? "distill" : "finetune");
  const folder = new RunFolder(output, textStateSchema);
  const begun = await findBegunRun(folder, textRuns(task, student.config), { output, resume, given });
  const layers = teacher && findTeacherLayers(student, teacher.config);
  const settings = resolveTrainSettings(task, student.config, begun.settings, teacher?.config, layers);
  checkTeacher(student, teacher, { settings, layers });
  await checkProducts(settings.devicePrecision, options.session);
  const files = await findCorpusFiles(options.data);
  const heldOutFiles = options.heldOut ? await findCorpusFiles(options.heldOut) : null;
  await refuseOwnSource(output, student, [...files, ...(heldOutFiles ?? [])]);
  if (teacher) await refuseOwnSource(output, teacher);
  const { extended, past } = begun;
  const force = (options.force ?? false) || extended !== null || (resume && (await folder.hasEnded()));
  return { folder, settings, layers, files, heldOutFiles, force, extended, past };
}

/** @throws NfcError "mismatch" where the two cannot be compared token by token, "usage" for settings without a teacher */
function checkTeacher(
  student: Checkpoint,
  teacher: Checkpoint | null,
  { settings, layers }: Pick<RunPlan, "settings" | "layers">,
): void {
  const { kd, transfer: kind, transferSteps, length } = settings;
  if (!teacher) {
    if (kd > 0 || transferSteps > 0)
      throw new NfcError("usage", "there is no teacher", { hint: "set kd and transferSteps to 0" });
    return;
  }
  checkTeacherFits(student, teacher, length);
  const reason = transferSteps > 0 ? explainNoTransfer(student.config, teacher.config, { kind, layers }) : null;
  if (reason !== null)
    throw new NfcError(
      "mismatch",
      `${student.source} cannot learn layer by layer: its teacher ${teacher.source} ${reason}`,
      {
        hint: "give --transfer-steps 0",
      },
    );
}
