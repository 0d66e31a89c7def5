// Reads a small GGUF file whole, for tests, and finds the llama.cpp that tests may ask.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export interface GgufContent {
  metadata: Map<string, unknown>;
  tensors: Map<string, { type: number; shape: number[]; bytes: Uint8Array }>;
}

/** Bytes of `count` numbers, by ggml's number of the type. */
const BLOCKS: Readonly<Record<number, { count: number; bytes: number }>> = {
  0: { count: 1, bytes: 4 },
  1: { count: 1, bytes: 2 },
  2: { count: 32, bytes: 18 },
  8: { count: 32, bytes: 34 },
};

/** Written by the format's description, apart from src. Shapes are row-major. */
export function readGguf(file: string): GgufContent {
  const bytes = readFileSync(file);
  let at = 0;
  const take = (count: number) => {
    at += count;
    return bytes.subarray(at - count, at);
  };
  const u32 = () => take(4).readUInt32LE();
  const u64 = () => Number(take(8).readBigUInt64LE());
  const text = () => take(u64()).toString("utf8");
  const value = (kind: number): unknown => {
    if (kind === 4) return u32();
    if (kind === 5) return take(4).readInt32LE();
    if (kind === 6) return take(4).readFloatLE();
    if (kind === 7) return take(1)[0] === 1;
    if (kind === 8) return text();
    if (kind !== 9) throw new Error(`kind ${kind}`);
    const inner = u32();
    return Array.from({ length: u64() }, () => value(inner));
  };
  if (take(4).toString() !== "GGUF" || u32() !== 3) throw new Error("no GGUF of version 3");
  const [tensorCount, keyCount] = [u64(), u64()];
  const metadata = new Map(Array.from({ length: keyCount }, () => [text(), value(u32())] as const));
  const described = Array.from({ length: tensorCount }, () => {
    const name = text();
    const shape = Array.from({ length: u32() }, u64).reverse();
    return { name, shape, type: u32(), offset: u64() };
  });
  const start = Math.ceil(at / 32) * 32;
  const tensors = described.map(({ name, shape, type, offset }) => {
    const block = BLOCKS[type] as { count: number; bytes: number };
    const size = (shape.reduce((a, b) => a * b, 1) / block.count) * block.bytes;
    if (offset % 32 !== 0 || start + offset + size > bytes.length) throw new Error(`${name} lies at ${offset}`);
    return [name, { type, shape, bytes: bytes.subarray(start + offset, start + offset + size) }] as const;
  });
  return { metadata, tensors: new Map(tensors) };
}

/** node-llama-cpp, where NFC_LLAMA_CPP names its folder, or it is installed; null elsewhere. */
export async function findLlama(): Promise<LlamaModule | null> {
  const named = process.env.NFC_LLAMA_CPP;
  const name = named ? pathToFileURL(join(named, "dist/index.js")).href : "node-llama-cpp";
  return import(name).catch((error: { code?: string }) => {
    if (!named && error.code === "ERR_MODULE_NOT_FOUND") return null;
    throw error;
  });
}

interface LlamaModule {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<LlamaModel>; dispose(): Promise<void> }>;
}

interface LlamaModel {
  tokenize(text: string): number[];
  createContext(options: object): Promise<{ getSequence(): LlamaSequence }>;
}

interface LlamaSequence {
  controlledEvaluate(input: unknown[]): Promise<{ next: { logits: Map<number, number>; totalLogitWeight: number } }[]>;
}

/** What llama.cpp says of a file: the ids of a text, and the mean loss of a window of ids, in nats a token. */
export async function askLlama(module: LlamaModule, file: string, text: string, ids: readonly number[]) {
  const llama = await module.getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: 1 });
  const model = await llama.loadModel({ modelPath: file });
  const context = await model.createContext({ contextSize: ids.length, batchSize: ids.length, threads: 1 });
  const inputs = ids.map((id, i) => {
    if (i + 1 === ids.length) return id;
    const filter = { tokens: [ids[i + 1]], includeTop: 1 };
    return [id, { generateNext: { logits: { filter }, totalLogitWeight: true, options: { temperature: 0 } } }];
  });
  const outputs = await context.getSequence().controlledEvaluate(inputs);
  const losses = ids.slice(1).map((id, i) => {
    const { logits, totalLogitWeight } = (outputs[i] as Awaited<typeof outputs>[number]).next;
    return Math.max(...logits.values()) + Math.log(totalLogitWeight) - (logits.get(id) as number);
  });
  const result = { ids: [...model.tokenize(text)], loss: losses.reduce((a, b) => a + b, 0) / losses.length };
  await llama.dispose();
  return result;
}
