// The tensors of a model file as its header declares them: group, weights, bytes, and signs of accidents. Reads no weights.

import { basename } from "node:path";
import { MASK_BUFFER } from "../../checkpoint/naming/keys.ts";
import { readOnnxStructure } from "../../formats/onnx/reader.ts";
import type { OnnxStructure } from "../../formats/onnx/structure.ts";
import { openSafetensors } from "../../formats/safetensors/reader.ts";
import { escapeTerminal } from "../../io/printable.ts";
import { findParameterGroup, findParameterKind, type ParameterGroup } from "../../model/parameters.ts";
import { groupBy, sumWeights, type Weight } from "./weights.ts";

/** Faults that a model may have besides its size. */
export const ACCIDENT_KINDS = ["head-twice", "mask-buffers", "optimiser-state", "k-in-c_attn", "dtype"] as const;
type AccidentKind = (typeof ACCIDENT_KINDS)[number];

export interface Accident {
  kind: AccidentKind;
  /** The fault, and its remedy. */
  text: string;
}

/** Groups of tensors by their names, GPT-2's or what nfc makes of it. */
export const TENSOR_GROUPS = [
  ...["embeddings", "attention q, k, v", "attention out", "MLP", "norms", "noise", "head"],
  ...["mask buffers", "optimiser state", "constants", "other"],
] as const;
export type TensorGroup = (typeof TENSOR_GROUPS)[number];

/** The label of each group of parameters in a table, and the group of tensors that holds it. */
export const GROUP_NAMES: Readonly<Record<ParameterGroup, { label: string; tensors: TensorGroup }>> = {
  embeddings: { label: "embeddings", tensors: "embeddings" },
  "attention.q": { label: "q", tensors: "attention q, k, v" },
  "attention.k": { label: "k", tensors: "attention q, k, v" },
  "attention.qk": { label: "q = k", tensors: "attention q, k, v" },
  "attention.v": { label: "v", tensors: "attention q, k, v" },
  "attention.out": { label: "out", tensors: "attention out" },
  mlp: { label: "MLP", tensors: "MLP" },
  norms: { label: "norms", tensors: "norms" },
  noise: { label: "noise", tensors: "noise" },
  head: { label: "head", tensors: "head" },
};

/** A stored tensor, of safetensors or ONNX. */
export interface HeaderTensor extends Weight {
  /** The name without a wrapper's prefix; wte.weight where the head alone is stored, and serves as both. */
  name: string;
  /** The name of the dtype in safetensors: F32, BF16, I8, U4, … */
  dtype: string;
  dims: readonly number[];
  /** The part of its bytes that lies in another file than the header. */
  externalBytes: number;
  group: TensorGroup;
  /** The number of weights: 0 for scales, constants and buffers; null for codes whose number the header does not tell. */
  parameters: number | null;
}

/** ONNX's numbers of the dtypes that exports hold. */
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
 * @param file *.onnx, or else safetensors
 * @throws NfcError "invalid-file", "unsupported" or "not-found" for a file that cannot be read
 */
export async function readHeaderTensors(file: string): Promise<HeaderTensor[]> {
  if (file.endsWith(".onnx")) return readOnnxTensors(await readOnnxStructure(file));
  const reader = await openSafetensors(file);
  try {
    return describeTensors(
      Array.from(reader.tensors.values(), ({ name, dtype, shape: dims, byteLength: bytes }) => {
        return { name, dtype, dims, bytes, externalBytes: 0 };
      }),
    );
  } finally {
    await reader.close();
  }
}

/** The same for an ONNX file whose structure has been read. */
export function readOnnxTensors({ initializers, packed }: OnnxStructure): HeaderTensor[] {
  return describeTensors(
    initializers.map(({ name, dtype: code, dims, byteLength: bytes, external }) => {
      const dtype = ONNX_DTYPES[code] ?? `type ${code}`;
      return { name, dtype, dims, bytes, externalBytes: external ? bytes : 0 };
    }),
    packed,
  );
}

type DeclaredTensor = Omit<HeaderTensor, "group" | "parameters">;

/** The prefix that a wrapper put before a name of GPT-2's: "m.transformer.h.0.attn.c_attn.bias". */
const PREFIX = /^.*?(?=(?<![^.])(?:wte|wpe|ln_f|lm_head|score|h\.\d+)\.)/;
const HEAD = /^lm_head(?=\.weight)/;

function describeTensors(
  all: readonly DeclaredTensor[],
  packed: ReadonlyMap<string, number> = new Map(),
): HeaderTensor[] {
  const names = all.map(({ name }) => (STATE.test(name) ? name : name.replace(PREFIX, "")));
  const embedded = names.some((name) => name.startsWith("wte."));
  return all.map((stored, i) => {
    const own = names[i] as string;
    const name = embedded ? own : own.replace(HEAD, "wte");
    const tensor = { ...stored, name, group: findTensorGroup(name) };
    return { ...tensor, parameters: packed.get(stored.name) ?? countParameters(tensor) };
  });
}

