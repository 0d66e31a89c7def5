// Writes a plain GPT-2 as GGUF for llama.cpp: its tensors by llama.cpp's names, its sizes and its tokenizer.
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError } from "../../errors.ts";
import { encodeGguf, findTooLarge, fitsRows, type GgufPrecision, type GgufType } from "../../formats/gguf/types.ts";
import { countTensorBytes, type GgufTensor, type GgufValue, streamGguf } from "../../formats/gguf/writer.ts";
import { writeChunks } from "../../io/durable.ts";
import { withFile } from "../../io/positional-file.ts";
import { formatCommand } from "../../io/printable.ts";
import type { ModelConfig } from "../../model/config.ts";
import { findParameterKind, listParameters, type ParameterSpec } from "../../model/parameters.ts";
import { hasDistanceMean, isPlainGpt2 } from "../../model/variants.ts";
import { transposeInto } from "../../numeric/transpose.ts";
import type { LongCall } from "../../progress.ts";
import { makeTokenizerMetadata } from "./tokenizer-metadata.ts";

/** llama.cpp's numbers of files whose matrices are mostly of a type (LLAMA_FTYPE). */
const FILE_TYPES: Readonly<Record<GgufPrecision, number>> = { f16: 1, q8_0: 7, q4_0: 2 };

/** llama.cpp's version of the layout of its blocks. */
const QUANTIZATION_VERSION = 2;

const nameGgufFile = (precision: GgufPrecision): string => `model-${precision}.gguf`;

/** llama.cpp's names of tensors, by ours within the model or within a layer, without ".weight" and ".bias". */
const NAMES: Readonly<Record<string, string>> = {
  wte: "token_embd",
  wpe: "position_embd",
  ln_f: "output_norm",
  lm_head: "output",
  ln_1: "attn_norm",
  "attn.c_attn": "attn_qkv",
  "attn.c_proj": "attn_output",
  ln_2: "ffn_norm",
  "mlp.c_fc": "ffn_up",
  "mlp.c_proj": "ffn_down",
};

/**
 * llama.cpp's graph of a GPT-2 has its attention, √D, GELU by tanh, and no head of a classifier.
 * @throws NfcError "unsupported" with what to do instead
 */
export function checkGgufModel({ source, config }: Pick<Checkpoint, "source" | "config">): void {
  const refuse = (fact: string, hint: string) => {
    throw new NfcError("unsupported", `${source}: ${fact}`, { hint });
  };
  const onnx = "export it as ONNX";
  if (config.labels) refuse("is a classifier, of which llama.cpp has no form for GPT-2", onnx);
  if (!isPlainGpt2(config.variant) || config.qk_ranks || config.vo_ranks) {
    const lossy = hasDistanceMean(config.variant) ? ["--drop-noise"] : [];
    const expand = formatCommand(["nfc", "export", source, "--gpt2", ...lossy, "-o", "FOLDER"]);
    refuse(
      `its attention is ${config.variant === "dense" ? "narrower than GPT-2's" : config.variant}, which llama.cpp does not compute`,
      `expand it first, ${expand}, and export that folder`,
    );
  }
  if (config.activation !== "gelu_tanh")
    refuse(`its activation is ${config.activation}, and llama.cpp's GPT-2 has gelu_tanh`, onnx);
  if (!config.scale_attn_weights || config.scale_attn_by_inverse_layer_idx)
    refuse("its scores have another scale than 1/√D, which llama.cpp's GPT-2 has", onnx);
}

export interface GgufFileOptions extends LongCall {
  precision: GgufPrecision;
  /** The model's name, of which the last part goes into the file. */
  name: string;
}

/**
 * Writes `model-PRECISION.gguf` into `folder`, a staging folder that has the tokenizer already, and reads it back.
 * @returns the name of the file
 * @throws NfcError "mismatch" for a file that does not hold what was written, and as `makeTokenizerMetadata`
 */
