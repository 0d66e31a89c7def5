// Checkpoints without files: headers for a configuration, as the report and inspect read them; weights are not there.

import type { Checkpoint, CheckpointTensor } from "../../src/checkpoint/checkpoint.ts";
import type { NfcRecord } from "../../src/checkpoint/nfc-record.ts";
import type { FloatDtype } from "../../src/formats/dtype.ts";
import { countBytes, type Dtype } from "../../src/formats/dtype.ts";
import type { StoredTensor, TensorReader } from "../../src/formats/safetensors/reader.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { tinyModelConfig } from "./make-checkpoint.ts";

/** GPT-2 small, as published. */
export const GPT2_SMALL: ModelConfig = tinyModelConfig({
  layers: 12,
  heads: 12,
  width: 768,
  positions: 1024,
  vocab: 50257,
});

/** Two layers of width 8: small enough to count by hand. */
export const TINY: ModelConfig = tinyModelConfig();

export const SHA = (digit: string) => digit.repeat(64);

export interface FakeOptions {
  source?: string;
  dtype?: FloatDtype | ((name: string) => FloatDtype);
  prefix?: string;
  transposed?: boolean;
  record?: NfcRecord;
  notes?: string[];
  /** Stored tensors that are no parameters. */
  unused?: { name: string; dtype: Dtype; shape: number[] }[];
  /** Rows of the stored wte.weight beyond the vocabulary. */
  padding?: number;
}

const HEADER_BYTES = 100;

export function fakeCheckpoint(config: ModelConfig, options: FakeOptions = {}): Checkpoint {
  const { source = "models/base", prefix = "", transposed = false } = options;
  const file = `/somewhere/${source}/model.safetensors`;
  const tensors = new Map<string, CheckpointTensor>();
  const stored = new Map<string, StoredTensor>();
  for (const { name, shape } of listParameters(config)) {
    const dtype = typeof options.dtype === "function" ? options.dtype(name) : (options.dtype ?? "F32");
    const sourceName = prefix + name;
    const turned = transposed && /\.(c_attn|c_proj|c_fc)\.weight$/.test(name);
    const byteLength = countBytes(dtype, shape);
    tensors.set(name, { name, dtype, shape, sourceName, transposed: turned, byteLength, file, offset: 0 });
    const rows = name === "wte.weight" ? [(shape[0] ?? 0) + (options.padding ?? 0), config.n_embd] : shape;
    stored.set(sourceName, {
      name: sourceName,
      dtype,
      shape: rows,
      byteLength: countBytes(dtype, rows),
      file,
      offset: 0,
    });
  }
  for (const { name, dtype, shape } of options.unused ?? []) {
    stored.set(name, { name, dtype, shape, byteLength: countBytes(dtype, shape), file, offset: 0 });
  }
  const bytes = [...stored.values()].reduce((sum, { byteLength }) => sum + byteLength, HEADER_BYTES);
  return {
    source,
    folder: null,
    reader: fakeReader(file, bytes, stored),
    config,
    rawConfig: {},
    tensors,
    notes: options.notes ?? [],
    record: options.record ?? null,
    readF32: noWeights,
    chunks: noWeights,
    close: async () => {},
  };
}

function fakeReader(file: string, byteLength: number, tensors: ReadonlyMap<string, StoredTensor>): TensorReader {
  return {
    path: file,
    files: [file],
    byteLength,
    tensors,
    metadata: {},
    warnings: [],
    readBytes: noWeights,
    readF32: noWeights,
    chunks: noWeights,
    close: async () => {},
  };
}

function noWeights(): never {
  throw new Error("weights were read");
}

/** The nfc.json of a model converted from `source`. */
export function recordOf(source: Checkpoint, config: ModelConfig, changes: Partial<NfcRecord> = {}): NfcRecord {
  const parameters = [...source.tensors.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const errors = Array.from({ length: config.n_layer }, (_, layer) => {
    return Array.from({ length: config.n_head }, (_, head) => (layer + 1) / 8 + head / 16);
  });
  return {
    format: "nfc/1",
    tool: { name: "nfc", version: "0.1.0" },
    variant: config.variant,
    tie: { strategy: "calibrated", calibration: { file: "train.txt", sha256: SHA("a"), tokens: 65536 }, errors },
    source: {
      path: source.source,
      files: [{ name: "model.safetensors", bytes: source.reader.byteLength, sha256: SHA("b") }],
      parameters,
    },
    command: ["nfc", "convert", source.source, "-o", "out/nf"],
    history: [],
    notes: [],
    ...changes,
  };
}
