// One model in figures: configuration, parameters, precisions, files, embedding and head. Reads headers only.
import { basename } from "node:path";
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import type { NfcRecord } from "../../checkpoint/nfc-record.ts";
import { countElements } from "../../formats/dtype.ts";
import type { StoredTensor } from "../../formats/safetensors/reader.ts";
import { describeCut } from "../describe-cut.ts";
import type { ModelSummary } from "../report-schema.ts";
import { type TallyEntry, tallyTensors } from "./tally.ts";
import { groupBy, sumWeights } from "./weights.ts";

/** The names that hold the [V, C] matrix, whatever prefix a checkpoint puts before them. */
const EMBEDDING_OR_HEAD = /(^|\.)(wte|lm_head)\.weight$/;

export function summarize(
  checkpoint: Checkpoint,
  entries: readonly TallyEntry[] = tallyTensors(checkpoint),
): ModelSummary {
  const { config, reader, record } = checkpoint;
  const total = sumWeights(entries);
  const { n_layer, n_head, n_embd, n_inner, n_positions, vocab_size, activation, bias, qk_ranks, vo_ranks } = config;
  const ranks = { ...(qk_ranks && { qk_ranks: [...qk_ranks] }), ...(vo_ranks && { vo_ranks: [...vo_ranks] }) };
  return {
    source: checkpoint.source,
    variant: config.variant,
    config: { n_layer, n_head, n_embd, n_inner, n_positions, vocab_size, activation, bias, ...ranks },
    ...total,
    dtypes: countDtypes(checkpoint),
    files: {
      names: reader.files.map((file) => basename(file)).sort(),
      bytes: reader.byteLength,
      extra: sumUnused(checkpoint, total.bytes),
    },
    embedding: describeEmbedding(checkpoint, total.parameters),
    head: describeHead(checkpoint, entries),
    notes: [...checkpoint.notes],
    provenance: record === null ? null : describeProvenance(record),
  };
}

/** The precisions in use, the one with the most bytes first. */
function countDtypes(checkpoint: Checkpoint): ModelSummary["dtypes"] {
  const tensors = Array.from(checkpoint.tensors.values(), ({ dtype, shape, byteLength: bytes }) => {
    return { dtype, parameters: countElements(shape), bytes };
  });
  return [...groupBy(tensors, ({ dtype }) => dtype)]
    .map(([dtype, own]) => ({ dtype, tensors: own.length, ...sumWeights(own) }))
    .sort((a, b) => b.bytes - a.bytes || (a.dtype < b.dtype ? -1 : 1));
}

/** Stored tensors that serve as no parameter. */
function listUnusedTensors({ reader, tensors }: Checkpoint): StoredTensor[] {
  const used = new Set([...tensors.values()].map(({ sourceName }) => sourceName));
  return [...reader.tensors.values()].filter(({ name }) => !used.has(name));
}

/** Bytes that the file stores beyond the parameters: unused tensors, and rows cut off a padded vocabulary. */
function sumUnused(checkpoint: Checkpoint, parameterBytes: number): { tensors: number; bytes: number } {
  const stored = [...checkpoint.reader.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  return { tensors: listUnusedTensors(checkpoint).length, bytes: stored - parameterBytes };
}

function describeEmbedding(checkpoint: Checkpoint, total: number): ModelSummary["embedding"] {
  const { shape, byteLength } = requireTensor(checkpoint, "wte.weight");
  const parameters = countElements(shape);
  return { parameters, bytes: byteLength, percent: (100 * parameters) / total };
}

/** A copied head counts no parameters, but its bytes lie in the file. */
function describeHead(checkpoint: Checkpoint, entries: readonly TallyEntry[]): ModelSummary["head"] {
  if (!checkpoint.config.tied_head) {
    return { storage: "separate", ...sumWeights(entries.filter(({ group }) => group === "head")) };
  }
  const copy = listUnusedTensors(checkpoint).find(({ name }) => EMBEDDING_OR_HEAD.test(name));
  if (copy !== undefined) return { storage: "copied", parameters: 0, bytes: copy.byteLength };
  return { storage: "tied", parameters: 0, bytes: 0 };
}

function describeProvenance(record: NfcRecord): ModelSummary["provenance"] {
  const { tool, command, source, history, notes } = record;
  const cuts = (record.cuts ?? []).map((cut) => ({ axis: cut.axis, text: describeCut(cut) }));
  return structuredClone({ tool, command, source, cuts, history, quantization: record.quantization ?? null, notes });
}
