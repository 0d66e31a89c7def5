// Places the weights of an ONNX export: inside the model, in external data files, or in model.safetensors itself.
import { join } from "node:path";
import { openSafetensors } from "../../formats/safetensors/reader.ts";
import { type Graph, pruneGraph, type Value } from "../../graph/ir.ts";
import type { ExternalLocation, InlineData, ParameterPlacement } from "../../graph/to-onnx.ts";
import { writeChunks } from "../../io/durable.ts";

/** Bytes of one external file: browsers cannot hold 2 GiB in one buffer. */
const MAX_DATA_FILE = 2_000_000_000;
/** Tensors above the threshold start at a page, as onnx's own writer does, so that they can be mapped. */
const ALIGN_THRESHOLD = 1 << 20;
const ALIGNMENT = 4096;

export interface ProgressHooks {
  onBytes?: ((written: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Where the bytes of a parameter come from. */
export type WeightData = (parameter: Value) => InlineData;

/** Total bytes of the weights that a graph uses. */
export function sumWeightBytes(graph: Graph, data: WeightData): number {
  return pruneGraph(graph).parameters.reduce((sum, parameter) => sum + data(parameter).byteLength, 0);
}

/** Writes `<model>_data`, `<model>_data_1`, … as transformers.js names them. */
export async function writeExternalWeights(
  folder: string,
  modelName: string,
  graph: Graph,
  data: WeightData,
  { onBytes, signal }: ProgressHooks,
): Promise<{ placement: ParameterPlacement; files: string[] }> {
  const plan = planExternal(pruneGraph(graph).parameters, data, modelName);
  let before = 0;
  for (const [file, parameters] of plan.files) {
    const done = await writeChunks(join(folder, file), streamData(data, parameters, plan.places), {
      onBytes: (bytes) => onBytes?.(before + bytes),
      signal,
    });
    before += done;
  }
  return { placement: ({ name }) => plan.places.get(name) as ExternalLocation, files: [...plan.files.keys()] };
}

function planExternal(parameters: readonly Value[], data: WeightData, modelName: string) {
  const places = new Map<string, ExternalLocation>();
  const files = new Map<string, Value[]>();
  let location = "";
  let end = 0;
  for (const parameter of parameters) {
    const { byteLength } = data(parameter);
    if (files.size === 0 || end + byteLength > MAX_DATA_FILE) {
      location = `${modelName}_data${files.size === 0 ? "" : `_${files.size}`}`;
      files.set(location, []);
      end = 0;
    }
    const offset = byteLength > ALIGN_THRESHOLD ? Math.ceil(end / ALIGNMENT) * ALIGNMENT : end;
    places.set(parameter.name, { location, offset, byteLength });
    files.get(location)?.push(parameter);
    end = offset + byteLength;
  }
  return { places, files };
}

async function* streamData(
  data: WeightData,
  parameters: readonly Value[],
  places: ReadonlyMap<string, ExternalLocation>,
): AsyncGenerator<Uint8Array> {
  let position = 0;
  for (const parameter of parameters) {
    const { offset, byteLength } = places.get(parameter.name) as ExternalLocation;
    if (offset > position) yield new Uint8Array(offset - position);
    yield* data(parameter).chunks();
    position = offset + byteLength;
  }
}

/** The tensors of a safetensors file, addressed as external data. `location` is its name as seen from the model. */
export async function locateInSafetensors(path: string, location: string): Promise<ParameterPlacement> {
  const reader = await openSafetensors(path);
  const { tensors } = reader;
  await reader.close();
  return ({ name }) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`${path}: no tensor ${name}`);
    return { location, offset: tensor.offset, byteLength: tensor.byteLength };
  };
}
