// Writes tiny GPT-2 checkpoints for tests, random from a seed, in any naming, layout, dtype and variant.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Float16Array } from "@petamoriken/float16";
import type { FloatDtype } from "../../src/formats/dtype.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { getDefaultRank } from "../../src/model/head-widths.ts";
import { listParameters } from "../../src/model/parameters.ts";
import type { Variant } from "../../src/model/variants.ts";

export interface TinyOptions {
  seed?: number;
  layers?: number;
  heads?: number;
  width?: number;
  inner?: number;
  positions?: number;
  vocab?: number;
  variant?: Variant;
  /** "linear": matrices [out, in], as nanoGPT. */
  layout?: "conv1d" | "linear";
  bias?: boolean;
  /** Before every name. */
  prefix?: string;
  /** Before every name but lm_head's. */
  base?: string;
  /** Add h.N.attn.bias and h.N.attn.masked_bias. */
  masks?: boolean;
  /** lm_head.weight: absent, a copy of wte, a matrix of its own, or instead of wte. */
  head?: "none" | "copy" | "own" | "only";
  dtype?: FloatDtype | ((name: string) => FloatDtype);
  /** A classifier with so many outputs: score.weight, and their names in config.json. */
  labels?: number;
}

/** A tensor to write; the bytes are little-endian. */
export interface RawTensor {
  name: string;
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
}

/** The configuration that a checkpoint of `options` has. */
export function tinyModelConfig(options: TinyOptions = {}): ModelConfig {
  const width = options.width ?? 8;
  const [layers, heads] = [options.layers ?? 2, options.heads ?? 2];
  const half = getDefaultRank({ n_embd: width, n_head: heads });
  return {
    n_layer: layers,
    n_head: heads,
    n_embd: width,
    n_inner: options.inner ?? 4 * width,
    n_positions: options.positions ?? 20,
    vocab_size: options.vocab ?? 11,
    layer_norm_epsilon: 1e-5,
    activation: "gelu_tanh",
    scale_attn_weights: true,
    scale_attn_by_inverse_layer_idx: false,
    tied_head: options.head !== "own",
    bias: options.bias ?? true,
    variant: options.variant ?? "dense",
    ...(options.variant === "low-rank" && { qk_ranks: Array<number>(layers).fill(half) }),
    ...(options.labels !== undefined && { labels: labelNames(options.labels) }),
  };
}

const labelNames = (count: number) => Array.from({ length: count }, (_, id) => `class ${id}`);

/** A config.json as transformers writes it, for the same options. */
export function tinyHfConfig(options: TinyOptions = {}): Record<string, unknown> {
  const { n_layer, n_head, n_embd, n_positions, vocab_size } = tinyModelConfig(options);
  return {
    model_type: "gpt2",
    architectures: ["GPT2LMHeadModel"],
    activation_function: "gelu_new",
    layer_norm_epsilon: 1e-5,
    n_layer,
    n_head,
    n_embd,
    n_inner: options.inner ?? null,
    n_positions,
    vocab_size,
    ...(options.variant === undefined || options.variant === "dense" ? {} : { nfc_variant: options.variant }),
    ...(options.labels !== undefined && { id2label: { ...labelNames(options.labels) }, pad_token_id: 0 }),
  };
}

/** The canonical values ([in, out]) of a parameter: they depend on the seed and the name only. */
export function tinyValues(name: string, count: number, seed = 1): Float32Array {
  let state = seed;
  for (const character of name) state = Math.imul(state ^ character.charCodeAt(0), 0x01000193) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/** The tensors of a checkpoint as they are stored. */
export function tinyTensors(options: TinyOptions = {}): RawTensor[] {
  const { prefix = "", base = "", layout = "conv1d", head = "none", seed } = options;
  const dtypeOf = (name: string) =>
    typeof options.dtype === "function" ? options.dtype(name) : (options.dtype ?? "F32");
  const tensors: RawTensor[] = [];
  const add = (name: string, shape: number[], values: Float32Array, at = prefix + base) => {
    tensors.push({ name: at + name, dtype: dtypeOf(name), shape, bytes: encode(values, dtypeOf(name)) });
  };
  for (const { name, shape } of listParameters(tinyModelConfig(options))) {
    const values = tinyValues(
      name,
      shape.reduce((product, dimension) => product * dimension, 1),
      seed,
    );
    const turned = layout === "linear" && /\.(c_attn|c_proj|c_fc)\.weight$/.test(name);
    if (name === "score.weight") add(name, shape, values, prefix);
    else if (name === "lm_head.weight" || (name === "wte.weight" && head === "only")) {
      add("lm_head.weight", shape, values, prefix);
    } else if (turned) {
      add(name, [...shape].reverse(), turn(values, shape[0] ?? 0, shape[1] ?? 0));
    } else add(name, shape, values);
    if (name === "wte.weight" && head === "copy") add("lm_head.weight", shape, values, prefix);
  }
  if (options.masks) tensors.push(...masks(tinyModelConfig(options), prefix + base));
  return tensors;
}

function turn(values: Float32Array, rows: number, columns: number): Float32Array {
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)] ?? Number.NaN);
}

