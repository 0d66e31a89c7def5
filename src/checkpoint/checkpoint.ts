// Opens a checkpoint of any supported naming, layout or place as canonical GPT-2 tensors, read lazily.

import { basename, join } from "node:path";
import { NfcError, throwIfAborted } from "../errors.ts";
import { countBytes, encodeFloats, type FloatDtype } from "../formats/dtype.ts";
import { openSafetensors, type TensorReader } from "../formats/safetensors/reader.ts";
import { timePhase } from "../io/timings.ts";
import type { Activation, ModelConfig } from "../model/config.ts";
import { listParameters } from "../model/parameters.ts";
import type { LongCall } from "../progress.ts";
import type { ModelFiles } from "./collect-files.ts";
import { hasCompanion, readCompanionJson } from "./companion-files.ts";
import { CONFIG_FILE, GENERATION_FILE, parseConfig } from "./config-file.ts";
import { FieldReader } from "./fields.ts";
import { fetchFromHub, isHubReference } from "./hub/hub.ts";
import { type NamingPlan, type PlanInput, type PlannedTensor, planCheckpoint, settleHead } from "./naming/plan.ts";
import { type NfcRecord, readNfcRecord } from "./nfc-record.ts";
import { hasSameBytes, readPlanned, readPlannedChunks } from "./read.ts";
import { resolveLocal } from "./source.ts";
import { listNamedIds, readTokenizerSize } from "./vocabulary-size.ts";

/** A parameter in canonical name and orientation ([in, out]). `offset` is where its stored bytes begin in `file`. */
export interface CheckpointTensor {
  name: string;
  dtype: FloatDtype;
  shape: number[];
  sourceName: string;
  /** The stored matrix is [out, in]: `offset` is then not where the canonical bytes lie. */
  transposed: boolean;
  byteLength: number;
  file: string;
  offset: number;
}