export async function writeGgufFile(
  folder: string,
  checkpoint: Checkpoint,
  { precision, name, onProgress, signal }: GgufFileOptions,
): Promise<string> {
  const sums = createHash("sha256");
  const tensors = listTensors(checkpoint, precision);
  const metadata = new Map([
    ...makeModelMetadata(checkpoint.config, precision, name),
    ...(await makeTokenizerMetadata(folder, checkpoint)),
  ]);
  const total = countTensorBytes(tensors);
  const file = nameGgufFile(precision);
  const path = join(folder, file);
  const onBytes = (done: number) =>
    onProgress?.({ phase: `${precision}: writing GGUF`, done: Math.min(done, total), total, unit: "bytes" });
  await writeChunks(path, hashed(streamGguf({ metadata, tensors }), sums), { onBytes, signal });
  await checkWritten(path, sums.digest("hex"));
  return file;
}

async function* hashed(chunks: AsyncIterable<Uint8Array>, hash: { update(bytes: Uint8Array): void }) {
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
}

/** @throws NfcError "mismatch" where the file is not what was sent to it */
async function checkWritten(path: string, expected: string): Promise<void> {
  const found = createHash("sha256");
  await withFile(path, async (file) => {
    for await (const piece of file.pieces(0, file.size)) found.update(piece);
  });
  if (found.digest("hex") !== expected)
    throw new NfcError("mismatch", `${path}: reads back otherwise than it was written`, { hint: "check the disk" });
}

/** Sizes and constants of the model. */
function makeModelMetadata(config: ModelConfig, precision: GgufPrecision, name: string): [string, GgufValue][] {
  return [
    ["general.architecture", { string: "gpt2" }],
    ["general.type", { string: "model" }],
    ["general.name", { string: basename(name) }],
    ["general.file_type", { uint32: FILE_TYPES[precision] }],
    ["general.quantization_version", { uint32: QUANTIZATION_VERSION }],
    ["gpt2.block_count", { uint32: config.n_layer }],
    ["gpt2.context_length", { uint32: config.n_positions }],
    ["gpt2.embedding_length", { uint32: config.n_embd }],
    ["gpt2.feed_forward_length", { uint32: config.n_inner }],
    ["gpt2.attention.head_count", { uint32: config.n_head }],
    ["gpt2.attention.layer_norm_epsilon", { float32: config.layer_norm_epsilon }],
  ];
}

/** All tensors in the order of the parameters; where the model has no biases, those of GPT-2, which are 0. */
function listTensors(checkpoint: Checkpoint, precision: GgufPrecision): GgufTensor[] {
  return listParameters({ ...checkpoint.config, bias: true }).map((spec) => {
    const kind = findParameterKind(spec.name);
    // A Conv1D weight is [in, out]; ggml multiplies by rows.
    const turned = spec.shape.length === 2 && kind !== "embedding" && kind !== "head";
    const shape = turned ? spec.shape.toReversed() : spec.shape;
    const type = chooseType(spec, shape.at(-1) as number, precision);
    async function* chunks() {
      const values = await readValues(checkpoint, spec, turned);
      const large = findTooLarge(values, type);
      if (large !== undefined)
        throw new NfcError("unsupported", `${checkpoint.source}: ${spec.name}: ${large} does not fit ${type}`, {
          hint: "export ONNX or safetensors in float32",
        });
      yield encodeGguf(values, type);
    }
    return { name: toGgufName(spec), type, shape, chunks };
  });
}

/** Vectors and positions stay float32, as llama.cpp keeps them; rows that are no whole blocks become float16. */
function chooseType({ name, shape }: ParameterSpec, width: number, precision: GgufPrecision): GgufType {
  if (shape.length === 1 || name === "wpe.weight") return "f32";
  return fitsRows(precision, width) ? precision : "f16";
}

async function readValues(checkpoint: Checkpoint, { name, shape }: ParameterSpec, turned: boolean) {
  if (!checkpoint.tensors.has(name)) return new Float32Array(shape[0] as number); // a bias
  const values = await checkpoint.readF32(name);
  if (!turned) return values;
  const [inner, channels] = shape as [number, number];
  return transposeInto(values, inner, channels, new Float32Array(values.length));
}

/** "h.3.attn.c_attn.weight" → "blk.3.attn_qkv.weight" */
function toGgufName({ name, layer }: ParameterSpec): string {
  const own = layer === null ? name : name.slice(`h.${layer}.`.length);
  const at = own.lastIndexOf(".");
  const known = NAMES[own.slice(0, at)];
  if (known === undefined) throw new Error(`${name} has no name in GGUF`);
  return `${layer === null ? "" : `blk.${layer}.`}${known}${own.slice(at)}`;
}
