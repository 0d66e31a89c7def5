// Loads ONNX Runtime on first use, the only import of it; its options, its devices, and what it says of their faults.
import type * as Ort from "onnxruntime-node";
import { describeBriefly, NfcError } from "../errors.ts";
import { recognizeDeviceError } from "./device-errors.ts";
import { DEVICE_PLATFORMS, DEVICES, type Device, findMissingLibrary } from "./devices.ts";

export type Runtime = typeof Ort;

export interface SessionOptions {
  device?: Device | undefined;
  /** Threads of one op; 0 lets ONNX Runtime take the physical cores. */
  threads?: number | undefined;
  /** True for a session of a few runs: weights are not copied into the layout of the kernels. */
  shortLived?: boolean | undefined;
  /** False for one of several sessions that run in turn: memory is freed after each run instead of kept for the next. */
  arena?: boolean | undefined;
  /** Matrix products in float16, all else in float32 (passes/half-products.ts); fp32 unless given. @internal */
  products?: "fp32" | "fp16" | undefined;
  /** Accepts half precision on the CPU, which computes it by casts. @internal */
  halfOnCpu?: boolean | undefined;
  /** Prefix of a file to which ONNX Runtime writes when each op ran, as a Chrome trace; complete after `close`. */
  profile?: string | undefined;
  /**
   * True where runs repeat the same shapes, as training does: WebGPU then keeps every freed buffer for the next of its
   * size, where it would give back large ones after each run. The session that opens the device decides for all. @internal
   */
  steady?: boolean | undefined;
  /** True for a graph in which equal nodes stay apart, and transposes before the products that they could be part of. @internal */
  keepsWritten?: boolean | undefined;
  /** The folder of the files in which the weights of a model in memory lie. @internal */
  weightsFolder?: string | undefined;
  /**
   * "device" for a session whose outputs stay there: it is run by `runOnDevice` alone. "given" for one whose outputs go
   * into arrays of the caller: it is run by `runInto` alone. @internal
   */
  outputs?: "host" | "device" | "given" | undefined;
  /** Adds up the bytes that runs take from the host's memory, and give to it. @internal */
  traffic?: { up: number; down: number } | undefined;
}

let runtime: Promise<Runtime> | undefined;

/**
 * Telemetry is turned off first. On Linux, onnxruntime-node reports by default: it reads the machine id, keeps a database
 * of session events in the user's cache and a log in the temporary folder. It reads this variable while it loads.
 * @throws NfcError "missing-dependency" when onnxruntime-node is not installed or does not load
 */
export function loadRuntime(): Promise<Runtime> {
  process.env.ORT_DISABLE_TELEMETRY = "1";
  runtime ??= import("onnxruntime-node").then(silence).catch((error: unknown) => {
    runtime = undefined;
    throw new NfcError("missing-dependency", `onnxruntime-node does not load: ${describeBriefly(error)}`, {
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

/** The devices that this build of onnxruntime-node has, whether they open or not. */
export async function listProviders(): Promise<Device[]> {
  const names = (await loadRuntime()).listSupportedBackends().map(({ name }) => name);
  return DEVICES.filter((device) => names.includes(device));
}

/** ONNX Runtime leaves out a provider that it does not have, and computes on the CPU. */
export function requireProvider(ort: Runtime, { device = "cpu" }: SessionOptions): void {
  if (device === "cpu") return;
  const names = ort.listSupportedBackends().map(({ name }) => name);
  if (!DEVICES.includes(device))
    throw new NfcError("usage", `${device}: no such device`, { hint: `take one of ${DEVICES.join(", ")}` });
  if (names.includes(device)) return;
  const fact = `onnxruntime-node has no ${device} on ${process.platform} ${process.arch}, only on ${DEVICE_PLATFORMS[device]}`;
  throw new NfcError("unsupported", fact, { hint: `leave out --device ${device}` });
}

/** What ONNX Runtime throws as a fault of the device, with what the machine lacks; null where it is none. */
export function toDeviceFault(error: unknown, device: Device = "cpu"): NfcError | null {
  if (device === "cpu") return null;
  return recognizeDeviceError(error, device, findMissingLibrary(device));
}

function nameProvider(device: Device, steady: boolean): Ort.InferenceSession.ExecutionProviderConfig {
  return device === "webgpu" && steady ? { name: device, storageBufferCacheMode: "simple" } : device;
}

/** ONNX Runtime's optimizers that join equal nodes, and transposes with products. */
const JOINING_OPTIMIZERS = "CommonSubexpressionElimination;GemmTransposeFusion";

export function toOrtOptions({
  device = "cpu",
  threads = 0,
  shortLived = false,
  arena = true,
  steady = false,
  profile,
  outputs = "host",
  keepsWritten = false,
  weightsFolder,
}: SessionOptions): Ort.InferenceSession.SessionOptions {
  // Memory patterns raise peak memory and gain nothing for dynamic shapes. ONNX Runtime would print what its errors say,
  // too, as a line of its own.
  return {
    executionProviders: device === "cpu" ? ["cpu"] : [nameProvider(device, steady), "cpu"],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    enableMemPattern: false,
    enableCpuMemArena: arena,
    logSeverityLevel: 4,
    ...(profile && { enableProfiling: true, profileFilePrefix: profile }),
    // With it, ONNX Runtime ignores the buffers that a run is given for its outputs.
    ...(outputs === "device" && { preferredOutputLocation: "gpu-buffer" as const }),
    extra: {
      ...(keepsWritten && { optimization: { disable_specified_optimizers: JOINING_OPTIMIZERS } }),
      session: {
        // Weights are turned into the layout of the kernels one by one: those of the arena would leave holes in it.
        use_device_allocator_for_initializers: "1",
        ...(shortLived && { disable_prepacking: "1" }),
        ...(weightsFolder !== undefined && { model_external_initializers_file_folder_path: weightsFolder }),
      },
    },
  };
}
