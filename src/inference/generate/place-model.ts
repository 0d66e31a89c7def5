// Writes text on the CPU with a cache that is not copied: the weights of a checkpoint or of a file, in a graph made for it.
import { dirname } from "node:path";
import { type Checkpoint, readWeights } from "../../checkpoint/checkpoint.ts";
import { readOnnxStructure } from "../../formats/onnx/reader.ts";
import { locateInitializer, type OnnxStructure } from "../../formats/onnx/structure.ts";
import { type Graph, pruneGraph } from "../../graph/ir.ts";
import { ONNX_DATA_TYPE } from "../../graph/ops.ts";
import type { BlockBits } from "../../graph/passes/quantized-blocks.ts";
import { makeFloat32Tensor, makeInt64Tensor, Session, type SessionOptions, type Tensor } from "../../graph/session.ts";
import type { ExternalLocation } from "../../graph/to-onnx.ts";
import { MASKED, makeBucketTable } from "../../model/attention.ts";
import { refuseClassifier } from "../../model/classifier.ts";
import type { ModelConfig } from "../../model/config.ts";
import { buildPlaceGraph } from "../../model/place-graph.ts";
import { isHalf, type Precision } from "../../model/precision.ts";
import { buildPrecisionGraph, lowerToPrecision } from "../../model/precision-graph.ts";
import { EMBEDDING_BITS, hasBlocks, type Quantization } from "../../model/quantization.ts";
import { hasDistanceMean } from "../../model/variants.ts";
import { TOOL } from "../../version.ts";
import type { ExportedFile } from "../exported/exported-model.ts";
import { type CachedModel, listWanted } from "./cached-model.ts";
import { makeIdFeeds } from "./decoder-feeds.ts";
import { PlaceCache } from "./place-cache.ts";

/** The end of the names of codes in a file. */
const CODES = "/values";
/** Rows of hidden states that run at once, which bounds the memory of long prompts. */
const ROWS_PER_PIECE = 128;

export class PlaceModel implements CachedModel {
  readonly config: ModelConfig;
  readonly source: string;
  readonly hasPositions = true;
  private readonly session: Session;
  private readonly buckets: BigInt64Array | null;
  private pads: readonly number[] = [];
  private cache: PlaceCache;

  private constructor(source: string, config: ModelConfig, session: Session) {
    this.source = source;
    this.config = config;
    this.session = session;
    this.buckets = hasDistanceMean(config.variant)
      ? BigInt64Array.from(makeBucketTable(config.n_positions), BigInt)
      : null;
    this.cache = new PlaceCache(config, 0);
  }

  /** The stored weights, in float32. */
  static async ofCheckpoint(checkpoint: Checkpoint, options: SessionOptions): Promise<PlaceModel> {
    refuseClassifier(checkpoint);
    const { source, config } = checkpoint;
    const weights = await readWeights(checkpoint);
    const weightOf = ({ name }: { name: string }) => weights.get(name) as Float32Array;
    return new PlaceModel(source, config, await Session.withWeights(buildPlaceGraph(config), weightOf, options));
  }

  /**
   * The weights of a file that nfc wrote, read where they lie. Null for any other file: it is run as it is.
   * @throws NfcError "invalid-file" for a file that is no ONNX
   */
  static async ofFile(file: ExportedFile, config: ModelConfig, options: SessionOptions): Promise<PlaceModel | null> {
    const structure = await readOnnxStructure(file.path);
    if (isHalf(file.precision)) return null;
    const quantization = readQuantization(file, structure, config);
    if (quantization === null || !isOwnFile(structure, config, file.precision, quantization)) return null;
    const { graph } = lowerToPrecision(buildPlaceGraph(config), file.precision, quantization);
    const places = locateWeights(graph, structure);
    if (places === null) return null;
    const placeOf = ({ name }: { name: string }) => places.get(name) as ExternalLocation;
    const session = await Session.withFileWeights(graph, placeOf, dirname(file.path), options);
    return new PlaceModel(file.path, config, session);
  }

  countPiece(batch: number): number {
    return Math.max(1, Math.floor(ROWS_PER_PIECE / batch));
  }

  start(pads: readonly number[], length: number): void {
    this.pads = pads;
    this.cache = new PlaceCache(this.config, pads.length, length + 1);
  }

  async run(ids: readonly (readonly number[])[], all = false): Promise<Float32Array[]> {
    const { cache, pads } = this;
    const [batch, count] = [ids.length, ids[0]?.length as number];
    const wanted = listWanted(batch, count, all);
    const { attention_mask: _, ...known } = makeIdFeeds(ids, pads, cache.length);
    const outputs = await this.session.run({
      ...known,
      logit_rows: makeInt64Tensor(wanted, [wanted.length]),
      ...this.makeMasks(count),
      ...cache.feeds,
    });
    cache.append(outputs, count);
    const { data } = outputs.logits as Tensor;
    const width = this.config.vocab_size;
    return wanted.map((_row, i) => data.subarray(i * width, (i + 1) * width) as Float32Array);
  }

