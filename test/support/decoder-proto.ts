// Small exports made by hand: the messages of a decoder's ONNX file, and a folder around them, for tests to spoil.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { encodeMessage } from "../../src/formats/onnx/encode.ts";

interface Dim {
  dimValue?: number;
  dimParam?: string;
}
export interface ValueProto {
  name: string;
  type: { tensorType: { elemType: number; shape?: { dim: Dim[] } } };
}
export interface TensorProto {
  name?: string;
  dims?: number[];
  dataType?: number;
  rawData?: Uint8Array;
  floatData?: Uint8Array[];
  doubleData?: Uint8Array[];
  int32Data?: Uint8Array[];
  int64Data?: Uint8Array[];
  stringData?: Uint8Array[];
  externalData?: { key: string; value: string }[];
  dataLocation?: number;
}
interface NodeProto {
  opType: string;
  domain?: string;
  attribute?: object[];
}
export interface ModelProto {
  irVersion: number;
  opsetImport: { domain: string; version: number }[];
  functions?: Uint8Array[];
  graph: {
    node: NodeProto[];
    input: ValueProto[];
    output: ValueProto[];
    initializer: TensorProto[];
    sparseInitializer?: Uint8Array[];
  };
}

/** 2 layers, 4 heads of 8, 16 positions, 40 tokens. */
export const CONFIG = {
  ...{ model_type: "gpt2", n_layer: 2, n_head: 4, n_embd: 32, n_positions: 16, vocab_size: 40 },
  ...{ bos_token_id: 3, eos_token_id: 3 },
};

export const FLOAT = 1;
const INT64 = 7;
export const HALF = 10;

export function value(name: string, elemType: number, dims: readonly (number | string)[]): ValueProto {
  const dim = dims.map((one) => (typeof one === "number" ? { dimValue: one } : { dimParam: one }));
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

export function externalTensor(name: string, dims: number[], entries: Record<string, string>): TensorProto {
  const externalData = Object.entries(entries).map(([key, entry]) => ({ key, value: entry }));
  return { name, dims, dataType: FLOAT, externalData, dataLocation: 1 };
}

/** A model file with the inputs and outputs of CONFIG; its one node computes nothing. */
export function decoderProto({ cache = FLOAT, logits = FLOAT } = {}): ModelProto {
  const total = "past_sequence_length + sequence_length";
  const caches = (prefix: string, length: string) =>
    [0, 1].flatMap((layer) =>
      ["key", "value"].map((part) => value(`${prefix}.${layer}.${part}`, cache, ["batch_size", 4, length, 8])),
    );
  return {
    irVersion: 9,
    opsetImport: [{ domain: "", version: 20 }],
    graph: {
      node: [{ opType: "Identity" }],
      input: [
        value("input_ids", INT64, ["batch_size", "sequence_length"]),
        value("attention_mask", INT64, ["batch_size", total]),
        value("position_ids", INT64, ["batch_size", "sequence_length"]),
        ...caches("past_key_values", "past_sequence_length"),
      ],
      output: [value("logits", logits, ["batch_size", "sequence_length", 40]), ...caches("present", total)],
      initializer: [{ name: "wpe.weight", dims: [16, 32], dataType: FLOAT, rawData: new Uint8Array(4 * 16 * 32) }],
    },
  };
}

export const encoded = (model: ModelProto): Uint8Array => encodeMessage("ModelProto", model);

/** Writes files below `folder`: text, JSON and bytes. */
export function writeFolder(folder: string, files: Readonly<Record<string, string | object>>): string {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    const raw = typeof content === "string" || content instanceof Uint8Array;
    writeFileSync(join(folder, name), raw ? content : JSON.stringify(content));
  }
  return folder;
}

/** The smallest valid model file, changed. */
export function changedProto(change: (model: ModelProto) => void = () => {}): Uint8Array {
  const model = decoderProto();
  change(model);
  return encoded(model);
}

/** A folder around it; `config` changes config.json. */
export function writeChanged(folder: string, change?: (model: ModelProto) => void, config: object = {}): string {
  return writeFolder(folder, { "config.json": { ...CONFIG, ...config }, "onnx/model.onnx": changedProto(change) });
}
