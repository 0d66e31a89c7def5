// What every way to make a model smaller has in common: it takes a checkpoint and gives the smaller one, not yet written.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import type { FloatDtype } from "../formats/dtype.ts";
import type { Device } from "../graph/session.ts";
import type { LongCall } from "../progress.ts";
import type { CalibrationText } from "./statistics/calibration-text.ts";
import type { TensorScratch } from "./tensor-scratch.ts";

/** What nfc.json says of a conversion. */
export type CutFacts = Partial<Pick<NfcRecord, "tie" | "cuts">>;

/** A smaller model. Its tensors may still be in the making: reading one waits for it. */
export interface Cut {
  model: Checkpoint;
  /** Resolves when nothing is in the making any more. Rejects with the first fault. */
  finish(): Promise<CutFacts>;
}

/** What a cut works with. Aborting `signal` ends it early. */
export interface CutTools extends LongCall {
  /** Holds what is made until it is read. */
  scratch: TensorScratch;
  /** The text that the model is run on; null where none was given. */
  text: CalibrationText | null;
  /** Dtype of the tensors that are made; that of the tensor in their place unless given. */
  dtype?: FloatDtype | undefined;
  /** Where the model runs on the text; the CPU unless given. */
  device?: Device | undefined;
  /** All cores unless given. */
  threads?: number | undefined;
}
