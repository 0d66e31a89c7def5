// Applies a step of a plan: checks that the plan is of this model and text, and gives the options of the conversion.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { describeSource } from "../../checkpoint/provenance.ts";
import { NfcError } from "../../errors.ts";
import type { Device } from "../../graph/session.ts";
import { fileExists } from "../../io/exists.ts";
import { sha256File, sha256Files } from "../../io/sha256.ts";
import type { LongCall } from "../../progress.ts";
import type { ConvertOptions } from "../convert-options.ts";
import { AXES, type CutOptions, hasVocabularyAxis, toCutOptions, VOCAB_AXIS } from "./axes.ts";
import { countAsked, type Plan, type PlanMeasurement, readPlan, refuseOtherTool } from "./plan-file.ts";
import { planModel, withMeasuring } from "./plan-model.ts";
import { computeEvery, type PlanTextOptions, type PlanTexts, readTextsAgain } from "./plan-text.ts";
import { listWeakerCuts } from "./refine.ts";
import { type ChosenStep, chooseStep, meetsTarget, reachesTarget, type Target, takeStep } from "./target.ts";

export type PlanChoice = { at: number } | { target: Target };

export interface ApplyOptions extends LongCall {
  /** The plan file. With a target it is made where it is not there, and continued where it is not at its end. */
  file: string;
  choice: PlanChoice;
  /** Files that cuts are fitted to; those that the plan names unless given. */
  calibration?: readonly [string, ...string[]] | undefined;
  calibrationTokens?: number | undefined;
  field?: string | undefined;
  /** Files of the text by which the vocabulary is cut; those that the plan names unless given. Makes it an axis of a target. */
  vocabularyText?: readonly [string, ...string[]] | undefined;
  device?: Device | undefined;
  threads?: number | undefined;
}

export interface AppliedPlan extends ChosenStep {
  plan: Plan;
  /** Whether the last cut of the step is weaker than the plan has it, as the target allows. */
  weakened: boolean;
  /** The cuts of the step, and the text that the plan fitted them to. */
  cuts: CutOptions & {
    calibration: string[];
    calibrationTokens: number;
    calibrationEvery: number;
    field: string | undefined;
  };
  /** For the record of the model. */
  origin: NonNullable<ConvertOptions["plan"]>;
}

/**
 * @throws NfcError "mismatch" for the plan of another model or text, "usage" for a step or target that it does not have;
 * as `readPlan` and `planModel`
 */
export async function applyPlan(checkpoint: Checkpoint, options: ApplyOptions): Promise<AppliedPlan> {
  const { file, choice, signal, onProgress } = options;
  const plan = await findPlan(checkpoint, options);
  const chosen = "at" in choice ? takeStep(plan, choice.at, file) : chooseStep(plan, choice.target, file);
  checkCuts(plan, chosen, file);
  let texts: Promise<PlanTexts> | undefined;
  const readTexts = () => {
    texts ??= readTextsAgain(checkpoint, plan, file, { ...listTexts(plan, options), signal, onProgress });
    return texts;
  };
  const weaker = await findWeaker(checkpoint, plan, chosen, { ...options, readTexts });
  const measurement = weaker ?? chosen.measurement;
  const vocabulary = measurement.cuts[VOCAB_AXIS] === undefined ? null : (await readTexts()).vocabulary;
  const { files, field } = plan.calibration;
  const calibration = [...(options.calibration ?? files)];
  return {
    step: chosen.step,
    measurement,
    weakened: weaker !== null,
    plan,
    cuts: {
      ...toCutOptions(measurement.cuts, { config: checkpoint.config, vocabulary }),
      calibration,
      calibrationTokens: countAsked(plan.calibration),
      calibrationEvery: countEvery(plan),
      field,
    },
    origin: { file, sha256: await sha256File(file, signal), step: chosen.step },
  };
}

/** @throws NfcError "unsupported" for an axis of another version, "invalid-file" for a vocabulary without a text */
function checkCuts(plan: Plan, { measurement: { cuts } }: ChosenStep, file: string): void {
  const unknown = Object.keys(cuts).find((name) => AXES.every((axis) => axis.name !== name));
  if (unknown !== undefined)
    throw new NfcError("unsupported", `${file}: cuts ${JSON.stringify(unknown)}, which is no axis of this version`, {
      hint: "use the version of nfc that wrote the plan",
    });
  if (cuts[VOCAB_AXIS] !== undefined && !(plan.vocabulary && hasVocabularyAxis(plan)))
    throw new NfcError("invalid-file", `${file}: vocabulary: the text is missing by which it is cut`, {
      hint: "give a file that nfc plan wrote",
    });
}