/** An open checkpoint; `tensors` is exactly `listParameters(config)`. */
export interface Checkpoint {
  /** The name that the user gave. */
  readonly source: string;
  /** The folder of config and tokenizer files. */
  readonly folder: string | null;
  readonly reader: TensorReader;
  readonly config: ModelConfig;
  readonly rawConfig: Record<string, unknown>;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** One line for each thing that was normalized, dropped or assumed. */
  readonly notes: readonly string[];
  /** nfc.json when present. */
  readonly record: NfcRecord | null;
  /** The files beside the weights, where they are not the folder's as they are. */
  readonly companions?: ModelFiles | undefined;
  /** The rows of the stored vocabulary that the model has, where it lacks some (`KeptIds.format`). */
  readonly selection?: string | undefined;
  /** A tensor as float32 in canonical orientation. */
  readF32(name: string): Promise<Float32Array>;
  /** A tensor's stored dtype in canonical orientation; pieces of a reused buffer: use each before asking for the next. */
  chunks(name: string): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** `onProgress` is told of a download, the one slow part of opening. */
export interface OpenOptions extends LongCall {
  /** Number of heads where config.json does not say. */
  nHead?: number | undefined;
  /** Overrides the activation of config.json or of the layout. */
  activation?: Activation | undefined;
  /** Drop the padding rows of the vocabulary: true = to the tokenizer's size; or to a number of rows. */
  trimVocab?: number | boolean | undefined;
  /** `hf://` sources: use the cache only. */
  offline?: boolean | undefined;
}

/** Real config.json files have a few kilobytes; label maps may make some hundred. */
const MAX_CONFIG_BYTES = 2 ** 24;

/**
 * Opens a checkpoint and plans how to read it. Nothing but headers and JSON is read, except that an lm_head.weight is
 * compared with wte.weight.
 * @param source a .safetensors file, a folder, a *.safetensors.index.json, or `hf://owner/name[@revision]`
 * @throws NfcError naming file, tensor and fact when it cannot be read as GPT-2; see `planCheckpoint`
 */
export function openCheckpoint(source: string, options: OpenOptions = {}): Promise<Checkpoint> {
  return timePhase("opening the model", () => openSource(source, options));
}

async function openSource(source: string, options: OpenOptions): Promise<Checkpoint> {
  throwIfAborted(options.signal);
  const fetched = isHubReference(source) ? await fetchFromHub(source, options) : { folder: source, notes: [] };
  const { weights, folder } = await resolveLocal(fetched.folder);
  if (weights.endsWith(".json")) await hasCompanion(folder, basename(weights));
  const raw = await readConfig(folder);
  const config = raw === null ? null : parseConfig(raw, join(folder, CONFIG_FILE), { activation: options.activation });
  const record = await readNfcRecord(folder);
  const reader = await openSafetensors(weights);
  try {
    const plan = await settlePlan(
      {
        file: weights,
        tensors: [...reader.tensors.values()],
        metadata: reader.metadata,
        config,
        recordVariant: record?.variant,
        nHead: options.nHead,
        activation: options.activation,
        trimVocab: options.trimVocab,
        ...(options.trimVocab && (await readVocabularyFacts(folder, raw, options.trimVocab))),
      },
      reader,
      options.signal,
    );
    const notes = [
      ...fetched.notes,
      ...reader.warnings,
      ...(config === null ? [`no ${CONFIG_FILE} beside ${weights}: dimensions are those of the tensors`] : []),
      ...plan.notes,
    ];
    return makeCheckpoint({ source, folder, reader, rawConfig: raw ?? {}, notes, record }, plan);
  } catch (error) {
    await reader.close();
    throw error;
  }
}

/** The content of a config.json, which must be an object; null when there is none. */
export async function readConfig(folder: string): Promise<Record<string, unknown> | null> {
  const value = await readCompanionJson(folder, CONFIG_FILE, { maxBytes: MAX_CONFIG_BYTES });
  return value === undefined ? null : new FieldReader(value, join(folder, CONFIG_FILE)).raw;
}

/** What says how many rows of the vocabulary are in use. */
async function readVocabularyFacts(folder: string, config: unknown, trimVocab: number | true) {
  const generation = await readCompanionJson(folder, GENERATION_FILE, { maxBytes: MAX_CONFIG_BYTES });
  return {
    tokenizerSize: trimVocab === true ? await readTokenizerSize(folder) : undefined,
    namedIds: [...listNamedIds(config), ...listNamedIds(generation)],
  };
}

async function settlePlan(
  input: PlanInput,
  reader: TensorReader,
  signal: AbortSignal | undefined,
): Promise<NamingPlan> {
  const plan = planCheckpoint(input);
  const wte = plan.tensors.get("wte.weight");
  const head = plan.tensors.get("lm_head.weight");
  if (!plan.headCandidate || wte === undefined || head === undefined) return plan;
  return settleHead(plan, await hasSameBytes(reader, wte.source, head.source, signal));
}

function makeCheckpoint(
  parts: Omit<Checkpoint, "config" | "tensors" | "readF32" | "chunks" | "close">,
  plan: NamingPlan,
): Checkpoint {
  const { reader } = parts;
  const planned = (name: string): PlannedTensor => {
    const tensor = plan.tensors.get(name);
    if (tensor !== undefined) return tensor;
    throw new NfcError("not-found", `${parts.source}: has no tensor ${name}`);
  };
  const tensors = new Map<string, CheckpointTensor>();
  for (const { name, source, dtype, shape, transposed } of plan.tensors.values()) {
    const stored = reader.tensors.get(source);
    if (stored === undefined) throw new Error(`${name} is planned, but ${source} is not stored`);
    const { file, offset } = stored;
    const byteLength = countBytes(dtype, shape);
    tensors.set(name, { name, dtype, shape, sourceName: source, transposed, byteLength, file, offset });
  }
  return {
    ...parts,
    config: plan.config,
    tensors,
    readF32: async (name) => readPlanned(reader, planned(name)),
    chunks: (name) => readPlannedChunks(reader, planned(name)),
    close: () => reader.close(),
  };
}

/** A parameter's tensor. @throws Error for a name that `listParameters` does not have: an open checkpoint has all of them */
export function requireTensor(checkpoint: Checkpoint, name: string): CheckpointTensor {
  const tensor = checkpoint.tensors.get(name);
  if (tensor === undefined) throw new Error(`${checkpoint.source}: no tensor ${name}`);
  return tensor;
}

/** All parameters as float32, each under `prefix` and its name. */
export async function readWeights(checkpoint: Checkpoint, prefix = ""): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  for (const name of checkpoint.tensors.keys()) weights.set(prefix + name, await checkpoint.readF32(name));
  return weights;
}

/**
 * A checkpoint of the parameters of `base.config`: those that `values` has are float32 numbers in memory, the others are
 * `base`'s own.
 */
export function makeMemoryCheckpoint(
  base: Checkpoint,
  values: ReadonlyMap<string, () => Float32Array | Promise<Float32Array>>,
): Checkpoint {
  const tensors = listParameters(base.config).map(({ name, shape }): [string, CheckpointTensor] => {
    if (!values.has(name)) return [name, requireTensor(base, name)];
    const place = { sourceName: name, transposed: false, file: base.source, offset: 0 };
    return [name, { name, dtype: "F32", shape, byteLength: countBytes("F32", shape), ...place }];
  });
  return {
    ...base,
    tensors: new Map(tensors),
    readF32: async (name) => values.get(name)?.() ?? base.readF32(name),
    async *chunks(name) {
      const read = values.get(name);
      if (read) yield encodeFloats(await read(), "F32");
      else yield* base.chunks(name);
    },
  };
}
