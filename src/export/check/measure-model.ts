// What a model weighs, from headers alone: bytes, parameters by group and format, and signs of accidents.
import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { readOnnxStructure } from "../../graph/onnx-reader.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { openSafetensors } from "../../io/safetensors-reader.ts";
import { printable } from "../format.ts";
import { modelFiles } from "./model-files.ts";
import type { Accident } from "./size-config.ts";

/** A stored tensor, of safetensors or ONNX. */
export interface WeighedTensor {
  /** Without a wrapper's prefix. */
  name: string;
  dtype: string;
  dims: readonly number[];
  bytes: number;
  /** True where the numbers are codes of several weights each. */
  packed: boolean;
}

export interface Finding {
  accident: Accident;
  /** What is wrong, and what to do. */
  text: string;
}

export interface WeighedModel {
  /** By name below the configuration's folder. */
  files: Record<string, number>;
  bytes: number;
  /** Null where codes are packed: headers do not tell how many weights they are. */
  parameters: number | null;
  /** Bytes by group of tensors. */
  groups: Record<string, number>;
  /** Bytes by format, of tensors that are weights of matrices. */
  dtypes: Record<string, number>;
  /** Columns of c_attn in widths: 3 = [q, k, v], 2 = [s, v]; null without one, or of both. */
  attention: 2 | 3 | null;
  findings: Finding[];
}

/** ONNX's names of what exports hold. */
const ONNX_DTYPES: Readonly<Record<number, string>> = {
  ...{
    1: "F32",
    2: "U8",
    3: "I8",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    11: "F64",
    16: "BF16",
    21: "U4",
    22: "I4",
  },
};

/**
 * @param root folder of the configuration; @param path file, folder or glob below it
 * @returns null where nothing matches
 * @throws NfcError "invalid-file" or "unsupported" for a file that cannot be read, "usage" for a path outside
 */
export async function weighModel(root: string, path: string): Promise<WeighedModel | null> {
  const { models, others } = await modelFiles(root, path);
  if (models.length + others.length === 0) return null;
  const files: Record<string, number> = {};
  const size = async (name: string) => {
    const file = join(root, name);
    files[name] = (await withIoErrors(file, () => stat(file))).size;
  };
  const found: Pick<WeighedModel, "groups" | "dtypes" | "findings"> = { groups: {}, dtypes: {}, findings: [] };
  const seen = { parameters: 0, packed: false, attention: new Set<number>() };
  for (const name of models) {
    await size(name);
    const tensors = await tensorsOf(join(root, name));
    for (const tensor of tensors) {
      add(found.groups, groupOf(tensor.name), tensor.bytes);
      if (tensor.dims.length >= 2) add(found.dtypes, tensor.dtype, tensor.bytes);
      seen.packed ||= tensor.packed;
      if (!isNoParameter(tensor.name)) seen.parameters += tensor.dims.reduce((product, dim) => product * dim, 1);
      const parts = attentionParts(tensor);
      if (parts !== null) seen.attention.add(parts);
    }
    found.findings.push(...findingsOf(name, tensors));
  }
  for (const name of others) {
    await size(name);
    if (/_data(_\d+)?$/.test(name)) continue;
    add(found.groups, "optimiser state", files[name] as number);
    found.findings.push({
      accident: "optimiser-state",
      text: `${printable(name)} is training state: leave it out of the model`,
    });
  }
  const [attention = null] = seen.attention.size === 1 ? seen.attention : [];
  return {
    ...found,
    files: sorted(files),
    groups: sorted(found.groups),
    dtypes: sorted(found.dtypes),
    bytes: Object.values(files).reduce((a, b) => a + b, 0),
    parameters: seen.packed ? null : seen.parameters,
    attention: attention as 2 | 3 | null,
  };
}

