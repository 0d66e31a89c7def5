// Writes an export: a model folder with ONNX, safetensors or both, its configuration, tokenizer and record.

import { mkdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type Checkpoint, readConfig } from "../checkpoint/checkpoint.ts";
import { collectModelFiles, type ModelFiles } from "../checkpoint/collect-files.ts";
import { CONFIG_FILE } from "../checkpoint/config-file.ts";
import { FieldReader } from "../checkpoint/fields.ts";
import { writeModelFiles, writeText } from "../checkpoint/model-folder.ts";
import { type ExportEntry, formatNfcRecord, NFC_RECORD_FILE, type NfcRecord } from "../checkpoint/nfc-record.ts";
import { continueRecord } from "../checkpoint/provenance.ts";
import { refuseOwnSource } from "../checkpoint/source-guard.ts";
import { NfcError } from "../errors.ts";
import type { FloatDtype } from "../formats/dtype.ts";
import type { GgufPrecision } from "../formats/gguf/types.ts";
import { checkDevice } from "../graph/session.ts";
import { readEndTokens } from "../inference/generate/end-tokens.ts";
import { fileExists } from "../io/exists.ts";
import { withIoErrors } from "../io/io-error.ts";
import { readJsonFile } from "../io/json.ts";
import { withBackground } from "../io/settle.ts";
import { withStagedDirectory } from "../io/staging.ts";
import { MAX_VOCAB, type ModelConfig } from "../model/config.ts";
import { makePlainConfig } from "../model/head-widths.ts";
import { isPlainGpt2 } from "../model/variants.ts";
import type { LongCall } from "../progress.ts";
import { writeModelCard } from "./card/model-card.ts";
import { describeExpansion } from "./expand.ts";
import { checkGgufModel, writeGgufFile } from "./gguf/gguf-file.ts";
import { makeHfConfigKeys, writeHfWeights } from "./hf/hf-folder.ts";
import { GENAI_CONFIG_FILE, makeGenaiConfig } from "./onnx/genai-config.ts";
import {
  explainOnnxFiles,
  makeExportEntries,
  type OnnxExportOptions,
  resolveOnnxExport,
  writeOnnxFiles,
} from "./onnx/onnx-export.ts";
import { checkNoise, type OnnxFile } from "./onnx/onnx-file.ts";
import { choosePreferredFile, makeTransformersJsConfig } from "./onnx/transformers-js-config.ts";
import { checkExpandable, writeModelTensors } from "./safetensors.ts";

export interface ExportOptions extends LongCall {
  /** Folder to write. */
  output: string;
  /** Write onnx/model*.onnx. */
  onnx?: OnnxExportOptions | undefined;
  /** Write model.safetensors. */
  safetensors?: { dtype?: FloatDtype | undefined; maxShardSize?: number | undefined } | undefined;
  /** Write model-TYPE.gguf for llama.cpp, one file each. */
  gguf?: readonly GgufPrecision[] | undefined;
  /** Expand other forms of attention to plain GPT-2. */
  gpt2?: boolean | undefined;
  /** With `safetensors`: Hugging Face's names and, for a tied model, the Python class that transformers loads. */
  hf?: boolean | undefined;
  /** Further files, by their paths in the folder. */
  files?: ModelFiles | undefined;
  /** With `gpt2`: accept losing the distance means of noise-distance. */
  dropNoise?: boolean | undefined;
  force?: boolean | undefined;
  threads?: number | undefined;
  /** The command line, for the record of what nfc's own commands write. @internal */
  command?: readonly string[] | undefined;
}

export interface ExportResult {
  folder: string;
  /** Written weight and graph files, below the folder. */
  files: string[];
  /** Empty without `onnx`. */
  onnx: OnnxFile[];
  /** The same files as nfc.json lists them. */
  exports: ExportEntry[];
  /** One line for each file beside the source, or key of one, and each file for a runtime that was left out, and on trained codes. */
  notes: string[];
  /** True where another form became plain GPT-2. */
  expanded: boolean;
}

/**
 * Writes an export of `checkpoint`; the folder appears whole or not at all.
 * @throws NfcError "usage" for options that do not go together or an output that would replace its own source,
 * "unsupported" for a model that cannot be expanded, "missing-dependency" for ONNX without onnxruntime-node, "mismatch"
 * when the written ONNX file does not reproduce our own logits
 */
