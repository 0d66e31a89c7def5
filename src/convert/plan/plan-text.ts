// Reads the texts of a plan: that which cuts are fitted to, that which models are measured on, and that of the vocabulary.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { openTokenStream } from "../../checkpoint/token-stream.ts";
import { NfcError } from "../../errors.ts";
import { sha256Files } from "../../io/sha256.ts";
import type { LongCall } from "../../progress.ts";
import { DEFAULT_CALIBRATION_TOKENS } from "../convert-options.ts";
import { type CalibrationText, getCalibrationLength, readCalibrationText } from "../statistics/calibration-text.ts";
import { identifyText, type Plan, type PlanText, type PlanVocabulary } from "./plan-file.ts";
import { type MeasuredPart, readPlanVocabulary, type VocabularyText } from "./plan-vocabulary.ts";

/** The mean loss of so many tokens tells cuts apart that differ by a thousandth (docs/plan.md). */
const DEFAULT_HELD_OUT_TOKENS = 16384;

export interface PlanTextOptions extends LongCall {
  /** One file at least, as for `heldOut`. */
  calibration: readonly [string, ...string[]];
  /** Files of the held-out text; other windows of the calibration files unless given. */
  heldOut?: readonly [string, ...string[]] | undefined;
  field?: string | undefined;
  calibrationTokens?: number | undefined;
  heldOutTokens?: number | undefined;
  /** Makes the vocabulary an axis: files by whose tokens it is cut. */
  vocabularyText?: readonly [string, ...string[]] | undefined;
}

export interface PlanTexts {
  fitted: CalibrationText;
  /** Ids of the text that models are measured on. */
  heldOut: readonly number[];
  /** Null where the vocabulary is no axis. */
  vocabulary: VocabularyText | null;
  /** All, as the plan file names them. */
  record: { calibration: PlanText; heldOut: PlanText; vocabulary?: PlanVocabulary };
}

/**
 * Without files of its own, the held-out text has the windows between those of the calibration text: of a sample from all
 * over the files, every m-th window is fitted to and as many of the others are measured on as are asked for. A text that is
 * too short for both is divided as `readCalibrationText` says.
 * @throws NfcError "usage" for less than two tokens, "invalid-file" for a text that is too short; as `openTokenStream` and
 * `readCalibrationText`
 */
export async function readPlanTexts(checkpoint: Checkpoint, options: PlanTextOptions): Promise<PlanTexts> {
  const { calibration, heldOut: others, vocabularyText, field, signal, onProgress } = options;
  const { calibrationTokens: tokens = DEFAULT_CALIBRATION_TOKENS, heldOutTokens = DEFAULT_HELD_OUT_TOKENS } = options;
  if (heldOutTokens < 2)
    throw new NfcError("usage", `${heldOutTokens} token to measure on: a loss is that of a token after another`, {
      hint: `take more; ${DEFAULT_HELD_OUT_TOKENS} is the default`,
    });
  const asked = others ? 1 : computeEvery(tokens, heldOutTokens);
  const fitted = await readCalibrationText(calibration, checkpoint, {
    field,
    tokens,
    every: asked,
    signal,
    onProgress,
  });
  const [length, heldOut] = others
    ? [checkpoint.config.n_positions, await takeIds(others, checkpoint, heldOutTokens, options)]
    : [getCalibrationLength(checkpoint, tokens), takeEvenly(fitted.others, heldOutTokens)];
  if (heldOut.length < 2)
    throw new NfcError("invalid-file", `${(others ?? calibration)[0]}: the text is too short to be measured on`, {
      hint: `give more text, ${tokens + heldOutTokens} tokens are enough`,
    });
  const files = [...(others ?? calibration)];
  const shared = { every: fitted.every, ...(field !== undefined && { field }) };
  const describeCount = (wanted: number, got: number) => ({ tokens: got, ...(wanted !== got && { asked: wanted }) });
  const { sha256 } = fitted.record;
  const listMeasured = async () => {
    return others ? takeApart(others, checkpoint, heldOutTokens, options) : [{ files, ids: heldOut }];
  };
  const vocabulary = { field, listMeasured, signal, onProgress };
  const kept = vocabularyText && (await readPlanVocabulary(checkpoint, { text: vocabularyText, ...vocabulary }));
  return {
    fitted,
    heldOut,
    vocabulary: kept?.vocabulary ?? null,
    record: {
      calibration: {
        files: [...calibration],
        sha256,
        ...describeCount(tokens, fitted.record.tokens),
        length: fitted.windows[0]?.length ?? 0,
        ...shared,
      },
      heldOut: {
        files,
        sha256: others ? await sha256Files(others, signal) : sha256,
        ...describeCount(heldOutTokens, heldOut.length),
        length,
        ...shared,
      },
      ...(kept && { vocabulary: kept.record }),
    },
  };
}

/** `every` of `readCalibrationText` for a text of which both parts are taken. */
export function computeEvery(tokens: number, heldOutTokens: number): number {
  return 1 + Math.ceil(heldOutTokens / tokens);
}

/** Ids of windows at even distances, so many as are wanted where there are as many. */
function takeEvenly(windows: readonly Int32Array[], wanted: number): number[] {
  const length = windows[0]?.length ?? 1;
  const count = Math.min(windows.length, Math.ceil(wanted / length));
  const taken = Array.from(
    { length: count },
    (_, i) => windows[Math.floor((i * windows.length) / count)] as Int32Array,
  );
  return taken.flatMap((ids) => [...ids]).slice(0, wanted);
}

/**
 * Reads the texts of a plan again.
 * @param file of the plan
 * @throws NfcError "mismatch" where they are others; as `readPlanTexts`
 */
export async function readTextsAgain(
  checkpoint: Checkpoint,
  plan: Pick<Plan, "calibration" | "heldOut" | "vocabulary">,
  file: string,
  options: PlanTextOptions,
): Promise<PlanTexts> {
  const texts = await readPlanTexts(checkpoint, options);
  const { vocabulary } = texts.record;
  const identify = (read: Pick<Plan, "calibration" | "heldOut">) =>
    [read.calibration, read.heldOut].map(identifyText).join();
  if (identify(texts.record) !== identify(plan))
    throw makeOtherTextError(`${file}: its models were measured on another text`, plan.heldOut);
  if (vocabulary && plan.vocabulary && vocabulary.sha256 !== plan.vocabulary.sha256)
    throw makeOtherTextError(`${file}: its vocabularies are those of another text`, plan.vocabulary);
  return texts;
}

function makeOtherTextError(fact: string, { files }: { files: readonly string[] }): NfcError {
  return new NfcError("mismatch", fact, { hint: `give ${files.join(", ")} as it was, or make a new plan` });
}

/** The first `count` ids of the files, by file. */
async function takeApart(
  paths: readonly string[],
  checkpoint: Checkpoint,
  count: number,
  options: PlanTextOptions,
): Promise<MeasuredPart[]> {
  const parts: MeasuredPart[] = [];
  let left = count;
  for (const path of paths) {
    const ids = left > 0 ? await takeIds([path], checkpoint, left, options) : [];
    parts.push({ files: [path], ids });
    left -= ids.length;
  }
  return parts;
}

/** The first `count` ids of the files. */
async function takeIds(
  paths: readonly [string, ...string[]],
  checkpoint: Checkpoint,
  count: number,
  { field, signal }: PlanTextOptions,
): Promise<number[]> {
  const ids: number[] = [];
  for await (const piece of (await openTokenStream(paths, checkpoint, { field, signal }))()) {
    for (const id of piece) ids.push(id);
    if (ids.length >= count) break;
  }
  return ids.slice(0, count);
}
