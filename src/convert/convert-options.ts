// The options of a conversion, and their defaults.
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import type { FloatDtype } from "../formats/dtype.ts";
import type { Device } from "../graph/session.ts";
import type { Variant } from "../model/variants.ts";
import type { LongCall } from "../progress.ts";
import type { RankChoice } from "./attention/ranks.ts";
import type { TieStrategy } from "./attention/tie.ts";
import type { LayerSettings, MlpSettings } from "./cuts/axis-settings.ts";
import type { VocabularySettings } from "./cuts/vocabulary-choice.ts";

/** Enough for stable statistics: perplexity after conversion no longer falls with more (docs/convert.md). */
export const DEFAULT_CALIBRATION_TOKENS = 8192;
/** σ of a fresh noise variant: the prior's own, N(0, 1). */
export const DEFAULT_NOISE_STD = 1;

export interface ConvertOptions extends LongCall {
  /** Folder to write. */
  output: string;
  /** `dense` leaves attention as it is; something else is then cut. */
  variant: Variant;
  strategy: TieStrategy;
  /** Text files for `calibrated`, and for the distance means of `noise-distance`. */
  calibration?: readonly string[] | undefined;
  /** Field of .jsonl calibration text. */
  field?: string | undefined;
  calibrationTokens?: number | undefined;
  /** Fit to every so-manieth window only, where a plan has measured on the others. */
  calibrationEvery?: number | undefined;
  noiseStd?: number | undefined;
  /** Numbers of q and of k in each head, for `low-rank`: D/2 unless given. */
  qkRank?: RankChoice | undefined;
  /** Numbers of v in each head: D unless given. */
  voRank?: RankChoice | undefined;
  /** How many layers stay, or which; all unless given. */
  layers?: LayerSettings | undefined;
  /** Hidden units that stay in each MLP, or the share of them; all unless given. */
  mlp?: MlpSettings | undefined;
  /** Whether the model is repaired on the calibration text; with `layers` or `mlp`, where that gains on a part held out, unless given. */
  repair?: boolean | undefined;
  /** Cuts the vocabulary to the tokens of a text. */
  vocabulary?: VocabularySettings | undefined;
  /** Dtype of all tensors; each keeps its own unless given. */
  dtype?: FloatDtype | undefined;
  maxShardSize?: number | undefined;
  force?: boolean | undefined;
  /** Where the model runs on the calibration text; the CPU unless given. */
  device?: Device | undefined;
  threads?: number | undefined;
  /** The step of a plan that the other options come from, for the record. */
  plan?: NfcRecord["plan"] | undefined;
  /** The command line, for the record of what nfc's own commands write. @internal */
  command?: readonly string[] | undefined;
}