export async function exportModel(checkpoint: Checkpoint, options: ExportOptions): Promise<ExportResult> {
  checkOptions(checkpoint, options);
  const { output, force = false } = options;
  if (options.onnx) await checkDevice("cpu"); // what is written is loaded: nothing is written where it cannot be
  await refuseOwnSource(output, checkpoint);
  await collectModelFiles(checkpoint.folder); // a damaged file shows before the minutes of work
  return withStagedDirectory(output, { force }, (folder) => writeExport(folder, checkpoint, options));
}

/** Writes all files of the folder while the source is hashed. A fault of one ends the other. */
async function writeExport(folder: string, checkpoint: Checkpoint, options: ExportOptions): Promise<ExportResult> {
  return withBackground(
    options.signal,
    (signal) => [makeRecord(checkpoint, { ...options, signal })],
    ([record], signal) => writeFiles(folder, checkpoint, { ...options, signal }, record),
  );
}

async function writeFiles(
  folder: string,
  checkpoint: Checkpoint,
  options: ExportOptions,
  hashed: Promise<NfcRecord>,
): Promise<ExportResult> {
  const { output, gpt2 = false, threads, onProgress, signal } = options;
  const common = { threads, onProgress, signal };
  const resolved = options.onnx && resolveOnnxExport(checkpoint, options.onnx);
  const files = options.safetensors ? await writeWeights(folder, checkpoint, options) : [];
  const onnx = resolved ? await writeOnnxFiles(folder, checkpoint, resolved, common) : [];
  files.push(...onnx.flatMap((file) => file.files));
  const config = gpt2 ? makePlainConfig(checkpoint.config) : checkpoint.config;
  const dtype = options.safetensors?.dtype ?? (options.onnx?.weights === "shared" ? "F32" : undefined);
  const extra = makeExtraKeys(checkpoint, options, onnx);
  const notes = await writeModelFiles(folder, checkpoint, config, { dtype, extra, completeTokenizer: true });
  if (config.labels) await nameThePadding(folder);
  for (const precision of options.gguf ?? [])
    files.push(await writeGgufFile(folder, checkpoint, { precision, name: output, onProgress, signal }));
  const exports = resolved ? await makeExportEntries(folder, checkpoint, onnx, resolved, common) : [];
  if (resolved) notes.push(...explainOnnxFiles(checkpoint, resolved));
  const preferred = choosePreferredFile(onnx);
  if (preferred && !config.labels)
    notes.push(...(await writeGenaiConfig(folder, config, preferred.files[0] as string)));
  const record = { ...(await hashed), ...(exports.length > 0 && { exports }) };
  await writeText(join(folder, NFC_RECORD_FILE), formatNfcRecord(record));
  await writeModelCard(folder, { name: basename(output), config, record });
  await writeFurtherFiles(folder, options.files);
  return { folder: output, files, onnx, exports, notes, expanded: gpt2 && !isPlainGpt2(checkpoint.config.variant) };
}

async function writeFurtherFiles(folder: string, files: ModelFiles = new Map()): Promise<void> {
  for (const [name, content] of files) {
    const path = join(folder, name);
    await withIoErrors(path, () => mkdir(dirname(path), { recursive: true }));
    await writeText(path, content);
  }
}

/** Where there is no padding some programs write -1. */
const ANY_ID = { min: -1, max: MAX_VOCAB };

/**
 * Writes genai_config.json, by the end tokens and the padding of the files that were written. Gives a note where there is
 * none.
 */
async function writeGenaiConfig(folder: string, config: ModelConfig, file: string): Promise<string[]> {
  const rawConfig = (await readConfig(folder)) ?? {};
  const end = await readEndTokens({ folder, config, rawConfig });
  const pad = new FieldReader(rawConfig, join(folder, CONFIG_FILE)).integer("pad_token_id", ANY_ID);
  const tokens = { end, pad: pad !== undefined && pad >= 0 ? pad : end[0] };
  const genai = makeGenaiConfig(config, file, tokens);
  if (genai === null)
    return [
      `no ${GENAI_CONFIG_FILE}: onnxruntime-genai has one width for all keys and values, and this cache has several`,
    ];
  await writeText(join(folder, GENAI_CONFIG_FILE), `${JSON.stringify(genai, null, 2)}\n`);
  return [];
}

/** Names a padding token: runtimes pad batches of texts by the tokenizer, and GPT-2's has no such token. */
async function nameThePadding(folder: string): Promise<void> {
  const file = join(folder, "tokenizer_config.json");
  if (!fileExists(file)) return;
  const settings = (await readJsonFile(file)) as Record<string, unknown>;
  const token = settings.pad_token ?? settings.eos_token ?? settings.bos_token;
  if (token !== undefined && token !== null)
    await writeText(file, `${JSON.stringify({ ...settings, pad_token: token, padding_side: "right" }, null, 2)}\n`);
}

