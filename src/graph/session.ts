// Makes sessions of graphs or files and runs them on typed arrays, or on tensors that stay on a device.
import { dirname, resolve } from "node:path";
import type * as Ort from "onnxruntime-node";
import { describeBriefly, describeError, NfcError } from "../errors.ts";
import { viewBytes } from "../formats/dtype.ts";
import { readModelOutsideWeights } from "../formats/onnx/outside-weights.ts";
import { timePhase } from "../io/timings.ts";
import { DeviceTensor } from "./device-tensor.ts";
import type { Device } from "./devices.ts";
import { type ConstantData, Graph, type GraphDtype, type Value } from "./ir.ts";
import { relu } from "./ops.ts";
import { toHalfProducts } from "./passes/half-products.ts";
import { narrowIntegers, toWebGpuGraph } from "./passes/webgpu.ts";
import {
  loadRuntime,
  type Runtime,
  requireProvider,
  type SessionOptions,
  toDeviceFault,
  toOrtOptions,
} from "./runtime.ts";
import { type ExternalLocation, encodeOnnx, NO_TENSOR } from "./to-onnx.ts";

export type TensorArray = ConstantData | Uint16Array;

/** A dense tensor, row-major; float16 as the bits of a Uint16Array. */
export interface Tensor {
  dtype: GraphDtype;
  data: TensorArray;
  shape: readonly number[];
}

export type Tensors = Readonly<Record<string, Tensor>>;
/** What a session is fed, and where it writes: in the host's memory, or in that of its device. */
export type Operand = Tensor | DeviceTensor;
export type Operands = Readonly<Record<string, Operand>>;

export { DEVICES, type Device } from "./devices.ts";
export { listProviders, type SessionOptions } from "./runtime.ts";

/**
 * Opens a device, so that one that is not there is refused before anything is read or written.
 * @throws NfcError "usage" for another name, "unsupported" where this build of onnxruntime-node has no such provider or
 * the machine no such device, "missing-dependency" where a library of it is missing
 */
export async function checkDevice(device: Device): Promise<void> {
  requireProvider(await loadRuntime(), { device });
  if (device === "cpu") return;
  const graph = new Graph();
  graph.output(relu(graph.input("x", "float32", [1])), "y");
  const session = await Session.withInputs(graph, { device }).catch((cause: unknown) => {
    if (cause instanceof NfcError) throw cause;
    const fact = `${device}: does not open: ${describeBriefly(cause)}`;
    throw new NfcError("device", fact, { hint: `leave out --device ${device}`, cause });
  });
  await session.close();
}

/** What onnxruntime-node 1.30 says of an output that is no tensor, when it makes JavaScript's objects of the outputs. */
const NOT_A_TENSOR = "Non tensor type is temporarily not supported.";
const OPENING = "opening sessions";

