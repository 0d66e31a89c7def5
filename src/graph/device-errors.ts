// Says in one line why a device does not open or has failed, from what ONNX Runtime, Dawn, CUDA and DirectML say of it.
import { describeError, type ErrorCode, NfcError } from "../errors.ts";
import { CUDA_PROVIDER, type Device } from "./devices.ts";

interface Fault {
  code: ErrorCode;
  /** What is so, after the device's name. */
  fact: string;
  /** What to do, before "or leave out --device NAME". */
  hint: string;
}

const SMALLER = "lower --batch-size or --length (--accumulate keeps the batch of a training step)";
const FULL = { code: "device", fact: "its memory is full", hint: SMALLER } as const;
/** NVIDIA's driver for Vulkan is a part of its OpenGL library, which needs GLVND's. A desktop has them. */
const SERVER_LIBRARIES = process.platform === "linux" ? " (servers need libegl1 and libgl1 too)" : "";
const NO_PROVIDER = /Failed to load shared library|execution provider is either not enabled or not available/;
const NO_ADAPTER = /Failed to get a WebGPU adapter|No supported adapters/;

/** Faults by what their messages contain; the first one that fits counts. */
const FAULTS: readonly (readonly [RegExp, Fault])[] = [
  [
    /driver version is insufficient|CUDA failure 35\b/i,
    {
      code: "unsupported",
      fact: "the NVIDIA driver is older than its CUDA libraries",
      hint: "update the driver",
    },
  ],
  [
    /no CUDA-capable device|CUDA failure 100\b/i,
    {
      code: "unsupported",
      fact: "no NVIDIA GPU is visible",
      hint: "see that nvidia-smi lists one, in a container too",
    },
  ],
  [
    NO_PROVIDER,
    {
      code: "missing-dependency",
      fact: "its provider library does not load",
      hint: "install what docs/devices.md lists",
    },
  ],
  [
    NO_ADAPTER,
    {
      code: "unsupported",
      fact: "there is no graphics adapter that WebGPU takes",
      hint: `install the GPU's driver, or update it${SERVER_LIBRARIES}`,
    },
  ],
  [
    /Failed to get a WebGPU device|Failed to create wgpu::Instance|Failed to create device:/,
    { code: "unsupported", fact: "the graphics driver opens no device", hint: "update the GPU's driver" },
  ],
  [
    /device (?:was |is )?lost|\] is lost\b|DEVICE_LOST|DEVICE_(?:REMOVED|HUNG|RESET)|887A000[5-7]|CUDA failure (?:4|46|719|999)\b/i,
    {
      code: "device",
      fact: "the device was lost: it crashed, was reset, or was taken away",
      hint: "run the command again, training with --resume",
    },
  ],
  [
    /exceeds device limit|larger than the maximum[^.]*binding size/,
    { code: "device", fact: "a buffer is larger than the adapter takes", hint: SMALLER },
  ],
  [/out of (?:device |host )?memory|OUT_OF_(?:DEVICE|HOST)_MEMORY|OutOfMemory|ALLOC_FAILED|8007000E/i, FULL],
  [/Failed to allocate memory for requested buffer|Available memory of \d+ is smaller than requested/, FULL],
  // Dawn reports the buffer's own error to nobody; what uses it later is refused.
  [
    /\[Invalid Buffer\b|Failed to create GPU buffer/,
    { ...FULL, fact: "a buffer could not be made: its memory is full" },
  ],
  [
    /requires f16 but the device does not support it|shader-f16|'?f16'? [^.]*(?:not supported|not enabled|without)/i,
    {
      code: "unsupported",
      fact: "the adapter has no 16-bit floats (shader-f16), which the model needs",
      hint: "take --precision fp32",
    },
  ],
];

/** Words of a device's own messages; any other message may come from a file or a graph that is wrong. */
const OF_A_DEVICE = /webgpu|wgpu|dawn|vulkan|d3d12|\bmetal\b|cuda|cudnn|cublas|dml|directml|coreml/i;

/**
 * The fault of a device as one line with a way out.
 * @param cause what ONNX Runtime has thrown
 * @param missing libraries that the machine is known to lack
 * @returns null for a message that is not about the device
 */
export function recognizeDeviceError(cause: unknown, device: Device, missing: string | null = null): NfcError | null {
  const message = describeError(cause);
  const absent = missing !== null && (NO_PROVIDER.test(message) || NO_ADAPTER.test(message));
  const fault = absent ? describeMissing(device, missing) : findFault(message);
  if (fault)
    return new NfcError(fault.code, `${device}: ${fault.fact}`, {
      hint: `${fault.hint}, or leave out --device ${device}`,
      cause,
    });
  if (!OF_A_DEVICE.test(message)) return null;
  return new NfcError("device", `${device}: ${shorten(message)}`, { hint: `leave out --device ${device}`, cause });
}

function findFault(message: string): Fault | undefined {
  const sizes = /Buffer size \((\d+)\) exceeds the max buffer size limit \((\d+)\)/.exec(message);
  if (!sizes) return FAULTS.find(([pattern]) => pattern.test(message))?.[1];
  const [wanted, most] = sizes.slice(1).map(showMegabytes);
  return {
    code: "device",
    fact: `the adapter takes no buffer above ${most}, and one of ${wanted} is needed`,
    hint: SMALLER,
  };
}

const showMegabytes = (bytes: string) => `${Math.round(Number(bytes) / 1e6).toLocaleString("en")} MB`;

function describeMissing(device: Device, missing: string): Fault {
  const code = "missing-dependency";
  if (device === "webgpu")
    return {
      code,
      fact: `${missing} is not found, by which WebGPU reaches the GPU here`,
      hint: "install it (Debian: libvulkan1, Fedora: vulkan-loader) and the GPU's driver",
    };
  if (missing === CUDA_PROVIDER)
    return {
      code,
      fact: `${missing} is not installed`,
      hint: "fetch it with ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node",
    };
  return {
    code,
    fact: `${CUDA_PROVIDER} needs ${missing}, which the system does not find`,
    hint: "install CUDA and cuDNN of these versions, and name their folders in LD_LIBRARY_PATH",
  };
}

/** The first line, without the place in ONNX Runtime's source. */
function shorten(message: string): string {
  const [line = ""] = message.split("\n");
  return line.replace(/^\/onnxruntime_src\S+ /, "");
}