/** Writes model.safetensors, and with `hf` the code beside it. */
async function writeWeights(folder: string, checkpoint: Checkpoint, options: ExportOptions): Promise<string[]> {
  const { gpt2 = false, hf = false, signal, onProgress } = options;
  const settings = {
    ...options.safetensors,
    onBytes: (done: number, total: number) =>
      onProgress?.({ phase: "writing safetensors", done, total, unit: "bytes" }),
    signal,
  };
  const written = hf
    ? await writeHfWeights(folder, checkpoint, settings)
    : await writeModelTensors(folder, checkpoint, { ...settings, gpt2 });
  return written.files.map(({ name }) => name);
}

/**
 * transformers.js has no class for a GPT-2 that classifies. Its class of this type takes the same inputs and gives the
 * same logits.
 */
const CLASSIFIER_TYPE = "roberta";

function makeExtraKeys(checkpoint: Checkpoint, { hf = false }: ExportOptions, onnx: readonly OnnxFile[]) {
  const forTransformersJs = onnx.length > 0 ? makeTransformersJsConfig(onnx) : null;
  return {
    ...(hf && makeHfConfigKeys(checkpoint.config)),
    ...(forTransformersJs && { "transformers.js_config": forTransformersJs }),
    ...(onnx.length > 0 && checkpoint.config.labels && { model_type: CLASSIFIER_TYPE }),
  };
}

function checkOptions(checkpoint: Checkpoint, options: ExportOptions): void {
  const { onnx, safetensors, gguf, gpt2 = false, hf = false, dropNoise = false } = options;
  const { labels } = checkpoint.config;
  const shared = onnx?.weights === "shared";
  const refuse = (fault: unknown, message: string, hint: string) => {
    if (fault) throw new NfcError("usage", message, { hint });
  };
  const SPLIT = "export twice, to two folders";
  refuse(!onnx && !safetensors && !gguf, "nothing to export", "give --onnx, --safetensors or --gguf");
  refuse(gpt2 && !safetensors, "--gpt2 expands safetensors only", "add --safetensors");
  refuse(gpt2 && onnx, "--gpt2 and --onnx do not go together: ONNX stays compact", SPLIT);
  refuse(gpt2 && hf, "--gpt2 and --hf do not go together: plain GPT-2 needs no code", "give one of them");
  refuse(gpt2 && gguf, "--gpt2 and --gguf do not go together", "export --gpt2 first, then that folder with --gguf");
  if (onnx) checkNoise(checkpoint, onnx.noise);
  if (gguf) checkGgufModel(checkpoint);
  for (const [given, flag] of [
    [onnx?.texts, "--text"],
    [hf, "--hf"],
  ] as const)
    refuse(labels && given, `${flag} is for language models, this is a classifier`, "leave it out");
  const twoConfigs = "ONNX and safetensors of a classifier have different config.json files";
  refuse(labels && onnx && (safetensors || shared), twoConfigs, SPLIT);
  refuse(
    shared && onnx.precisions?.some((precision) => precision !== "fp32"),
    "--share-weights is for fp32: other precisions have weights of their own",
    "leave out --share-weights, or --precision",
  );
  refuse(
    shared && safetensors,
    "--share-weights writes model.safetensors itself, in float32",
    "leave out --safetensors, --dtype and --max-shard-size",
  );
  if (gpt2) checkExpandable(checkpoint, dropNoise);
}

async function makeRecord(checkpoint: Checkpoint, options: ExportOptions): Promise<NfcRecord> {
  const { gpt2 = false, signal, command, onnx, safetensors, gguf } = options;
  const step = {
    step: "export",
    ...(onnx && {
      onnx: onnx.weights,
      precisions: onnx.precisions ?? ["fp32"],
      noise: onnx.noise.kind === "mean" ? "mean" : "sample",
    }),
    safetensors: safetensors && (safetensors.dtype ?? "as stored"),
    gguf,
    gpt2: gpt2 || undefined,
    expanded: gpt2 && !isPlainGpt2(checkpoint.config.variant) ? checkpoint.config.variant : undefined,
  };
  const record = await continueRecord(checkpoint, step, {
    // The weights are the same numbers unless they are rounded or the noise is dropped.
    sameWeights: !gpt2 && !safetensors?.dtype,
    ...{ command, signal },
  });
  if (!gpt2 || isPlainGpt2(checkpoint.config.variant)) return record;
  const note = `expanded to plain GPT-2 (${describeExpansion(checkpoint.config)}): not smaller than the source`;
  return { ...record, variant: "dense", notes: [...record.notes, note] };
}
