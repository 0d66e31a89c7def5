// Writes what all model folders share: config.json, tokenizer files, generation settings, and tensors in a new dtype.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import { DTYPE_BITS, decodeFloats, encodeFloats, type FloatDtype, OVERFLOW } from "../formats/dtype.ts";
import type { TensorSource } from "../formats/safetensors/writer.ts";
import { withIoErrors } from "../io/io-error.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Checkpoint, CheckpointTensor } from "./checkpoint.ts";
import { collectModelFiles } from "./collect-files.ts";
import { completeTokenizer, explainTokenizer } from "./complete-tokenizer.ts";
import { CONFIG_FILE, toHfConfig } from "./config-file.ts";
import { stripForeignCode } from "./foreign-code.ts";

/** Hugging Face's names in config.json. */
const DTYPE_NAMES: Record<FloatDtype, string> = { F64: "float64", F32: "float32", F16: "float16", BF16: "bfloat16" };

export interface ModelFileOptions {
  dtype?: FloatDtype | undefined;
  /** Further keys of config.json. */
  extra?: Record<string, unknown>;
  /** Write the tokenizer.json that the source's tokenizer amounts to, where it has none. */
  completeTokenizer?: boolean | undefined;
}

/**
 * Writes config.json for `config`, keeping the source's other keys, and the tokenizer and generation files. What makes
 * other programs load code is left out.
 * @returns one line for each thing that was left out or is missing
 * @throws NfcError as `collectModelFiles`
 */
export async function writeModelFiles(
  folder: string,
  checkpoint: Checkpoint,
  config: ModelConfig,
  options: ModelFileOptions = {},
): Promise<string[]> {
  const source = join(checkpoint.folder ?? "", CONFIG_FILE);
  const { value: raw, notes } = stripForeignCode(checkpoint.rawConfig, source);
  // The source's keys about its ONNX files, which are not copied, say nothing about this folder.
  const { "transformers.js_config": _, ...kept } = toHfConfig(config, raw);
  const hf: Record<string, unknown> = { ...kept, ...options.extra };
  if (options.dtype) {
    delete hf.torch_dtype;
    hf.dtype = DTYPE_NAMES[options.dtype];
  }
  await writeText(join(folder, CONFIG_FILE), `${JSON.stringify(hf, null, 2)}\n`);
  const collected = checkpoint.companions
    ? { files: checkpoint.companions, notes: [] }
    : await collectModelFiles(checkpoint.folder);
  const files = options.completeTokenizer
    ? await completeTokenizer(collected.files, checkpoint.folder, config)
    : collected.files;
  for (const [name, content] of files) await writeText(join(folder, name), content);
  return [...notes, ...collected.notes, ...explainTokenizer(files, checkpoint.folder)];
}

export function writeText(path: string, text: string | Uint8Array): Promise<void> {
  return withIoErrors(path, () => writeFile(path, text));
}

/** A checkpoint's tensor to be written in `dtype`; its bytes pass through untouched when that is its own. */
export function makeTensorSource(
  checkpoint: Checkpoint,
  tensor: CheckpointTensor,
  dtype: FloatDtype = tensor.dtype,
): TensorSource {
  return {
    name: tensor.name,
    dtype,
    shape: tensor.shape,
    chunks: () => convertChunks(checkpoint.chunks(tensor.name), tensor, dtype),
  };
}

/**
 * Converts a tensor's byte stream to another float dtype, whatever its pieces.
 * @throws NfcError "unsupported" for a finite number that `to` cannot hold: silently, it would become infinite
 */
export async function* convertChunks(
  chunks: AsyncIterable<Uint8Array>,
  tensor: { name: string; dtype: FloatDtype },
  to: FloatDtype,
): AsyncGenerator<Uint8Array, void, undefined> {
  const from = tensor.dtype;
  if (from === to) return yield* chunks;
  let rest = new Uint8Array(0);
  for await (const chunk of chunks) {
    const bytes = rest.byteLength === 0 ? chunk : Buffer.concat([rest, chunk]);
    const whole = bytes.subarray(0, bytes.byteLength - (bytes.byteLength % (DTYPE_BITS[from] / 8)));
    const values = decodeFloats(whole, from);
    yield encodeWithin(values, tensor.name, to, from === "F64" ? (i) => readF64(whole, i) : undefined);
    rest = Uint8Array.from(bytes.subarray(whole.byteLength));
  }
}

/** Bytes as a stream of one piece. */
export async function* streamBytes(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** A tensor's stream as one buffer. */
export async function collectBytes(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk.slice()); // the stream reuses its buffer
  return parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts);
}

/**
 * Values of the tensor `name` as bytes of its dtype.
 * @param stored the number whose float32 value is at `i`, where they are not the same
 * @throws NfcError "unsupported" for a finite number that it cannot hold: silently, it would become infinite
 */
export function encodeWithin(
  values: Float32Array,
  name: string,
  to: FloatDtype,
  stored?: (i: number) => number,
): Uint8Array {
  const limit = OVERFLOW[to];
  if (stored || Number.isFinite(limit))
    for (let i = 0; i < values.length; i++) {
      if (!(Math.abs(values[i] as number) >= limit)) continue;
      const number = stored ? stored(i) : (values[i] as number);
      if (!Number.isFinite(number)) continue;
      const hint = to === "F16" ? "take bf16 or f32" : "keep the tensor's own dtype";
      throw new NfcError("unsupported", `${name}: ${number} does not fit ${to}`, { hint });
    }
  return encodeFloats(values, to);
}

/** A number of a float64 tensor: as float32 it may be infinite. */
function readF64(bytes: Uint8Array, i: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getFloat64(Float64Array.BYTES_PER_ELEMENT * i, true);
}
