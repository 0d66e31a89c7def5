// Reads the text that models are measured on while they are made smaller, as windows of token ids.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { NfcRecord } from "../../checkpoint/nfc-record.ts";
import { sampleWindows } from "../../checkpoint/token-sample.ts";
import { NfcError } from "../../errors.ts";
import { sha256Files } from "../../io/sha256.ts";
import { timePhase } from "../../io/timings.ts";
import type { LongCall } from "../../progress.ts";
import { DEFAULT_CALIBRATION_TOKENS } from "../convert-options.ts";

/** Attention scores of one window, H·T²: windows are shortened to it, so that memory stays flat. 32 MB a tensor. */
const MAX_SCORES = 2 ** 23;

/** Of a text that is too short for both parts, every third window is fitted to, or more rarely where that is enough. */
const LEAST_PART = 3;

export interface CalibrationText {
  /** Token ids of the source's vocabulary, windows of one length. */
  windows: Int32Array[];
  /** The windows of the sample that are left to measure on (`every`). */
  others: Int32Array[];
  /** `windows` are every so-manieth of the sample. */
  every: number;
  /** The files, for nfc.json. */
  record: NonNullable<NonNullable<NfcRecord["tie"]>["calibration"]>;
}

export interface CalibrationTextOptions extends LongCall {
  /** Field of .jsonl lines. */
  field?: string | undefined;
  /** Tokens to take; `DEFAULT_CALIBRATION_TOKENS` unless given. */
  tokens?: number | undefined;
  /**
   * Take every so-manieth window of a sample that is so many times as large; the others are left to measure on. Of a shorter
   * text, a third is taken, or as much of it as is asked for.
   */
  every?: number | undefined;
}

/**
 * Windows from all over the files.
 * @throws NfcError "usage" for less than two tokens, "unsupported" for a model of one position; as `sampleWindows`, for a
 * text that is too short too
 */
export async function readCalibrationText(
  paths: readonly [string, ...string[]],
  checkpoint: Checkpoint,
  { field, tokens: count = DEFAULT_CALIBRATION_TOKENS, every = 1, signal, onProgress }: CalibrationTextOptions = {},
): Promise<CalibrationText> {
  onProgress?.({ phase: "reading the calibration text", done: 0, total: null, unit: "files", brief: true });
  if (count < 2)
    throw new NfcError("usage", `${count} token of calibration text: attention weighs several against one another`, {
      hint: `take more; ${DEFAULT_CALIBRATION_TOKENS} is the default`,
    });
  const length = getCalibrationLength(checkpoint, count);
  if (length < 2)
    throw new NfcError(
      "unsupported",
      `${checkpoint.source}: has one position, so that no text tells of its attention`,
      {
        hint: "convert without --calibration",
      },
    );
  const wanted = Math.ceil(count / length);
  const sample = await timePhase("reading the text", () =>
    sampleWindows(paths, checkpoint, { length, count: every * wanted * length, field, signal }),
  );
  const step = Math.max(Math.min(every, LEAST_PART), Math.ceil(sample.length / wanted));
  const windows = sample.filter((_, i) => i % step === 0);
  const others = sample.filter((_, i) => i % step !== 0);
  const record = { file: paths.join(", "), sha256: await sha256Files(paths, signal), tokens: countTokens(windows) };
  return { windows, others, every: step, record };
}

export function countTokens(windows: readonly Int32Array[]): number {
  return windows.reduce((sum, ids) => sum + ids.length, 0);
}

/** Tokens of a window of a text of `count`. */
export function getCalibrationLength({ config }: Checkpoint, count: number): number {
  return Math.min(config.n_positions, count, Math.floor(Math.sqrt(MAX_SCORES / config.n_head)));
}