/** The plan of the file, checked, and as far as the choice needs it. */
async function findPlan(checkpoint: Checkpoint, options: ApplyOptions): Promise<Plan> {
  const { file, choice, calibration, calibrationTokens, field, vocabularyText } = options;
  if (!fileExists(file)) {
    if ("at" in choice || !calibration)
      throw new NfcError("not-found", `${file}: there is no such plan`, {
        hint: "at" in choice ? "make it with nfc plan" : "make it with nfc plan, or give --calibration FILE",
      });
    return goOn(checkpoint, options, choice.target, { calibration, calibrationTokens, field, vocabularyText });
  }
  const plan = await readPlan(file);
  await checkSubject(checkpoint, plan, options);
  checkField(plan, options);
  const whole = vocabularyText === undefined || hasVocabularyAxis(plan);
  if ("at" in choice || (whole && (plan.complete || meetsTarget(plan, choice.target)))) return plan;
  refuseOtherTool(plan, file);
  return goOn(checkpoint, options, choice.target, listTexts(plan, options));
}

/** @throws NfcError "usage" for another field than the plan's, where it is not that of a vocabulary beside the plan */
function checkField(plan: Plan, { file, field, choice, vocabularyText }: ApplyOptions): void {
  const own = plan.calibration.field;
  const beside = "at" in choice && vocabularyText !== undefined && !hasVocabularyAxis(plan);
  if (field === undefined || field === own || beside) return;
  throw new NfcError(
    "usage",
    `${file}: its texts were read ${own === undefined ? "without" : `by --field ${own}, not`} --field ${field}`,
    {
      hint: "leave it out, or make a new plan",
    },
  );
}

/** Of how many windows one was asked for to fit to: 1 where the held-out text has files of its own. */
function countEvery({ calibration, heldOut }: Plan): number {
  return heldOut.every === 1 ? 1 : computeEvery(countAsked(calibration), countAsked(heldOut));
}

/** The texts of a plan, to measure further models of it. */
function listTexts(plan: Plan, options: ApplyOptions): PlanTextOptions {
  const { calibration, heldOut, vocabulary } = plan;
  const own = vocabulary && hasVocabularyAxis(plan) ? vocabulary : undefined;
  // A copy of the calibration text is one of the vocabulary's too where both are the same.
  const copy = own?.sha256 === calibration.sha256 ? options.calibration : undefined;
  return {
    calibration: options.calibration ?? toFiles(calibration.files),
    calibrationTokens: countAsked(calibration),
    heldOut: heldOut.every === 1 ? toFiles(heldOut.files) : undefined,
    heldOutTokens: countAsked(heldOut),
    field: heldOut.field,
    vocabularyText: options.vocabularyText ?? copy ?? (own && toFiles(own.files)),
  };
}

/** A model between the step and the one before it that meets a target of size too, and loses less; null for none. */
async function findWeaker(
  checkpoint: Checkpoint,
  plan: Plan,
  { step, measurement }: ChosenStep,
  options: ApplyOptions & { readTexts: () => Promise<PlanTexts> },
): Promise<PlanMeasurement | null> {
  const { choice, readTexts, file, device, threads, signal, onProgress } = options;
  if ("at" in choice || choice.target.kind === "loss") return null;
  const { target } = choice;
  const weaker = listWeakerCuts(plan, target, step, checkpoint.config);
  if (weaker.length === 0) return null;
  const settings = { ...listTexts(plan, options), file, device, threads, signal, onProgress };
  return withMeasuring(checkpoint, plan, { ...settings, texts: await readTexts() }, async (measure) => {
    for (const cuts of weaker) {
      const model = await measure(cuts);
      if (!reachesTarget(target, model, plan.measurements[0] as PlanMeasurement)) continue;
      return model.perplexity < measurement.perplexity ? model : null;
    }
    return null;
  });
}

const toFiles = (files: readonly string[]) => files as readonly [string, ...string[]];

/** Measures until the target is met, or nothing is left to cut. */
function goOn(checkpoint: Checkpoint, options: ApplyOptions, target: Target, texts: PlanTextOptions): Promise<Plan> {
  const { file, device, threads, signal, onProgress } = options;
  const isEnough = (model: Plan["measurements"][number], source: Plan["measurements"][number]) =>
    reachesTarget(target, model, source);
  return planModel(checkpoint, { ...texts, file, floor: 0, isEnough, device, threads, signal, onProgress });
}

/** @throws NfcError "mismatch" */
async function checkSubject(checkpoint: Checkpoint, plan: Plan, options: ApplyOptions): Promise<void> {
  const { file, signal, onProgress } = options;
  const { files } = await describeSource(checkpoint, signal, onProgress);
  const hashes = (all: Plan["source"]["files"]) => all.map(({ sha256 }) => sha256).join();
  if (hashes(files) !== hashes(plan.source.files))
    throw new NfcError("mismatch", `${file}: is the plan of ${plan.source.path}, not of ${checkpoint.source}`, {
      hint: "their weights differ: make a plan of this model with nfc plan",
    });
  const texts = options.calibration ?? plan.calibration.files;
  if ((await sha256Files(texts, signal)) !== plan.calibration.sha256)
    throw new NfcError("mismatch", `${file}: its cuts were fitted to another text than ${texts.join(", ")}`, {
      hint: `give the text of ${plan.calibration.files.join(", ")} as it was, or make a new plan`,
    });
}
