// What one checkpoint is: format, files, layout, configuration, parameters by group, head, and what tying would save.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../../model/config.ts";
import { PARAMETER_GROUPS, type ParameterGroup } from "../../model/parameters.ts";
import { TOOL } from "../../version.ts";
import type { ModelSummary } from "../schema.ts";
import { summarize } from "../weigh/model-summary.ts";
import { countTyingSaving, formatTyingFormula, isTied, type TallyEntry, tallyTensors } from "../weigh/tally.ts";
import { sumWeights } from "../weigh/weights.ts";

const INSPECTION_FORMAT = "nfc-inspect/1";

/** The answer of `nfc inspect`, ready for JSON. Bytes are bytes; MB nowhere. */
export interface Inspection {
  format: typeof INSPECTION_FORMAT;
  tool: { name: string; version: string };
  /** As the user named it. */
  source: string;
  storage: {
    format: "safetensors";
    /** Base names, sorted; more than one is a sharded checkpoint. */
    files: string[];
    /** Of all files, headers included. */
    bytes: number;
    /** Tensors of the model. */
    tensors: number;
    /** Stored tensors and padding rows that are no parameters: mask buffers, a copy of the head. */
    extra: { tensors: number; bytes: number };
  };
  layout: {
    /** How matrices are stored: conv1d is [in, out] as in GPT-2, linear [out, in] as in nanoGPT. */
    orientation: "conv1d" | "linear";
    /** What stands before the canonical names, for example "transformer.". */
    prefix: string;
  };
  /** Everything that the forward pass depends on, under the names of Hugging Face's GPT2Config. */
  config: ModelConfig;
  /** Each counted once. */
  parameters: number;
  /** Of the parameters, in the precision they are stored in. */
  bytes: number;
  /** In the order of the parameters; empty groups are left out. `percent` of all parameters. */
  groups: { group: ParameterGroup; parameters: number; bytes: number; percent: number }[];
  /** The precision with the most bytes first. */
  dtypes: ModelSummary["dtypes"];
  /** The token embedding and its share of all parameters. */
  embedding: ModelSummary["embedding"];
  /** tied: stored once, as the embedding; copied: in the file twice; separate: its own matrix. */
  head: ModelSummary["head"];
  tying: {
    /** True: Q and K are one projection already. */
    done: boolean;
    /** What tying removes, or has removed: L(C^2 + C). */
    parameters: number;
    /** The same in the precision of c_attn. */
    bytes: number;
    /** Of the dense model. */
    percent: number;
    formula: string;
  };
  /** What was normalised, dropped or assumed to read it. */
  notes: string[];
  /** From nfc.json. */
  provenance: ModelSummary["provenance"];
}

/** Describes an open checkpoint. Reads its headers and nfc.json, never weights. */
export function inspect(checkpoint: Checkpoint): Inspection {
  const entries = tallyTensors(checkpoint);
  const model = summarize(checkpoint, entries);
  const { files } = model;
  return {
    format: INSPECTION_FORMAT,
    tool: { ...TOOL },
    source: checkpoint.source,
    storage: {
      format: "safetensors",
      files: files.names,
      bytes: files.bytes,
      tensors: checkpoint.tensors.size,
      extra: files.extra,
    },
    layout: describeLayout(checkpoint),
    config: { ...checkpoint.config },
    parameters: model.parameters,
    bytes: model.bytes,
    groups: PARAMETER_GROUPS.flatMap((group) => {
      const sum = sumWeights(entries.filter((entry) => entry.group === group));
      return sum.parameters === 0 ? [] : [{ group, ...sum, percent: (100 * sum.parameters) / model.parameters }];
    }),
    dtypes: model.dtypes,
    embedding: model.embedding,
    head: model.head,
    tying: estimateTying(checkpoint.config, entries),
    notes: model.notes,
    provenance: model.provenance,
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

/** V has the size of K in every variant, so that its bytes are what K takes or took. */
function estimateTying(config: ModelConfig, entries: readonly TallyEntry[]): Inspection["tying"] {
  const parameters = countTyingSaving(config);
  const done = isTied(config);
  const here = sumWeights(entries.filter(({ group }) => group !== "noise")).parameters;
  return {
    done,
    parameters,
    bytes: sumWeights(entries.filter(({ group }) => group === "attention.v")).bytes,
    percent: (100 * parameters) / (done ? here + parameters : here),
    formula: formatTyingFormula(config),
  };
}
