// Describes the origin of a model: hashes of its files, and the nfc.json of the next model built on it.
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { withIoErrors } from "../io/io-error.ts";
import { sha256File } from "../io/sha256.ts";
import { countParameters } from "../model/parameters.ts";
import type { LongCall } from "../progress.ts";
import { TOOL } from "../version.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { NFC_RECORD_FORMAT, type NfcRecord } from "./nfc-record.ts";

/** Name, size and sha256 of every weight file of a checkpoint. */
export async function describeSource(
  checkpoint: Checkpoint,
  signal?: AbortSignal,
  onProgress?: LongCall["onProgress"],
): Promise<NfcRecord["source"]> {
  const files: NfcRecord["source"]["files"] = [];
  const total = checkpoint.reader.byteLength;
  let done = 0;
  const onBytes = (bytes: number) => {
    done += bytes;
    const event = { phase: "hashing", done, total, unit: "bytes", detail: checkpoint.source } as const;
    onProgress?.({ ...event, brief: true });
  };
  for (const path of checkpoint.reader.files) {
    const { size } = await withIoErrors(path, () => stat(path));
    files.push({ name: basename(path), bytes: size, sha256: await sha256File(path, signal, onBytes) });
  }
  return { path: checkpoint.source, files, parameters: countParameters(checkpoint.config) };
}

/**
 * The record of a model made from `checkpoint` by one more step. The first command stays on top, later ones go with
 * their step. Perplexities and scores are dropped unless the weights are the same.
 */
export async function continueRecord(
  checkpoint: Checkpoint,
  step: NfcRecord["history"][number],
  options: { command?: readonly string[] | undefined; sameWeights?: boolean; signal?: AbortSignal | undefined } = {},
): Promise<NfcRecord> {
  const known = checkpoint.record;
  return {
    format: NFC_RECORD_FORMAT,
    tool: TOOL,
    variant: checkpoint.config.variant,
    tie: known?.tie ?? null,
    ...(known?.cuts && { cuts: known.cuts }),
    ...(known?.plan && { plan: known.plan }),
    source: known?.source ?? (await describeSource(checkpoint, options.signal)),
    command: [...(known?.command ?? options.command ?? [])],
    history: [
      ...(options.sameWeights ? (known?.history ?? []) : dropScores(known)),
      { ...step, ...(known && options.command && { command: options.command }) },
    ],
    notes: [...(known?.notes ?? checkpoint.notes)],
    ...(options.sameWeights && known?.quantization && { quantization: known.quantization }),
    ...(options.sameWeights && known?.perplexity && { perplexity: known.perplexity }),
  };
}

/** The history of a model whose weights are no longer those that were scored on a task. */
export function dropScores(record: Pick<NfcRecord, "history"> | null): NfcRecord["history"] {
  return (record?.history ?? []).map(({ dev, ...step }) => step);
}