export class Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  private readonly ort: Runtime;
  private readonly session: Ort.InferenceSession;
  private readonly device: Device;
  private readonly traffic: SessionOptions["traffic"] | null;
  private readonly int32Inputs: ReadonlySet<string>;

  constructor(ort: Runtime, session: Ort.InferenceSession, { device = "cpu", traffic }: SessionOptions) {
    this.ort = ort;
    this.session = session;
    this.device = device;
    this.traffic = traffic ?? null;
    this.inputNames = session.inputNames;
    this.outputNames = session.outputNames.filter((name) => name !== NO_TENSOR);
    const int32 = session.inputMetadata.filter((input) => input.isTensor && input.type === "int32");
    this.int32Inputs = new Set(int32.map(({ name }) => name));
  }

  /** A session whose weights are fed with every run. */
  static async withInputs(graph: Graph, options: SessionOptions = {}): Promise<Session> {
    const noTensor = options.outputs === "given";
    return createSession(encodeOnnx(lowerGraph(graph, options), { parameters: "inputs", noTensor }), options);
  }

  /** A session that owns a copy of the weights, taken from memory, so that the 2 GiB limit of files does not apply. */
  static async withWeights(
    graph: Graph,
    weightOf: (parameter: Value) => TensorArray,
    options: SessionOptions = {},
  ): Promise<Session> {
    const externalData: { path: string; data: Uint8Array }[] = [];
    const model = encodeOnnx(lowerGraph(graph, options), {
      noTensor: options.outputs === "given",
      parameters: (parameter) => {
        const data = viewBytes(weightOf(parameter));
        externalData.push({ path: parameter.name, data });
        return { location: parameter.name, offset: 0, byteLength: data.byteLength };
      },
    });
    return createSession(model, options, externalData);
  }

  /** A session that reads its weights from files in `folder`, which ONNX Runtime maps into memory. */
  static async withFileWeights(
    graph: Graph,
    placeOf: (parameter: Value) => ExternalLocation,
    folder: string,
    options: SessionOptions = {},
  ): Promise<Session> {
    const model = encodeOnnx(lowerGraph(graph, options), { parameters: placeOf });
    return createSession(model, { ...options, weightsFolder: resolve(folder) });
  }

  /**
   * A session from an ONNX file and the external data beside it. A short-lived one maps the weights of the file into
   * memory, where ONNX Runtime would read and copy them.
   * @throws NfcError "invalid-file" naming the file
   */
  static async fromFile(path: string, options: SessionOptions = {}): Promise<Session> {
    const ort = await loadRuntime();
    requireProvider(ort, options);
    const mapped = options.shortLived ? await readModelOutsideWeights(path) : null;
    try {
      const session = await timePhase(OPENING, () =>
        mapped
          ? ort.InferenceSession.create(mapped, toOrtOptions({ ...options, weightsFolder: resolve(dirname(path)) }))
          : ort.InferenceSession.create(path, toOrtOptions(options)),
      );
      return new Session(ort, session, options);
    } catch (error) {
      const fault = toDeviceFault(error, options.device);
      if (fault) throw fault;
      throw new NfcError("invalid-file", `${path}: ONNX Runtime refuses it: ${describeBriefly(error)}`, {
        hint: "export the model again",
        cause: error,
      });
    }
  }

  /**
   * Runs the graph. Outputs are views of memory that ONNX Runtime allocated for this call, except those that have a
   * tensor in `into`: they are written there. Large outputs of many runs want that, because the garbage collector does
   * not see how much memory an output holds. A graph that a device computes in int32 is fed int64 all the same.
   * @param outputs the names of the wanted outputs; all unless given
   * @returns the outputs, but for those that were written to a device
   */
  async run(feeds: Operands, into: Operands = {}, outputs = this.outputNames): Promise<Record<string, Tensor>> {
    const fetches: Record<string, Ort.Tensor | null> = {};
    for (const name of outputs) fetches[name] = into[name] ? this.operand(into[name]) : null;
    const results = await this.compute(this.feed(feeds), fetches);
    const host: Record<string, Tensor> = {};
    for (const [name, result] of Object.entries(results)) {
      if (into[name] instanceof DeviceTensor) continue;
      const data = readData(result);
      if (this.traffic) this.traffic.down += data.byteLength;
      host[name] = { dtype: result.type as GraphDtype, data, shape: result.dims };
    }
    return host;
  }

  /**
   * Runs a graph of a session with `outputs` "given": each output is written into the tensor of its name. `run` writes
   * them there too, but onnxruntime-node copies every output once more, into an array of its own. It stops at the first
   * output that it has no array for, an empty sequence here, when the graph has run and all outputs are written.
   */
  async runInto(feeds: Operands, into: Tensors): Promise<void> {
    const fetches: Record<string, Ort.Tensor | null> = { [NO_TENSOR]: null };
    for (const name of this.outputNames) {
      const tensor = into[name];
      if (!tensor) throw new Error(`no tensor is given for the output ${name}`);
      fetches[name] = this.tensor(tensor);
    }
    try {
      await timePhase("running the model", () => this.session.run(this.feed(feeds), fetches));
    } catch (error) {
      if (describeError(error) !== NOT_A_TENSOR) throw toDeviceFault(error, this.device) ?? error;
    }
  }

  /**
   * Runs a graph whose outputs stay on the device, in buffers made for this call: of a session with `outputs` "device".
   */
  async runOnDevice(feeds: Operands): Promise<Record<string, DeviceTensor>> {
    const results = await this.compute(this.feed(feeds));
    const entries = Object.entries(results).map(([name, result]): [string, DeviceTensor] => {
      return [name, new DeviceTensor(this.device, result.type as GraphDtype, result.dims, result)];
    });
    return Object.fromEntries(entries);
  }

  private async compute(inputs: Record<string, Ort.Tensor>, fetches?: Record<string, Ort.Tensor | null>) {
    try {
      const run = () => (fetches ? this.session.run(inputs, fetches) : this.session.run(inputs));
      return await timePhase("running the model", run);
    } catch (error) {
      throw toDeviceFault(error, this.device) ?? error;
    }
  }

  async close(): Promise<void> {
    this.session.endProfiling();
    await this.session.release();
  }

  private feed(feeds: Operands): Record<string, Ort.Tensor> {
    const inputs: Record<string, Ort.Tensor> = {};
    for (const [name, operand] of Object.entries(feeds)) {
      if (operand instanceof DeviceTensor) {
        inputs[name] = this.operand(operand);
        continue;
      }
      const tensor = this.int32Inputs.has(name) ? toInt32(name, operand) : operand;
      inputs[name] = this.tensor(tensor);
      if (this.traffic) this.traffic.up += tensor.data.byteLength;
    }
    return inputs;
  }

  /** ONNX Runtime would read the buffer of another device as an address in its own. */
  private operand(operand: Operand): Ort.Tensor {
    if (!(operand instanceof DeviceTensor)) return this.tensor(operand);
    if (operand.device !== this.device)
      throw new Error(`a tensor that lies on ${operand.device} was given to a session on ${this.device}`);
    const { content } = operand;
    return content instanceof this.ort.Tensor ? content : this.tensor(content as Tensor);
  }

  private tensor({ dtype, data, shape }: Tensor): Ort.Tensor {
    const tensor = new this.ort.Tensor(dtype as "float32", data as Float32Array, shape);
    // Where JavaScript has a Float16Array (Node 24), the constructor turns the bits into one, which the native code of
    // onnxruntime-node 1.30 takes for empty ("not enough space: expected 384, got 0"): it is handed the bits.
    if (dtype === "float16") Object.assign(tensor, { cpuData: data });
    return tensor;
  }
}

