// Loads ONNX Runtime on first use, the only import of it; makes sessions of graphs or files and runs them on typed arrays.
import type * as Ort from "onnxruntime-node";
import { describeError, NfcError } from "../errors.ts";
import { viewBytes } from "../formats/dtype.ts";
import type { ConstantData, Graph, GraphDtype, Value } from "./ir.ts";
import { narrowIntegers, toWebGpuGraph } from "./passes/webgpu.ts";
import { encodeOnnx } from "./to-onnx.ts";

type Runtime = typeof Ort;
export type TensorArray = ConstantData | Uint16Array;

/** A dense tensor, row-major; float16 as the bits of a Uint16Array. */
export interface Tensor {
  dtype: GraphDtype;
  data: TensorArray;
  shape: readonly number[];
}

export type Tensors = Readonly<Record<string, Tensor>>;

/** The devices that ops run on; ONNX Runtime runs those that a device lacks on the CPU. */
export const DEVICES = ["cpu", "cuda", "webgpu", "dml", "coreml"] as const;
export type Device = (typeof DEVICES)[number];

export interface SessionOptions {
  device?: Device | undefined;
  /** Threads of one op; 0 lets ONNX Runtime take the physical cores. */
  threads?: number | undefined;
  /** True for a session of a few runs: weights are not copied into the layout of the kernels. */
  shortLived?: boolean | undefined;
  /** False for one of several sessions that run in turn: memory is freed after each run instead of kept for the next. */
  arena?: boolean | undefined;
  /** Prefix of a file to which ONNX Runtime writes when each op ran, as a Chrome trace; complete after `close`. */
  profile?: string | undefined;
}

let runtime: Promise<Runtime> | undefined;

/**
 * Telemetry is turned off first. On Linux, onnxruntime-node reports by default: it reads the machine id, keeps a database
 * of session events in the user's cache and a log in the temporary folder. It reads this variable while it loads.
 * @throws NfcError "missing-dependency" when onnxruntime-node is not installed or does not load
 */
function loadRuntime(): Promise<Runtime> {
  process.env.ORT_DISABLE_TELEMETRY = "1";
  runtime ??= import("onnxruntime-node").then(silence).catch((error: unknown) => {
    runtime = undefined;
    throw new NfcError("missing-dependency", `onnxruntime-node does not load: ${describeError(error).split("\n")[0]}`, {
      hint: "run: npm install onnxruntime-node --ignore-scripts",
      cause: error,
    });
  });
  return runtime;
}

/** Turns off ONNX Runtime's own messages, because the errors that it throws say the same. */
function silence(ort: Runtime): Runtime {
  ort.env.logLevel = "fatal";
  return ort;
}

/** @throws NfcError "unsupported" when this build of onnxruntime-node has no such execution provider */
export async function checkDevice(device: Device): Promise<void> {
  const names = (await loadRuntime()).listSupportedBackends().map(({ name }) => name);
  if (names.includes(device)) return;
  throw new NfcError("unsupported", `onnxruntime-node has no ${device} on this machine; it has ${names.join(", ")}`, {
    hint: `leave out --device ${device}`,
  });
}