const isMask = ({ name, dims }: Pick<HeaderTensor, "name" | "dims">): boolean =>
  MASK_BUFFER.test(name) && (dims.length === 4 || dims.length === 0);
const STATE = /(^|[./])(exp_avg|exp_avg_sq|moment[12]|momentum(_buffer)?|optimi[sz]er|adam_[mv])([./]|$)/;
/** Names of constants by nfc and PyTorch's exporter. */
const CONSTANT = /^(const|val)_\d+$/;
/** The token embedding, or its codes, which each format names in its way. */
const EMBEDDING = /^wte\.weight/;
/** Names of scales and zero points in exports of nfc and of ONNX Runtime's tools. */
const SCALE = /(\/scales|\/zero_points|_scales?|_zero_points?|_zp)$/;
/** Names of tensors that pack several weights into an element, in formats that no header explains. */
const PACKED = /(qweight|qzeros|quant_state|absmax|_Q4|_q4|_quant)$/;

function findTensorGroup(name: string): TensorGroup {
  if (STATE.test(name)) return "optimiser state";
  if (MASK_BUFFER.test(name)) return "mask buffers";
  if (findParameterKind(name) === "attention input") return "attention q, k, v";
  const group = findParameterGroup(name);
  if (group !== null) return GROUP_NAMES[group].tensors;
  return CONSTANT.test(name) ? "constants" : "other";
}

function countParameters({ name, dtype, dims, group }: Omit<HeaderTensor, "parameters">): number | null {
  if (group === "other" && dims.length === 0) return 0; // a number that the graph computes with
  if (["I64", "BOOL"].includes(dtype) || [CONSTANT, SCALE, STATE].some((pattern) => pattern.test(name))) return 0;
  if (isMask({ name, dims })) return 0;
  const packed = PACKED.test(name) && !["U4", "I4"].includes(dtype); // those types have an element for each weight
  return packed ? null : dims.reduce((product, dim) => product * dim, 1);
}

/** Bytes of matrices by format, in the order in which formats come up. */
export function sumFormats(tensors: readonly HeaderTensor[]): Record<string, number> {
  const matrices = tensors.filter(({ dims }) => dims.length >= 2);
  const formats = [...groupBy(matrices, ({ dtype }) => dtype)];
  return Object.fromEntries(formats.map(([dtype, own]) => [dtype, sumWeights(own).bytes]));
}

/** The format that most bytes have. */
export function findLargestFormat(formats: Readonly<Record<string, number>>): string | null {
  return Object.entries(formats).sort(([, a], [, b]) => b - a)[0]?.[0] ?? null;
}

/**
 * Rows and columns of a matrix. Codes that are packed lie together along the last axes, so that the first is whole: blocks
 * are [rows, blocks, bytes].
 * @returns null for tensors of other dimensions, for scales, and for codes whose number is not known
 */
export function findMatrix({ dims, parameters }: HeaderTensor): [number, number] | null {
  const [rows] = dims;
  return rows && parameters && (dims.length === 2 || dims.length === 3) ? [rows, parameters / rows] : null;
}

/** Finds the usual accidents of a file: its head twice, mask buffers, optimizer state. */
export function findAccidents(file: string, tensors: readonly HeaderTensor[]): Accident[] {
  const found: Accident[] = [];
  const find = (kind: AccidentKind, text: string) =>
    found.push({ kind, text: `${escapeTerminal(basename(file))}: ${text}` });
  const masks = tensors.filter(isMask);
  if (masks.length > 0)
    find("mask-buffers", `${masks.length} attention mask buffers are stored: save the parameters only`);
  const state = tensors.filter(({ name }) => STATE.test(name));
  if (state.length > 0)
    find(
      "optimiser-state",
      `${state.length} tensors are optimiser state, such as ${escapeTerminal(state[0]?.name ?? "")}`,
    );
  const twice = findSecondHead(tensors);
  if (twice)
    find(
      "head-twice",
      `the head is stored twice, as ${twice.map(escapeTerminal).join(" and ")}: tie it (logits = h · wteᵀ)`,
    );
  return found;
}

/** Two large matrices of one shape, or turned, of which one is the token embedding: [V, C]. */
function findSecondHead(tensors: readonly HeaderTensor[]): [string, string] | null {
  const embedding = tensors.find((tensor) => EMBEDDING.test(tensor.name) && findMatrix(tensor) !== null);
  const [rows, columns] = (embedding && findMatrix(embedding)) ?? [];
  if (!embedding || rows === undefined || columns === undefined) return null;
  const other = tensors.find((tensor) => {
    if (/^(w[tp]e|h\.\d+)\./.test(tensor.name)) return false;
    const [a, b] = findMatrix(tensor) ?? [];
    return (a === rows && b === columns) || (a === columns && b === rows);
  });
  return other ? [embedding.name, other.name] : null;
}