/**
 * The graph for the device: WebGPU's is another (docs/decisions/0043), that of all others the one that is given, but for
 * products in float16.
 */
function lowerGraph(graph: Graph, { device = "cpu", products = "fp32" }: SessionOptions): Graph {
  const lowered = products === "fp16" ? toHalfProducts(graph, { keepCasts: device === "cpu" }) : graph;
  return device === "webgpu" ? toWebGpuGraph(lowered) : lowered;
}

/** An int64 tensor in int32, a tensor of another dtype as it is. @throws Error for a number that int32 does not hold */
function toInt32(name: string, tensor: Tensor): Tensor {
  if (tensor.dtype !== "int64") return tensor;
  return { dtype: "int32", data: narrowIntegers(tensor.data as BigInt64Array, name), shape: tensor.shape };
}

/** Gives float16 as bits: where JavaScript has a Float16Array, ONNX Runtime returns one. */
function readData({ type, data }: Ort.Tensor): TensorArray {
  if (type !== "float16" || data instanceof Uint16Array) return data as TensorArray;
  const { buffer, byteOffset, length } = data as unknown as Uint16Array;
  return new Uint16Array(buffer, byteOffset, length);
}

async function createSession(
  model: Uint8Array,
  options: SessionOptions,
  externalData: { path: string; data: Uint8Array }[] = [],
): Promise<Session> {
  const ort = await timePhase("loading ONNX Runtime", loadRuntime);
  requireProvider(ort, options);
  try {
    const made = { ...toOrtOptions(options), externalData };
    const session = await timePhase(OPENING, () => ort.InferenceSession.create(model, made));
    return new Session(ort, session, options);
  } catch (error) {
    throw toDeviceFault(error, options.device) ?? error;
  }
}

/** Makes an int64 tensor from plain numbers. */
export function makeInt64Tensor(values: ArrayLike<number>, shape: readonly number[]): Tensor {
  return { dtype: "int64", data: BigInt64Array.from(values, BigInt), shape };
}

export function makeFloat32Tensor(data: Float32Array, shape: readonly number[]): Tensor {
  return { dtype: "float32", data, shape };
}