function masks(config: ModelConfig, at: string): RawTensor[] {
  const T = config.n_positions;
  return Array.from({ length: config.n_layer }, (_, layer) => [
    { name: `${at}h.${layer}.attn.bias`, dtype: "BOOL", shape: [1, 1, T, T], bytes: new Uint8Array(T * T).fill(1) },
    { name: `${at}h.${layer}.attn.masked_bias`, dtype: "F32", shape: [], bytes: encode(Float32Array.of(-1e4), "F32") },
  ]).flat();
}

/** Float values as little-endian bytes; BF16 by truncation, which is exact enough to tell tensors apart. */
export function encode(values: Float32Array, dtype: FloatDtype): Uint8Array {
  switch (dtype) {
    case "F64":
      return new Uint8Array(Float64Array.from(values).buffer);
    case "F32":
      return new Uint8Array(values.slice().buffer);
    case "F16":
      return new Uint8Array(Float16Array.from(values).buffer.slice(0) as ArrayBuffer);
    case "BF16":
      return new Uint8Array(Uint16Array.from(new Uint32Array(values.slice().buffer), (bits) => bits >>> 16).buffer);
  }
}

/** A safetensors file in the order given: an encoder apart from the one under test. */
export function encodeSafetensors(
  tensors: readonly RawTensor[],
  metadata: Record<string, string> = { format: "pt" },
): Uint8Array {
  let end = 0;
  const header: Record<string, unknown> = { __metadata__: metadata };
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...tensors.map(({ bytes }) => bytes)]);
}

export interface WriteTinyOptions extends TinyOptions {
  /** The content of config.json; null for none; by default {@link tinyHfConfig}. */
  config?: unknown;
  metadata?: Record<string, string>;
  /** Write that many shards and an index. */
  shards?: number;
  /** Instead of {@link tinyTensors}. */
  tensors?: RawTensor[];
  file?: string;
}

/** Writes a model folder; returns its path. */
export async function writeCheckpoint(folder: string, options: WriteTinyOptions = {}): Promise<string> {
  await mkdir(folder, { recursive: true });
  const tensors = options.tensors ?? tinyTensors(options);
  const config = options.config === undefined ? tinyHfConfig(options) : options.config;
  if (config !== null) await writeFile(join(folder, "config.json"), JSON.stringify(config));
  if (options.shards === undefined) {
    await writeFile(join(folder, options.file ?? "model.safetensors"), encodeSafetensors(tensors, options.metadata));
  } else await writeShards(folder, tensors, options.shards, options.metadata);
  return folder;
}

async function writeShards(
  folder: string,
  tensors: RawTensor[],
  count: number,
  metadata?: Record<string, string>,
): Promise<void> {
  const pad = (number: number) => String(number).padStart(5, "0");
  const weight_map: Record<string, string> = {};
  for (let shard = 0; shard < count; shard++) {
    const file = `model-${pad(shard + 1)}-of-${pad(count)}.safetensors`;
    const part = tensors.filter((_, index) => index % count === shard);
    for (const { name } of part) weight_map[name] = file;
    await writeFile(join(folder, file), encodeSafetensors(part, metadata));
  }
  const total_size = tensors.reduce((sum, { bytes }) => sum + bytes.length, 0);
  await writeFile(
    join(folder, "model.safetensors.index.json"),
    JSON.stringify({ metadata: { total_size }, weight_map }),
  );
}
