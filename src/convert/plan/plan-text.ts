// Reads the two texts of a plan: the one that cuts are fitted to, and the one that models are measured on.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { openTokenStream } from "../../checkpoint/token-stream.ts";
import { NfcError } from "../../errors.ts";
import { sha256Files } from "../../io/sha256.ts";
import type { LongCall } from "../../progress.ts";
import { type CalibrationText, readCalibrationText } from "../calibration-text.ts";
import { DEFAULT_CALIBRATION_TOKENS } from "../convert-options.ts";
import type { PlanText } from "./plan-file.ts";

/** The mean loss of so many tokens tells cuts apart that differ by a thousandth (docs/plan.md). */
export const DEFAULT_HELD_OUT_TOKENS = 16384;

/** The share of a text that is too short for both that the cuts are fitted to. */
const CALIBRATION_SHARE = 1 / 3;

type Files = readonly [string, ...string[]];

export interface PlanTextOptions extends LongCall {
  calibration: Files;
  /** Files of the held-out text; what follows the calibration part of the same files unless given. */
  heldOut?: Files | undefined;
  field?: string | undefined;
  calibrationTokens?: number | undefined;
  heldOutTokens?: number | undefined;
}

export interface PlanTexts {
  fitted: CalibrationText;
  /** Ids of the text that models are measured on. */
  heldOut: readonly number[];
  /** Both, as the plan file names them. */
  record: { calibration: PlanText; heldOut: PlanText };
}

/**
 * Without files of its own, the held-out text begins where the calibration part ends; a text that is too short for both is
 * divided between them.
 * @throws NfcError "invalid-file" for a text that is too short; as `openTokenStream` and `readCalibrationText`
 */
export async function readPlanTexts(checkpoint: Checkpoint, options: PlanTextOptions): Promise<PlanTexts> {
  const { calibration, heldOut: others, field, signal, onProgress } = options;
  const { calibrationTokens = DEFAULT_CALIBRATION_TOKENS, heldOutTokens = DEFAULT_HELD_OUT_TOKENS } = options;
  const common = { field, signal, onProgress };
  const own = others !== undefined;
  const measured = await takeIds(
    others ?? calibration,
    checkpoint,
    own ? heldOutTokens : heldOutTokens + calibrationTokens,
    options,
  );
  const isShort = !own && measured.length < calibrationTokens + heldOutTokens;
  const share = Math.ceil(measured.length * CALIBRATION_SHARE);
  const tokens = isShort ? Math.min(calibrationTokens, share) : calibrationTokens;
  const fitted = await readCalibrationText(calibration, checkpoint, { ...common, tokens });
  const first = own ? 0 : fitted.record.tokens;
  const heldOut = measured.slice(first, first + heldOutTokens);
  if (heldOut.length < 2)
    throw new NfcError("invalid-file", `${(others ?? calibration)[0]}: the text is too short to be measured on`, {
      hint: `give more text, ${calibrationTokens + heldOutTokens} tokens are enough`,
    });
  const { n_positions: length } = checkpoint.config;
  const files = [...(others ?? calibration)];
  const named = field === undefined ? {} : { field };
  return {
    fitted,
    heldOut,
    record: {
      calibration: {
        files: [...calibration],
        sha256: fitted.record.sha256,
        first: 0,
        tokens: fitted.record.tokens,
        length: fitted.windows[0]?.length ?? 0,
        ...named,
      },
      heldOut: { files, sha256: await sha256Files(files, signal), first, tokens: heldOut.length, length, ...named },
    },
  };
}

/** The first `count` ids of the files. */
async function takeIds(
  paths: Files,
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