async function tensorsOf(file: string): Promise<WeighedTensor[]> {
  if (file.endsWith(".onnx")) {
    const { initializers } = await readOnnxStructure(file);
    return initializers.map(({ name, dtype, dims, byteLength }) => ({
      name: plain(name),
      dtype: ONNX_DTYPES[dtype] ?? `type ${dtype}`,
      dims,
      bytes: byteLength,
      packed: /\/(values|zero_points)$|_(quantized|Q4|q4|qweight|zero_point)$/.test(name),
    }));
  }
  const reader = await openSafetensors(file);
  try {
    return [...reader.tensors.values()].map(({ name, dtype, shape, byteLength }) => ({
      name: plain(name),
      dtype,
      dims: shape,
      bytes: byteLength,
      packed: false,
    }));
  } finally {
    await reader.close();
  }
}

const plain = (name: string) => name.replace(/^((_orig_mod|module|model|state_dict|transformer)\.)+/, "");
const isConstant = (name: string) => /^const_\d+$/.test(name);
/** Beside the weights: what graphs compute with, and what codes are multiplied by. */
const isNoParameter = (name: string) => isConstant(name) || name.endsWith("/scales");

const MASK = /^h\.\d+\.attn\.(bias|masked_bias)$/;
const STATE = /(^|[./])(exp_avg|exp_avg_sq|moment[12]|momentum(_buffer)?|optimi[sz]er|adam_[mv])([./]|$)/;

/** The group of a tensor by its name, GPT-2's or what nfc makes of it. */
function groupOf(name: string): string {
  if (STATE.test(name)) return "optimiser state";
  if (/^(wte|wpe)\./.test(name)) return "embeddings";
  if (/^(lm_head|score)\./.test(name)) return "head";
  if (MASK.test(name)) return "mask buffers";
  if (/\.attn\.noise_/.test(name)) return "noise";
  if (/\.attn\.c_attn\./.test(name)) return "attention q, k, v";
  if (/\.attn\./.test(name)) return "attention out";
  if (/\.mlp\./.test(name)) return "MLP";
  if (/(^|\.)ln_\w+\./.test(name)) return "norms";
  return isConstant(name) ? "constants" : "other";
}

/** Of c_attn [C, 3C] or [C, 2C], or turned, how many C. */
function attentionParts({ name, dims }: WeighedTensor): number | null {
  if (!/^h\.\d+\.attn\.c_attn\.weight(\/int8)?$/.test(name) || dims.length !== 2) return null;
  const [a, b] = dims as [number, number];
  const ratio = Math.max(a, b) / Math.min(a, b);
  return ratio === 2 || ratio === 3 ? ratio : null;
}

function findingsOf(file: string, tensors: readonly WeighedTensor[]): Finding[] {
  const findings: Finding[] = [];
  const find = (accident: Accident, text: string) =>
    findings.push({ accident, text: `${printable(basename(file))}: ${text}` });
  const masks = tensors.filter(({ name, dims }) => MASK.test(name) && (dims.length === 4 || dims.length === 0));
  if (masks.length > 0)
    find("mask-buffers", `${masks.length} attention mask buffers are stored: save the parameters only`);
  const state = tensors.filter(({ name }) => STATE.test(name));
  if (state.length > 0)
    find("optimiser-state", `${state.length} tensors are optimiser state, such as ${printable(state[0]?.name ?? "")}`);
  const twice = headTwice(tensors);
  if (twice)
    find(
      "head-twice",
      `the head is stored twice, as ${twice.map(printable).join(" and ")}: tie it (logits = h · wteᵀ)`,
    );
  return findings;
}

/** Two large matrices of one shape, or turned, of which one is the token embedding: [V, C]. */
function headTwice(tensors: readonly WeighedTensor[]): [string, string] | null {
  const embedding = tensors.find(({ name, dims }) => /^wte\.weight(\/int8)?$/.test(name) && dims.length === 2);
  if (!embedding) return null;
  const [rows, columns] = embedding.dims as [number, number];
  const other = tensors.find(({ name, dims }) => {
    if (/^w[tp]e\./.test(name) || dims.length !== 2) return false;
    const [a, b] = dims as [number, number];
    return (a === rows && b === columns) || (a === columns && b === rows && !/^h\./.test(name));
  });
  return other ? [embedding.name, other.name] : null;
}

function add(totals: Record<string, number>, key: string, amount: number): void {
  totals[key] = (totals[key] ?? 0) + amount;
}

function sorted<T>(record: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
