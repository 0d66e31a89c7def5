// The columns of c_attn by the headers of a model file, in every format: how wide queries, keys and values are in each layer.
import { findMatrix, type HeaderTensor } from "./header-tensors.ts";

/** Columns of c_attn; the lists have a number for each layer, in each model of the files. */
export interface AttentionColumns {
  /** C, the width of the model. */
  width: number;
  /** Whether c_attn has a bias, of a number for each column. */
  biased: boolean;
  /** All columns: 3C of GPT-2. */
  all: number[];
  /** Those of queries and keys: 2C of GPT-2, C where they are tied, less of low rank. */
  queryKey: number[];
}

/** Weights, under the names that the formats of nfc and of ONNX Runtime's tools give to their codes too. */
const C_ATTN = /^h\.(\d+)\.attn\.c_attn\.weight/;
const C_PROJ = /^h\.(\d+)\.attn\.c_proj\.weight/;
const BIAS = /^h\.\d+\.attn\.c_attn\.bias/;
const NORM = /^(ln_f|h\.\d+\.ln_1)\.weight$/;

/** @returns null where there is no c_attn, and where the form of one is not known */
export function findAttentionColumns(tensors: readonly HeaderTensor[]): AttentionColumns | null {
  const inputs = tensors.flatMap((tensor) => findLayer(tensor, C_ATTN));
  const [first] = inputs;
  if (!first) return null;
  const norm = tensors.find(({ name, dims }) => NORM.test(name) && dims.length === 1);
  const width = norm?.dims[0] ?? Math.min(...(findMatrix(first) ?? [0])); // a low-rank matrix may be narrower than C
  const outputs = new Map<string, number[]>(); // the columns of values in each layer, of each model, the last first: rows of c_proj
  for (const output of tensors.flatMap((tensor) => findLayer(tensor, C_PROJ)).reverse()) {
    const later = outputs.get(output.layer) ?? [];
    later.push(findOtherAxis(output, width) ?? width);
    outputs.set(output.layer, later);
  }
  const columns: AttentionColumns = {
    width,
    biased: tensors.some(({ name }) => BIAS.test(name)),
    all: [],
    queryKey: [],
  };
  for (const input of inputs) {
    const all = findOtherAxis(input, width);
    if (all === null) return null;
    columns.all.push(all);
    columns.queryKey.push(all - (outputs.get(input.layer)?.pop() ?? width));
  }
  return columns;
}

/** A matrix with the number of its layer, or nothing where the name is another's, or that of scales or of a vector. */
function findLayer(tensor: HeaderTensor, pattern: RegExp): (HeaderTensor & { layer: string })[] {
  const [, layer] = pattern.exec(tensor.name) ?? [];
  return layer === undefined || tensor.parameters === 0 || tensor.dims.length < 2 ? [] : [{ ...tensor, layer }];
}

/** The length of the axis beside that of C. */
function findOtherAxis(tensor: HeaderTensor, width: number): number | null {
  const [a, b] = findMatrix(tensor) ?? [];
  if (a === undefined || b === undefined) return null;
  return a === width ? b : b === width ? a : null;
}

/**
 * Columns of c_attn in widths C, the same in all layers: 3 is GPT-2's [q, k, v]; 2 is [s, v], or [q, k, v] with q and k of
 * half as many numbers; null where there is none, where layers differ, and for other ranks.
 */
export function findAttentionParts(columns: AttentionColumns | null): 2 | 3 | null {
  const parts = new Set(columns?.all.map((count) => count / (columns.width || 1)));
  const [ratio] = parts.size === 1 ? parts : [];
  return ratio === 2 || ratio === 3 ? ratio : null;
}
