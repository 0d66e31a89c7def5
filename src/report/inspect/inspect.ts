// Describes one checkpoint: format, files, layout, configuration, parameters by group, head, and what tying would save.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../../model/config.ts";
import { makePlainConfig } from "../../model/head-widths.ts";
import { countParameters, PARAMETER_GROUPS, type ParameterGroup } from "../../model/parameters.ts";
import { VARIANT_TRAITS } from "../../model/variants.ts";
import { TOOL } from "../../version.ts";
import type { ModelSummary } from "../report-schema.ts";
import { summarize } from "../weigh/model-summary.ts";
import {
  countHeadSaving,
  countTyingSaving,
  formatHeadFormula,
  formatTyingFormula,
  isTied,
  type TallyEntry,
  tallyTensors,
} from "../weigh/tally.ts";
import { sumWeights } from "../weigh/weights.ts";

const INSPECTION_FORMAT = "nfc-inspect/1";

/** The answer of `nfc inspect`, ready for JSON; facts that a report states as well are described by its schema. */
export interface Inspection
  extends Pick<
    ModelSummary,
    "source" | "parameters" | "bytes" | "dtypes" | "embedding" | "head" | "notes" | "provenance"
  > {
  format: typeof INSPECTION_FORMAT;
  tool: { name: string; version: string };
  storage: {
    format: "safetensors";
    /** Base names, sorted; a sharded checkpoint has several. */
    files: string[];
    /** The size of all files, headers included. */
    bytes: number;
    /** The number of tensors that the model uses. */
    tensors: number;
    /** Stored tensors and padding rows that are no parameters: mask buffers, a copy of the head. */
    extra: { tensors: number; bytes: number };
  };
  layout: {
    /** How matrices are stored: conv1d is [in, out] as in GPT-2, linear [out, in] as in nanoGPT. */
    orientation: "conv1d" | "linear";
    /** The text before the canonical names, for example "transformer.". */
    prefix: string;
  };
  /** Everything that the forward pass depends on, under the names of Hugging Face's GPT2Config. */
  config: ModelConfig;
  /** In the order of the parameters; empty groups are left out. `percent` is a share of all parameters. */
  groups: { group: ParameterGroup; parameters: number; bytes: number; percent: number }[];
  /** null for a low-rank model, whose Q and K are not as GPT-2's. */
  tying: {
    /** True where Q and K are one projection already. */
    done: boolean;
    /** The number that tying removes, or has removed: L(C^2 + C). */
    parameters: number;
    /** The same in bytes, in the precision of c_attn. */
    bytes: number;
    /** The same as a share of the dense model. */
    percent: number;
    formula: string;
  } | null;
  /** What narrow heads save, less what forms A add; null where heads are as GPT-2's. */
  heads: {
    parameters: number;
    /** The same in bytes, in the precision of c_attn. */
    bytes: number;
    /** The same as a share of the dense model. */
    percent: number;
    formula: string;
  } | null;
}

/** Describes an open checkpoint. Reads its headers and nfc.json, never weights. */
export function inspect(checkpoint: Checkpoint): Inspection {
  const entries = tallyTensors(checkpoint);
  const { source, parameters, bytes, files, dtypes, embedding, head, notes, provenance } = summarize(
    checkpoint,
    entries,
  );
  return {
    format: INSPECTION_FORMAT,
    tool: { ...TOOL },
    source,
    storage: {
      format: "safetensors",
      files: files.names,
      bytes: files.bytes,
      tensors: checkpoint.tensors.size,
      extra: files.extra,
    },
    layout: describeLayout(checkpoint),
    config: { ...checkpoint.config },
    ...{ parameters, bytes },
    groups: PARAMETER_GROUPS.flatMap((group) => {
      const sum = sumWeights(entries.filter((entry) => entry.group === group));
      return sum.parameters === 0 ? [] : [{ group, ...sum, percent: (100 * sum.parameters) / parameters }];
    }),
    ...{ dtypes, embedding, head },
    tying: VARIANT_TRAITS[checkpoint.config.variant].narrow ? null : estimateTying(checkpoint.config, entries),
    heads: estimateHeads(checkpoint.config, entries),
    ...{ notes, provenance },
  };
}

/** The position embedding is stored in every naming, and is never turned or replaced: its source name shows the prefix. */
function describeLayout({ tensors }: Checkpoint): Inspection["layout"] {
  const anchor = tensors.get("wpe.weight")?.sourceName ?? "";
  const transposed = [...tensors.values()].some((tensor) => tensor.transposed);
  return {
    orientation: transposed ? "linear" : "conv1d",
    prefix: anchor.endsWith("wpe.weight") ? anchor.slice(0, -"wpe.weight".length) : "",
  };
}

function estimateTying(config: ModelConfig, entries: readonly TallyEntry[]): Inspection["tying"] {
  const parameters = countTyingSaving(config);
  return {
    ...{ done: isTied(config), parameters },
    ...measureSaving(parameters, config, entries),
    formula: formatTyingFormula(config),
  };
}

function estimateHeads(config: ModelConfig, entries: readonly TallyEntry[]): Inspection["heads"] {
  const formula = formatHeadFormula(config);
  if (formula === null) return null;
  const parameters = countHeadSaving(config);
  return { parameters, ...measureSaving(parameters, config, entries), formula };
}

/** V is stored as K is or was, so that its bytes tell those of a number in c_attn. */
function measureSaving(
  parameters: number,
  config: ModelConfig,
  entries: readonly TallyEntry[],
): { bytes: number; percent: number } {
  const v = sumWeights(entries.filter(({ group }) => group === "attention.v"));
  return {
    bytes: Math.round((parameters * v.bytes) / v.parameters),
    percent: (100 * parameters) / countParameters(makePlainConfig(config)),
  };
}
