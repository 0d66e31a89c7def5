// The axes along which a plan cuts a model, each one row: the values to try, and the options of a conversion that cut so.
import type { ModelConfig } from "../../model/config.ts";
import { getHeadSize } from "../../model/head-widths.ts";
import type { RankChoice } from "../attention/ranks.ts";
import type { ConvertOptions } from "../convert-options.ts";
import { BLOCK, checkMlpText, type LayerSettings, type MlpSettings, roundShare } from "../cuts/axis-settings.ts";
import type { VocabularySettings } from "../cuts/vocabulary-choice.ts";
import type { CalibrationText } from "../statistics/calibration-text.ts";
import { listVocabularySizes, type VocabularyText } from "./plan-vocabulary.ts";
import type { Cuts } from "./search.ts";

/** The options of a conversion that say what is cut. */
export interface CutOptions extends Pick<ConvertOptions, "variant" | "strategy"> {
  layers?: LayerSettings;
  mlp?: MlpSettings;
  qkRank?: RankChoice;
  voRank?: RankChoice;
  vocabulary?: VocabularySettings;
}

/** What axes are axes of. */
export interface AxisSubject {
  config: ModelConfig;
  /** By what the vocabulary is cut; null where it is not. */
  vocabulary: VocabularyText | null;
}

export interface Axis {
  /** The name in plan files and tables, and of the flag of nfc convert. */
  name: string;
  /** What may be left of the axis, the weakest cut first; none where the model has nothing to cut. */
  listValues(subject: AxisSubject): number[];
  /** What is there before any cut. */
  whole(config: ModelConfig): number;
  /** What may be left is a multiple of it, between the values that are tried too. */
  grain: number;
  /** Whether no weaker cut is possible than the first value. */
  bounded?: boolean;
  /** @throws NfcError "usage" for a text that is too short to fit the cut to */
  checkText?: (text: CalibrationText, value: number) => void;
  /** The options with this axis cut too. */
  cut(options: CutOptions, value: number, subject: AxisSubject): CutOptions;
}

/** The name of the axis that is taken only where it is asked for: it makes a model for one kind of text. */
export const VOCAB_AXIS = "vocab";
/** Shares of a head's numbers that are tried as ranks. */
const RANK_SHARES = [1 / 2, 3 / 8, 1 / 4, 1 / 8];
/** Shares of an MLP's hidden units that are tried. */
const MLP_SHARES = [7 / 8, 3 / 4, 5 / 8, 1 / 2, 3 / 8, 1 / 4];
/** Layers that are tried at most: down to half of them. */
const LAYER_VALUES = 6;

export const AXES: readonly Axis[] = [
  {
    name: "qk-rank",
    listValues: listRanks,
    whole: getHeadSize,
    grain: 1,
    cut: (options, rank, { config }) => ({ ...options, variant: "low-rank", qkRank: shareRanks(rank, config) }),
  },
  {
    name: "vo-rank",
    listValues: listRanks,
    whole: getHeadSize,
    grain: 1,
    // q and k keep their D numbers unless the other axis cuts them too.
    cut: (options, rank, { config }) => {
      return { qkRank: getHeadSize(config), ...options, variant: "low-rank", voRank: shareRanks(rank, config) };
    },
  },
  {
    name: "mlp",
    listValues: ({ config }) =>
      keepDistinct(
        MLP_SHARES.map((share) => roundShare(share, config.n_inner)),
        config.n_inner,
      ),
    whole: ({ n_inner }) => n_inner,
    grain: BLOCK,
    checkText: checkMlpText,
    cut: (options, units) => ({ ...options, mlp: { units } }),
  },
  {
    name: "layers",
    listValues: ({ config: { n_layer } }) => {
      const step = Math.ceil(n_layer / (2 * LAYER_VALUES));
      return Array.from({ length: LAYER_VALUES }, (_, i) => n_layer - (i + 1) * step).filter((n) => n >= n_layer / 2);
    },
    whole: ({ n_layer }) => n_layer,
    grain: 1,
    cut: (options, layers) => ({ ...options, layers }),
  },
  {
    name: VOCAB_AXIS,
    listValues: ({ config, vocabulary }) =>
      vocabulary ? listVocabularySizes(config.vocab_size, vocabulary.counted) : [],
    whole: ({ vocab_size }) => vocab_size,
    grain: 1,
    bounded: true,
    cut: (options, size, { vocabulary }) => {
      if (!vocabulary) throw new Error("a vocabulary is to be cut without a text");
      return { ...options, vocabulary: { ...vocabulary, size } };
    },
  },
];

function listRanks({ config }: AxisSubject): number[] {
  const size = getHeadSize(config);
  return keepDistinct(
    RANK_SHARES.map((share) => Math.round(share * size)),
    size,
  );
}

/** A rank that layers have on average: shared out over them, it loses less than the same rank in all of them. */
function shareRanks(rank: number, config: ModelConfig): RankChoice {
  return { share: rank / getHeadSize(config) };
}

/** Values from 1 to below `whole`, each once. */
function keepDistinct(values: readonly number[], whole: number): number[] {
  return [...new Set(values)].filter((value) => value >= 1 && value < whole);
}

/** The options of a conversion that makes these cuts, fitted to the calibration text. */
export function toCutOptions(cuts: Cuts, subject: AxisSubject, axes: readonly Axis[] = AXES): CutOptions {
  const whole: CutOptions = { variant: "dense", strategy: "calibrated" };
  return Object.entries(cuts).reduce((options, [name, value]) => {
    return findAxis(name, axes).cut(options, value, subject);
  }, whole);
}

/** "qk-rank 16, mlp 768"; "the source" for the whole model. */
export function describeCuts(cuts: Cuts): string {
  const parts = Object.entries(cuts).map(([name, value]) => `${name} ${value}`);
  return parts.length === 0 ? "the source" : parts.join(", ");
}

export function findAxis(name: string, axes: readonly Axis[] = AXES): Axis {
  const axis = axes.find((each) => each.name === name);
  if (!axis) throw new Error(`${name} is no axis of a plan`);
  return axis;
}

/** Whether the vocabulary is an axis of a plan. */
export function hasVocabularyAxis({ axes }: { axes: readonly { name: string }[] }): boolean {
  return axes.some(({ name }) => name === VOCAB_AXIS);
}
