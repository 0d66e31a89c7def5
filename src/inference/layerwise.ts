// Runs the forward pass one layer at a time, so that memory holds one layer's weights: for calibration and self-checks.

import { type Checkpoint, requireTensor } from "../checkpoint/checkpoint.ts";
import { throwIfAborted } from "../errors.ts";
import { decodeFloats } from "../formats/dtype.ts";
import { type Dim, multiplyDims } from "../graph/dims.ts";
import { Graph, pruneGraph, type Value } from "../graph/ir.ts";
import { gemm } from "../graph/ops.ts";
import { makeFloat32Tensor, Session, type SessionOptions, type Tensor, type Tensors } from "../graph/session.ts";
import { encodeOnnx } from "../graph/to-onnx.ts";
import { type AttentionContext, type AttentionOutput, attention, buildAttentionContext } from "../model/attention.ts";
import type { ModelConfig } from "../model/config.ts";
import { type BlockOutput, block, wrapAttention } from "../model/gpt2.ts";
import {
  makeLayerLookup,
  makeOwnLayerLookup,
  makeParameterLookup,
  norm,
  type ParameterLookup,
} from "../model/layers.ts";
import { nameHead, SCORE } from "../model/parameters.ts";

/** Rows of the head's matrix that are multiplied at once: 8,192 rows of GPT-2 XL are 52 MB. */
const HEAD_ROWS = 8192;
/** Rows of an embedding that are read at once, of which few are wanted. */
const EMBEDDING_ROWS = 1024;

/** Hidden states of one batch of windows. */
export interface Hidden {
  x: Float32Array; // [B·T, C]
  batch: number;
  length: number;
}

/** wte[ids] + wpe[0 … T−1] for windows of one length, reading the embedding as a stream: [B·T, C] */
export async function embedWindows(checkpoint: Checkpoint, windows: readonly Int32Array[]): Promise<Hidden> {
  const length = windows[0]?.length ?? 0;
  const width = checkpoint.config.n_embd;
  const ids = windows.flatMap((window) => [...window]);
  const x = new Float32Array(ids.length * width);
  await addRows(checkpoint, "wte.weight", ids, x);
  await addRows(
    checkpoint,
    "wpe.weight",
    ids.map((_, i) => i % length),
    x,
  );
  return { x, batch: windows.length, length };
}

/** Embeds each window as a batch of its own, so that the largest tensors of a run are attention scores [1, H, T, T]. */
export async function embedWindowsApart(checkpoint: Checkpoint, windows: readonly Int32Array[]): Promise<Hidden[]> {
  const { x, length } = await embedWindows(checkpoint, windows);
  const size = x.length / windows.length;
  return windows.map((_, i) => ({ x: x.slice(i * size, (i + 1) * size), batch: 1, length }));
}

/** x[i] += tensor[rows[i]] */
async function addRows(checkpoint: Checkpoint, name: string, rows: readonly number[], x: Float32Array): Promise<void> {
  const wanted = new Map<number, number[]>();
  for (const [i, row] of rows.entries()) {
    const places = wanted.get(row);
    if (places) places.push(i);
    else wanted.set(row, [i]);
  }
  const width = checkpoint.config.n_embd;
  const { dtype } = requireTensor(checkpoint, name);
  for await (const { first, count, bytes } of cutRowBlocks(checkpoint, name, EMBEDDING_ROWS)) {
    const rowBytes = bytes.byteLength / count;
    for (let row = 0; row < count; row++)
      for (const i of wanted.get(first + row) ?? []) {
        const values = decodeFloats(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), dtype);
        for (let c = 0; c < width; c++) x[i * width + c] = (x[i * width + c] as number) + (values[c] as number);
      }
  }
}

interface RowBlock {
  first: number;
  count: number;
  /** The stored rows; valid until the next block is asked for. */
  bytes: Uint8Array;
}

/** A [R, C] matrix as blocks of at most `most` rows. */
async function* cutRowBlocks(checkpoint: Checkpoint, name: string, most: number): AsyncGenerator<RowBlock> {
  const tensor = requireTensor(checkpoint, name);
  const [total] = tensor.shape as [number, number];
  const rowBytes = tensor.byteLength / total;
  const block = new Uint8Array(Math.min(most, total) * rowBytes);
  let first = 0;
  let filled = 0;
  for await (const chunk of checkpoint.chunks(name))
    for (let at = 0; at < chunk.byteLength; ) {
      const take = Math.min(chunk.byteLength - at, block.byteLength - filled);
      block.set(chunk.subarray(at, at + take), filled);
      at += take;
      filled += take;
      if (filled < block.byteLength && first + filled / rowBytes < total) continue;
      yield { first, count: filled / rowBytes, bytes: block.subarray(0, filled) };
      first += filled / rowBytes;
      filled = 0;
    }
  if (first !== total) throw new Error(`${name}: stream ended early`);
}

