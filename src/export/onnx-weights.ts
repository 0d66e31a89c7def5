// Where an ONNX export's weights go: inside the model, in external data files, or in model.safetensors itself.
import { join } from "node:path";
import { type Graph, liveGraph, type Value } from "../graph/ir.ts";
import type { ExternalLocation, InlineData, ParameterPlacement } from "../graph/onnx.ts";
import { byteLengthOf } from "../io/dtype.ts";
import { openSafetensors } from "../io/safetensors-reader.ts";
import { writeChunks } from "../io/write-chunks.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { tensorSource } from "../model/model-folder.ts";
import { tensorOf } from "../model/tensor-of.ts";

/** Bytes of one external file: browsers cannot hold 2 GiB in one buffer. */
const MAX_DATA_FILE = 2_000_000_000;
/** Tensors above the threshold start at a page, as onnx's own writer does, so that they can be mapped. */
const ALIGN_THRESHOLD = 1 << 20;
const ALIGNMENT = 4096;

export interface ProgressHooks {
  onBytes?: (written: number) => void;
  signal?: AbortSignal;
}

/** float32 bytes of the graph's weights, streamed into the model. */
export function inlineWeights(checkpoint: Checkpoint): ParameterPlacement {
  return ({ name }: Value): InlineData => ({
    byteLength: f32Bytes(checkpoint, name),
    chunks: () => f32Chunks(checkpoint, name),
  });
}

/** Total float32 bytes of the weights that a graph uses. */
export function weightBytes(graph: Graph, checkpoint: Checkpoint): number {
  return liveGraph(graph).parameters.reduce((sum, { name }) => sum + f32Bytes(checkpoint, name), 0);
}

/** Writes `<model>_data`, `<model>_data_1`, … as transformers.js names them. */
export async function writeExternalWeights(
  folder: string,
  modelName: string,
  graph: Graph,
  checkpoint: Checkpoint,
  { onBytes, signal }: ProgressHooks,
): Promise<{ placement: ParameterPlacement; files: string[] }> {
  const plan = planExternal(liveGraph(graph).parameters, checkpoint, modelName);
  let before = 0;
  for (const [file, tensors] of plan.files) {
    const done = await writeChunks(join(folder, file), dataChunks(checkpoint, tensors, plan.places), {
      onBytes: (bytes) => onBytes?.(before + bytes),
      ...(signal && { signal }),
    });
    before += done;
  }
  return { placement: ({ name }) => plan.places.get(name) as ExternalLocation, files: [...plan.files.keys()] };
}

function planExternal(parameters: readonly Value[], checkpoint: Checkpoint, modelName: string) {
  const places = new Map<string, ExternalLocation>();
  const files = new Map<string, string[]>();
  let location = "";
  let end = 0;
  for (const { name } of parameters) {
    const byteLength = f32Bytes(checkpoint, name);
    if (files.size === 0 || end + byteLength > MAX_DATA_FILE) {
      location = `${modelName}_data${files.size === 0 ? "" : `_${files.size}`}`;
      files.set(location, []);
      end = 0;
    }
    const offset = byteLength > ALIGN_THRESHOLD ? Math.ceil(end / ALIGNMENT) * ALIGNMENT : end;
    places.set(name, { location, offset, byteLength });
    files.get(location)?.push(name);
    end = offset + byteLength;
  }
  return { places, files };
}

async function* dataChunks(
  checkpoint: Checkpoint,
  names: readonly string[],
  places: ReadonlyMap<string, ExternalLocation>,
): AsyncGenerator<Uint8Array> {
  let position = 0;
  for (const name of names) {
    const { offset, byteLength } = places.get(name) as ExternalLocation;
    if (offset > position) yield new Uint8Array(offset - position);
    yield* f32Chunks(checkpoint, name);
    position = offset + byteLength;
  }
}

/** The tensors of a safetensors file, addressed as external data. `location` is its name as seen from the model. */
export async function safetensorsWeights(path: string, location: string): Promise<ParameterPlacement> {
  const reader = await openSafetensors(path);
  const { tensors } = reader;
  await reader.close();
  return ({ name }) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`${path}: no tensor ${name}`);
    return { location, offset: tensor.offset, byteLength: tensor.byteLength };
  };
}

function f32Bytes(checkpoint: Checkpoint, name: string): number {
  return byteLengthOf("F32", tensorOf(checkpoint, name).shape);
}

function f32Chunks(checkpoint: Checkpoint, name: string): AsyncIterable<Uint8Array> {
  return tensorSource(checkpoint, tensorOf(checkpoint, name), "F32").chunks();
}
