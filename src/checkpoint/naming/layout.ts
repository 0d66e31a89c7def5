// Reads a checkpoint's dimensions and orientation off its tensor shapes (GPT-2's Conv1D or nanoGPT's Linear).
import { NfcError } from "../../errors.ts";
import { MAX_LAYERS, MAX_WIDTH } from "../../model/config.ts";
import { quote, showName } from "../fields.ts";
import type { SourceTensor } from "./keys.ts";

/** [in, out] as GPT-2 stores matrices, or [out, in] as torch.nn.Linear (nanoGPT) does. */
type Orientation = "conv1d" | "linear";

/** The dimensions and orientation that the shapes show. */
export interface Layout {
  orientation: Orientation;
  /** Columns of c_attn: 3C for [q, k, v], 2C for [s, v], fewer where heads are narrower. */
  columns: number;
  layers: number;
  width: number;
  inner: number;
  vocabulary: number;
  positions: number;
  bias: boolean;
}

const LAYER = /^h\.(0|[1-9]\d*)\./;

const BIAS = /^(h\.\d+\.|ln_f\.).*bias$/;

/** How many tensor names an error message lists. */
const MAX_LISTED = 6;

/** Up to {@link MAX_LISTED} facts and how many more there are. */
export function listFirst(facts: readonly string[]): string {
  const more = facts.length - MAX_LISTED;
  return facts.slice(0, MAX_LISTED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** Lists names from untrusted files as `listFirst` does, and quotes odd ones. */
export function listFirstQuoted(names: readonly string[]): string {
  return listFirst(names.map(showName));
}

/** A shape as messages show it. */
export function showShape(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}

/**
 * Dimensions from wte, wpe, h.0's c_attn and c_fc. Whether every other tensor agrees is checked against the parameter
 * list afterwards.
 * @param tensors by canonical key, with wte.weight resolved (it may be the stored lm_head.weight)
 * @param options `narrow`: heads may be narrower than GPT-2's, in matrices stored [in, out]
 * @throws NfcError `invalid-file` or `unsupported`, naming file, tensor and shape
 */
export function detectLayout(
  file: string,
  tensors: ReadonlyMap<string, SourceTensor>,
  { narrow = false }: { narrow?: boolean } = {},
): Layout {
  const [vocabulary, width] = findMatrix(file, tensors, "wte.weight");
  if (width > MAX_WIDTH) {
    throw new NfcError("unsupported", `${file}: wte.weight is ${vocabulary} x ${width}; widths end at ${MAX_WIDTH}`);
  }
  const [positions] = findMatrix(file, tensors, "wpe.weight");
  const matrix = findMatrix(file, tensors, "h.0.attn.c_attn.weight");
  const attn = narrow && matrix[0] === width ? makeNarrow(matrix[1]) : detectAttention(file, matrix, width);
  const mlp = detectMlp(file, findMatrix(file, tensors, "h.0.mlp.c_fc.weight"), width);
  if (mlp.orientation !== null && mlp.orientation !== attn.orientation) {
    const message = `${file}: h.0.attn.c_attn.weight is stored as ${attn.orientation} and h.0.mlp.c_fc.weight as ${mlp.orientation}`;
    throw new NfcError("invalid-file", message, {
      hint: "all weight matrices of a checkpoint must be stored the same way, [in, out] or [out, in]",
    });
  }
  return {
    ...attn,
    layers: countLayers(file, [...tensors.keys()]),
    width,
    inner: mlp.inner,
    vocabulary,
    positions,
    bias: [...tensors.keys()].some((key) => BIAS.test(key)),
  };
}

function findMatrix(file: string, tensors: ReadonlyMap<string, SourceTensor>, key: string): [number, number] {
  const tensor = tensors.get(key);
  if (tensor === undefined) {
    const names = [...tensors.values()].map((other) => other.name);
    const message = `${file}: no ${key} among its ${names.length} tensors (${listFirstQuoted(names)})`;
    throw new NfcError("invalid-file", message, { hint: "is it a GPT-2 checkpoint, and is it complete?" });
  }
  const [rows, columns] = tensor.shape;
  if (tensor.shape.length !== 2 || rows === undefined || columns === undefined || rows < 1 || columns < 1) {
    const message = `${file}: ${quote(tensor.name)} is ${showShape(tensor.shape)}, expected a matrix`;
    throw new NfcError("invalid-file", message);
  }
  return [rows, columns];
}

function makeNarrow(columns: number): Pick<Layout, "orientation" | "columns"> {
  return { orientation: "conv1d", columns };
}

/** c_attn [C, 3C] or [C, 2C]: Conv1D; [3C, C] or [2C, C]: Linear. It is never square, so it decides. */
function detectAttention(
  file: string,
  shape: [number, number],
  width: number,
): Pick<Layout, "orientation" | "columns"> {
  const [rows, columns] = shape;
  const name = "h.0.attn.c_attn.weight";
  for (const parts of [3, 2] as const) {
    if (rows === width && columns === parts * width) return { orientation: "conv1d", columns };
    if (columns === width && rows === parts * width) return { orientation: "linear", columns: rows };
  }
  const other = rows === width ? columns : rows;
  if ((rows === width || columns === width) && other > width && other < 3 * width && (other - width) % 2 === 0) {
    throw new NfcError("unsupported", `${file}: ${name} is ${showShape(shape)}: multi-query attention (GPTBigCode)`, {
      hint: "nfc ties Q and K of heads that have a K of their own: GPT-2 and nanoGPT",
    });
  }
  throw new NfcError(
    "invalid-file",
    `${file}: ${name} is ${showShape(shape)}, expected ${showShape([width, 3 * width])} (or ${showShape([width, 2 * width])} tied), either way round`,
    { hint: `wte.weight says that the width is ${width}` },
  );
}

/** c_fc [C, I]: Conv1D; [I, C]: Linear; [C, C] says nothing. */
function detectMlp(
  file: string,
  shape: [number, number],
  width: number,
): { orientation: Orientation | null; inner: number } {
  const [rows, columns] = shape;
  if (rows === width) return { orientation: columns === width ? null : "conv1d", inner: columns };
  if (columns === width) return { orientation: "linear", inner: rows };
  const message = `${file}: h.0.mlp.c_fc.weight is ${showShape(shape)}, expected ${width} on one side`;
  throw new NfcError("invalid-file", message, { hint: `wte.weight says that the width is ${width}` });
}

/** Layers must be numbered 0, 1, 2, ... without a gap. */
function countLayers(file: string, keys: readonly string[]): number {
  const found = new Set<number>();
  for (const key of keys) {
    const index = LAYER.exec(key)?.[1];
    if (index !== undefined) found.add(Number(index));
  }
  if (found.size > MAX_LAYERS) {
    throw new NfcError("unsupported", `${file}: ${found.size} layers; nfc goes up to ${MAX_LAYERS}`);
  }
  for (let layer = 0; layer < found.size; layer++) {
    if (found.has(layer)) continue;
    throw new NfcError("invalid-file", `${file}: layer ${layer} (h.${layer}.*) is missing`, {
      hint: "a shard may be missing: download the checkpoint again",
    });
  }
  return found.size;
}