/** Attention in another form than the model's own, of the same value. */
type Attend<Attention> = (x: Value, parameters: ParameterLookup, context: AttentionContext, layer: number) => Attention;

export interface LayerSessionOptions<Attention = AttentionOutput> extends Pick<SessionOptions, "device" | "threads"> {
  /** Once aborted, `run` throws "aborted". */
  signal?: AbortSignal | undefined;
  /**
   * Names the graph outputs; values that they do not need are left out. It may ask for further weights
   * (`graph.parameter`), given in `weights`, which also take the place of the checkpoint's own of that name.
   */
  outputs: (graph: Graph, block: BlockOutput<Attention>, context: AttentionContext) => void;
  attend?: Attend<Attention> | undefined;
  /** The length of all windows, which then run one at a time: attention may be cut by it. */
  windowLength?: number | undefined;
  weights?: ReadonlyMap<string, Float32Array> | undefined;
  /** Whether each run is given a tensor for every output (`runInto`). */
  given?: boolean | undefined;
}

/** One block, or a part of it, as a session over hidden states; noise at its mean. */
export interface LayerSession {
  /** @param into tensors that some of the outputs are copied into */
  run(hidden: Hidden, into?: Tensors): Promise<Record<string, Tensor>>;
  /**
   * For a session with `given`: all outputs are written into these tensors, which saves large ones two copies.
   * @param further inputs that `outputs` has declared
   */
  runInto(hidden: Hidden, into: Tensors, further?: Tensors): Promise<void>;
  close(): Promise<void>;
}

export async function openLayerSession<Attention extends { output: Value } = AttentionOutput>(
  checkpoint: Checkpoint,
  layer: number,
  {
    device = "cpu",
    threads,
    signal,
    outputs,
    attend,
    windowLength,
    weights: other,
    given,
  }: LayerSessionOptions<Attention>,
): Promise<LayerSession> {
  const { config } = checkpoint;
  const graph = new Graph();
  const { input, context } = declareLayerInputs(graph, config, windowLength ? [1, windowLength] : undefined);
  const parameters = makeLayerLookup(makeParameterLookup(graph, config), layer);
  const attendTo = (attend ?? attention) as Attend<Attention>; // without `attend`, Attention is AttentionOutput
  outputs(
    graph,
    wrapAttention(input, parameters, config, (normed) => attendTo(normed, parameters, context, layer)),
    context,
  );
  const weights = new Map(other);
  for (const { name } of pruneGraph(graph).parameters)
    if (!weights.has(name)) weights.set(name, await checkpoint.readF32(name));
  const weightOf = ({ name }: Value) => weights.get(name) as Float32Array;
  const uncopied = given && device === "cpu";
  const options = { device, threads, shortLived: true, outputs: uncopied ? "given" : "host" } as const;
  const session = await Session.withWeights(graph, weightOf, options);
  weights.clear(); // the session has its own copy
  const feed = (hidden: Hidden, further?: Tensors): Tensors => {
    throwIfAborted(signal);
    return { ...further, ...feedLayer(hidden, config) };
  };
  return {
    run: async (hidden, into) => session.run(feed(hidden), into),
    async runInto(hidden, into, further) {
      const feeds = feed(hidden, further);
      if (uncopied) await session.runInto(feeds, into);
      else await session.run(feeds, into);
    },
    close: () => session.close(),
  };
}

/** Declares what a graph of one layer is fed: hidden states x [B·T, C], and ids [B, T], of which the shape alone is read. */
function declareLayerInputs(
  graph: Graph,
  config: ModelConfig,
  dims: [Dim, Dim] = ["batch_size", "sequence_length"],
): { input: Value; context: AttentionContext } {
  const input = graph.input("x", "float32", [multiplyDims(...dims), config.n_embd]);
  const ids = graph.input("input_ids", "int64", dims);
  return { input, context: buildAttentionContext(config, { ids, attentionMask: null }, { kind: "mean" }) };
}