  keep(rows: readonly number[]): void {
    this.pads = rows.map((row) => this.pads[row] as number);
    this.cache.keep(rows);
  }

  truncate(length: number): void {
    this.cache.truncate(length);
  }

  close(): Promise<void> {
    return this.session.close();
  }

  /** Masks of padding, of empty places and of later positions, and the distances to the places. */
  private makeMasks(count: number): Record<string, Tensor> {
    const { pads, cache, buckets } = this;
    const [batch, places, past] = [pads.length, cache.size, cache.length];
    const pastMask = new Float32Array(batch * places);
    const newMask = new Float32Array(batch * count * count);
    for (const [row, pad] of pads.entries()) {
      pastMask.fill(MASKED, row * places, row * places + Math.min(pad, past));
      pastMask.fill(MASKED, row * places + past, (row + 1) * places);
      const padding = Math.min(count, Math.max(0, pad - past));
      for (let i = 0; i < count; i++) {
        const begin = (row * count + i) * count;
        newMask.fill(MASKED, begin, begin + padding);
        newMask.fill(MASKED, begin + i + 1, begin + count);
      }
    }
    return {
      past_mask: makeFloat32Tensor(pastMask, [batch, 1, 1, places]),
      new_mask: makeFloat32Tensor(newMask, [batch, 1, count, count]),
      ...(buckets && { past_buckets: listBuckets(buckets, { count, places, past }) }),
    };
  }
}

/** bucket(past + i − j) of the new position i and the place j: int64 [T, P]; empty places have any. */
function listBuckets(
  table: BigInt64Array,
  { count, places, past }: { count: number; places: number; past: number },
): Tensor {
  const data = new BigInt64Array(count * places);
  for (let i = 0; i < count; i++)
    for (let j = 0; j < past; j++) data[i * places + j] = table[Math.min(past + i - j, table.length - 1)] as bigint;
  return { dtype: "int64", data, shape: [count, places] };
}

/**
 * Whether the file has the ops of the export that this version of nfc writes: another one, which draws noise, was changed,
 * or is of an older version, computes something else.
 */
function isOwnFile(
  { producer, ops }: OnnxStructure,
  config: ModelConfig,
  precision: Precision,
  quantization: Quantization,
): boolean {
  if (producer.name !== TOOL.name) return false;
  const { graph } = buildPrecisionGraph(config, precision, { noise: { kind: "mean" }, quantization });
  const counts = new Map<string, number>();
  for (const { op } of pruneGraph(graph).nodes) counts.set(op, (counts.get(op) ?? 0) + 1);
  return counts.size === ops.length && ops.every(({ type, count }) => counts.get(type) === count);
}

/** How the file's blocks were made, by the shapes of its weights; null where they are none that nfc makes. */
function readQuantization(
  { precision }: ExportedFile,
  { initializers }: OnnxStructure,
  { n_embd }: ModelConfig,
): Quantization | null {
  const none = { block: 0, symmetric: false, reduceRange: false, embeddingBits: null, mixedBits: new Map() };
  if (!hasBlocks(precision)) return none;
  const codes = initializers.filter(({ name }) => name.endsWith(CODES)); // [N, blocks, bytes of a block]
  const block = n_embd / Number(codes.find(({ name }) => name === `wte.weight${CODES}`)?.dims[1]);
  const mixedBits = new Map<string, BlockBits>();
  for (const { name, dims } of codes) {
    const bits = EMBEDDING_BITS.find((each) => each * block === 8 * Number(dims[2]));
    if (bits === undefined) return null;
    mixedBits.set(name.slice(0, -CODES.length), bits);
  }
  const symmetric = !initializers.some(({ name }) => name.endsWith("/zero_points"));
  return { ...none, block, symmetric, embeddingBits: mixedBits.get("wte.weight") ?? null, mixedBits };
}

/** The places of the graph's weights in the file or beside it; null where the file does not hold exactly these. */
function locateWeights(graph: Graph, { path, initializers }: OnnxStructure): Map<string, ExternalLocation> | null {
  const stored = new Map(initializers.map((initializer) => [initializer.name, initializer]));
  const places = new Map<string, ExternalLocation>();
  for (const { name, dtype, shape } of pruneGraph(graph).parameters) {
    const found = stored.get(name);
    if (found?.dtype !== ONNX_DATA_TYPE[dtype] || String(found.dims) !== String(shape)) return null;
    const place = locateInitializer(path, found);
    if (place === null) return null;
    places.set(name, { ...place, byteLength: found.byteLength });
  }
  return places;
}