export class Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  private readonly ort: Runtime;
  private readonly session: Ort.InferenceSession;
  private readonly int32Inputs: ReadonlySet<string>;

  constructor(ort: Runtime, session: Ort.InferenceSession) {
    this.ort = ort;
    this.session = session;
    this.inputNames = session.inputNames;
    this.outputNames = session.outputNames;
    const int32 = session.inputMetadata.filter((input) => input.isTensor && input.type === "int32");
    this.int32Inputs = new Set(int32.map(({ name }) => name));
  }

  /** A session whose weights are fed with every run. */
  static async withInputs(graph: Graph, options: SessionOptions = {}): Promise<Session> {
    return createSession(encodeOnnx(lowerGraph(graph, options), { parameters: "inputs" }), options);
  }

  /** A session that owns a copy of the weights, taken from memory, so that the 2 GiB limit of files does not apply. */
  static async withWeights(
    graph: Graph,
    weightOf: (parameter: Value) => TensorArray,
    options: SessionOptions = {},
  ): Promise<Session> {
    const externalData: { path: string; data: Uint8Array }[] = [];
    const model = encodeOnnx(lowerGraph(graph, options), {
      parameters: (parameter) => {
        const data = viewBytes(weightOf(parameter));
        externalData.push({ path: parameter.name, data });
        return { location: parameter.name, offset: 0, byteLength: data.byteLength };
      },
    });
    return createSession(model, options, externalData);
  }

  /** A session from an ONNX file and the external data beside it. @throws NfcError "invalid-file" naming the file */
  static async fromFile(path: string, options: SessionOptions = {}): Promise<Session> {
    const ort = await loadRuntime();
    try {
      return new Session(ort, await ort.InferenceSession.create(path, toOrtOptions(options)));
    } catch (error) {
      throw new NfcError("invalid-file", `${path}: ONNX Runtime refuses it: ${describeError(error).split("\n")[0]}`, {
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
   */
  async run(feeds: Tensors, into: Tensors = {}, outputs = this.outputNames): Promise<Record<string, Tensor>> {
    const fetches: Record<string, Ort.Tensor | null> = {};
    for (const name of outputs) fetches[name] = into[name] ? this.tensor(into[name]) : null;
    const inputs: Record<string, Ort.Tensor> = {};
    for (const [name, tensor] of Object.entries(feeds))
      inputs[name] = this.tensor(this.int32Inputs.has(name) ? toInt32(name, tensor) : tensor);
    const results = await this.session.run(inputs, fetches);
    const toTensor = (result: Ort.Tensor) => {
      return { dtype: result.type as GraphDtype, data: readData(result), shape: result.dims };
    };
    return Object.fromEntries(Object.entries(results).map(([name, result]) => [name, toTensor(result)]));
  }

  async close(): Promise<void> {
    this.session.endProfiling();
    await this.session.release();
  }

  private tensor({ dtype, data, shape }: Tensor): Ort.Tensor {
    const tensor = new this.ort.Tensor(dtype as "float32", data as Float32Array, shape);
    // Where JavaScript has a Float16Array (Node 24), the constructor turns the bits into one, which the native code of
    // onnxruntime-node 1.30 takes for empty ("not enough space: expected 384, got 0"): it is handed the bits.
    if (dtype === "float16") Object.assign(tensor, { cpuData: data });
    return tensor;
  }
}

/** The graph for the device: WebGPU's is another (docs/decisions/0043), that of all others the one that is given. */
function lowerGraph(graph: Graph, { device }: SessionOptions): Graph {
  return device === "webgpu" ? toWebGpuGraph(graph) : graph;
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

/** Creates a session and names the device in an error: one that is built in may still lack its driver. */
async function createSession(
  model: Uint8Array,
  options: SessionOptions,
  externalData: { path: string; data: Uint8Array }[] = [],
): Promise<Session> {
  const { device = "cpu" } = options;
  const ort = await loadRuntime();
  try {
    return new Session(ort, await ort.InferenceSession.create(model, { ...toOrtOptions(options), externalData }));
  } catch (error) {
    if (device === "cpu") throw error;
    throw new NfcError("unsupported", `ONNX Runtime cannot use ${device}: ${describeError(error).split("\n")[0]}`, {
      hint: `install its driver, or leave out --device ${device}`,
      cause: error,
    });
  }
}

function toOrtOptions({
  device = "cpu",
  threads = 0,
  shortLived = false,
  arena = true,
  profile,
}: SessionOptions): Ort.InferenceSession.SessionOptions {
  // Memory patterns raise peak memory and gain nothing for dynamic shapes. ONNX Runtime would print what its errors say,
  // too, as a line of its own.
  return {
    executionProviders: device === "cpu" ? ["cpu"] : [device, "cpu"],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    enableMemPattern: false,
    enableCpuMemArena: arena,
    logSeverityLevel: 4,
    ...(profile && { enableProfiling: true, profileFilePrefix: profile }),
    ...(shortLived && { extra: { session: { disable_prepacking: "1" } } }),
  };
}

/** Makes an int64 tensor from plain numbers. */
export function makeInt64Tensor(values: ArrayLike<number>, shape: readonly number[]): Tensor {
  return { dtype: "int64", data: BigInt64Array.from(values, BigInt), shape };
}

export function makeFloat32Tensor(data: Float32Array, shape: readonly number[]): Tensor {
  return { dtype: "float32", data, shape };
}