function feedLayer({ x, batch, length }: Hidden, { n_embd }: ModelConfig): Record<"x" | "input_ids", Tensor> {
  return {
    x: makeFloat32Tensor(x, [batch * length, n_embd]),
    input_ids: { dtype: "int64", data: new BigInt64Array(batch * length), shape: [batch, length] },
  };
}

/**
 * Logits [B·T, V] with one layer in memory at a time; noise at its mean. A classifier gives [B·T, labels]: the logits of
 * each token as if it were the last. @throws NfcError "aborted"
 */
export async function computeLogits(
  checkpoint: Checkpoint,
  windows: readonly Int32Array[],
  { threads = 0, signal }: { threads?: number; signal?: AbortSignal | undefined } = {},
): Promise<Float32Array> {
  let hidden = await embedWindows(checkpoint, windows);
  const sessions = new Map<string, Session>();
  try {
    for (let layer = 0; layer < checkpoint.config.n_layer; layer++) {
      throwIfAborted(signal);
      hidden = await runFedLayer(checkpoint, layer, hidden, sessions, threads);
    }
  } finally {
    for (const session of sessions.values()) await session.close();
  }
  return computeHeadLogits(checkpoint, hidden, threads);
}

/** Runs a layer in a session whose weights are fed: one for all layers of the same graph, and without a copy of them. */
async function runFedLayer(
  checkpoint: Checkpoint,
  layer: number,
  hidden: Hidden,
  sessions: Map<string, Session>,
  threads: number,
): Promise<Hidden> {
  const { config } = checkpoint;
  const graph = new Graph();
  const { input, context } = declareLayerInputs(graph, config);
  const parameters = makeOwnLayerLookup(graph, config, layer);
  graph.output(block(input, parameters, context, layer).output, "output");
  const key = Buffer.from(encodeOnnx(graph, { parameters: "inputs" })).toString("latin1");
  const session = sessions.get(key) ?? (await Session.withInputs(graph, { threads, shortLived: true }));
  sessions.set(key, session);
  const feeds: Record<string, Tensor> = feedLayer(hidden, config);
  for (const { name, shape } of pruneGraph(graph).parameters)
    feeds[name] = makeFloat32Tensor(await checkpoint.readF32(`h.${layer}.${name}`), shape as number[]);
  return { ...hidden, x: (await session.run(feeds)).output?.data as Float32Array };
}

/** ln_f and the head, the head's matrix in blocks of rows: [B·T, V] */
async function computeHeadLogits(
  checkpoint: Checkpoint,
  { x, batch, length }: Hidden,
  threads: number,
): Promise<Float32Array> {
  const { config } = checkpoint;
  const rows = batch * length;
  const graph = new Graph();
  const input = graph.input("x", "float32", [rows, config.n_embd]);
  const matrix = graph.input("matrix", "float32", ["rows", config.n_embd]);
  const normed = norm(input, "ln_f", makeParameterLookup(graph, config), config);
  graph.output(gemm(normed, matrix, { transB: true }), "logits"); // [B·T, rows]
  const weights = new Map<string, Float32Array>();
  for (const name of ["ln_f.weight", "ln_f.bias"])
    if (checkpoint.tensors.has(name)) weights.set(name, await checkpoint.readF32(name));
  const session = await Session.withWeights(graph, ({ name }) => weights.get(name) as Float32Array, {
    threads,
    shortLived: true,
  });
  const name = config.labels ? SCORE : nameHead(config);
  const width = config.labels?.length ?? config.vocab_size;
  const logits = new Float32Array(rows * width);
  const { dtype } = requireTensor(checkpoint, name);
  const block = new Float32Array(Math.min(HEAD_ROWS, width) * config.n_embd);
  try {
    for await (const { first, count, bytes } of cutRowBlocks(checkpoint, name, HEAD_ROWS)) {
      const feeds = {
        x: makeFloat32Tensor(x, [rows, config.n_embd]),
        matrix: makeFloat32Tensor(decodeFloats(bytes, dtype, block), [count, config.n_embd]),
      };
      const part = (await session.run(feeds)).logits?.data as Float32Array; // [B·T, count]
      for (let r = 0; r < rows; r++) logits.set(part.subarray(r * count, (r + 1) * count), r * width + first);
    }
  } finally {
    await session.close();
  }
  return logits;
}
