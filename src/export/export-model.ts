// One export: the model folder with ONNX, safetensors or both, its configuration, tokenizer and record.
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import type { FloatDtype } from "../io/dtype.ts";
import { withStagedDirectory } from "../io/staging.ts";
import type { NoiseMode } from "../model/attention.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { writeModelFiles, writeText } from "../model/model-folder.ts";
import { formatNfcRecord, NFC_RECORD_FILE, type NfcRecord } from "../model/nfc-record.ts";
import { refuseOwnSource } from "../model/own-source.ts";
import { continuedRecord } from "../model/provenance.ts";
import type { LongCall } from "../progress.ts";
import { checkNoise, type OnnxExport, type WeightStorage, writeOnnxExport } from "./export-onnx.ts";
import { checkExpandable, expandedConfig, writeModelTensors } from "./export-safetensors.ts";

export interface ExportOptions extends LongCall {
  /** Folder to write. */
  output: string;
  /** Write onnx/model.onnx in float32. */
  onnx?: { weights: WeightStorage; noise: NoiseMode };
  /** Write model.safetensors. */
  safetensors?: { dtype?: FloatDtype; maxShardSize?: number };
  /** Expand tied models to plain GPT-2. */
  gpt2?: boolean;
  /** With `gpt2`: accept losing the distance means of noise-distance. */
  dropNoise?: boolean;
  force?: boolean;
  threads?: number;
  command?: readonly string[];
}

export interface ExportResult {
  folder: string;
  /** Written weight and graph files, below the folder. */
  files: string[];
  onnx: OnnxExport | null;
  /** True where a tied model became plain GPT-2. */
  expanded: boolean;
}

/**
 * Writes an export of `checkpoint`; the folder appears whole or not at all.
 * @throws NfcError "usage" for options that do not go together or an output that would replace its own source,
 * "unsupported" for a model that cannot be expanded, "mismatch" when the written ONNX file does not reproduce our own
 * logits
 */
export async function exportModel(checkpoint: Checkpoint, options: ExportOptions): Promise<ExportResult> {
  checkOptions(checkpoint, options);
  const { output, force = false, signal, onProgress, gpt2 = false } = options;
  await refuseOwnSource(output, checkpoint);
  return withStagedDirectory(output, { force }, async (folder) => {
    const files: string[] = [];
    if (options.safetensors) {
      const written = await writeModelTensors(folder, checkpoint, {
        ...options.safetensors,
        gpt2,
        onBytes: (done, total) => onProgress?.({ phase: "writing safetensors", done, total, unit: "bytes" }),
        signal,
      });
      files.push(...written.files.map(({ name }) => name));
    }
    const onnx = options.onnx ? await writeOnnxExport(folder, checkpoint, { ...options, ...options.onnx }) : null;
    if (onnx) files.push(...onnx.files);
    await writeModelFiles(folder, checkpoint, gpt2 ? expandedConfig(checkpoint.config) : checkpoint.config, {
      ...dtypeOf(options),
      ...(onnx?.transformersJsConfig && { extra: { "transformers.js_config": onnx.transformersJsConfig } }),
    });
    await writeText(join(folder, NFC_RECORD_FILE), formatNfcRecord(await recordOf(checkpoint, options)));
    return { folder: output, files, onnx, expanded: gpt2 && checkpoint.config.variant !== "dense" };
  });
}

function checkOptions(checkpoint: Checkpoint, options: ExportOptions): void {
  const { onnx, safetensors, gpt2 = false, dropNoise = false } = options;
  if (!onnx && !safetensors)
    throw new NfcError("usage", "nothing to export", { hint: "give --onnx, --safetensors or both" });
  if (gpt2 && !safetensors)
    throw new NfcError("usage", "--gpt2 expands safetensors only", { hint: "add --safetensors" });
  if (gpt2 && onnx)
    throw new NfcError("usage", "--gpt2 and --onnx do not go together: ONNX stays compact", {
      hint: "export twice, to two folders",
    });
  if (onnx) checkNoise(checkpoint, onnx.noise);
  if (onnx?.weights === "shared" && safetensors)
    throw new NfcError("usage", "--share-weights writes model.safetensors itself, in float32", {
      hint: "leave out --safetensors, --dtype and --max-shard-size",
    });
  if (gpt2) checkExpandable(checkpoint, dropNoise);
}

function dtypeOf({ safetensors, onnx }: ExportOptions): { dtype?: FloatDtype } {
  if (safetensors?.dtype) return { dtype: safetensors.dtype };
  return onnx?.weights === "shared" ? { dtype: "F32" } : {};
}

async function recordOf(checkpoint: Checkpoint, options: ExportOptions): Promise<NfcRecord> {
  const { gpt2 = false, signal, command } = options;
  const step = {
    step: "export",
    ...(options.onnx && { onnx: options.onnx.weights, noise: options.onnx.noise.kind === "mean" ? "mean" : "sample" }),
    ...(options.safetensors && { safetensors: options.safetensors.dtype ?? "as stored" }),
    ...(gpt2 && { gpt2: true }),
  };
  const record = await continuedRecord(checkpoint, step, {
    // The weights are the same numbers unless they are rounded or the noise is dropped.
    sameWeights: !gpt2 && !options.safetensors?.dtype,
    ...(command && { command }),
    ...(signal && { signal }),
  });
  if (!gpt2 || checkpoint.config.variant === "dense") return record;
  const note = "expanded to plain GPT-2 (c_attn = [s, s, v]): not smaller than the source";
  return { ...record, variant: "dense", notes: [...record.notes, note] };
}
