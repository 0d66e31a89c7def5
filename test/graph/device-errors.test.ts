// Faults of devices, as ONNX Runtime, Dawn, CUDA and DirectML word them: one line each, with what to do.
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ErrorCode } from "../../src/errors.ts";
import { recognizeDeviceError } from "../../src/graph/device-errors.ts";
import { CUDA_PROVIDER, type Device, listUnresolved } from "../../src/graph/devices.ts";
import { Graph } from "../../src/graph/ir.ts";
import { relu } from "../../src/graph/ops.ts";
import { checkDevice, Session } from "../../src/graph/session.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("device-errors");

const NO_ADAPTER =
  "/onnxruntime_src/onnxruntime/core/providers/webgpu/webgpu_context.cc:136 onnxruntime::webgpu::WebGpuContext::Initialize(const onnxruntime::webgpu::WebGpuContextConfig&)::<lambda()> adapter_result.status == wgpu::RequestAdapterStatus::Success was false. Failed to get a WebGPU adapter: No supported adapters\n";
const NO_CUDA = "OrtSessionOptionsAppendExecutionProvider_Cuda: Failed to load shared library";
const INVALID_BUFFER =
  'WebGPU validation failed. [Invalid Buffer (unlabeled)] is invalid due to a previous error.\n - While validating entries[2] against { binding: 2, visibility: ShaderStage::Compute }.\n - While calling [Device].CreateBindGroup([BindGroupDescriptor ""MatMul""]).\n';
const TOO_LARGE =
  "WebGPU validation failed. Buffer size (1200000000) exceeds the max buffer size limit (1073741824).\n - While calling [Device].CreateBuffer([BufferDescriptor]).\n";

const ON_LINUX = process.platform === "linux" ? " (servers need libegl1 and libgl1 too)" : "";

describe("a fault of a device is recognized by its message", () => {
  it.each<[string, Device, string, ErrorCode, string]>([
    [
      "no adapter",
      "webgpu",
      NO_ADAPTER,
      "unsupported",
      `there is no graphics adapter that WebGPU takes; install the GPU's driver, or update it${ON_LINUX}, or leave out`,
    ],
    [
      "no provider library",
      "cuda",
      NO_CUDA,
      "missing-dependency",
      "its provider library does not load; install what docs/devices.md",
    ],
    [
      "a buffer above the limit",
      "webgpu",
      TOO_LARGE,
      "device",
      "takes no buffer above 1,074 MB, and one of 1,200 MB is needed; lower",
    ],
    [
      "a buffer that could not be made",
      "webgpu",
      INVALID_BUFFER,
      "device",
      "a buffer could not be made: its memory is full; lower --batch-size",
    ],
    ["Dawn's device lost", "webgpu", "WebGPU validation failed. [Device] is lost.\n", "device", "the device was lost"],
    [
      "Vulkan's device lost",
      "webgpu",
      "vkQueueSubmit failed with VK_ERROR_DEVICE_LOST",
      "device",
      "run the command again, training with --resume",
    ],
    [
      "Vulkan's memory full",
      "webgpu",
      "vkAllocateMemory failed with VK_ERROR_OUT_OF_DEVICE_MEMORY",
      "device",
      "its memory is full",
    ],
    [
      "no shader-f16",
      "webgpu",
      "Program Gather requires f16 but the device does not support it.",
      "unsupported",
      "no 16-bit floats (shader-f16), which the model needs; take --precision fp32",
    ],
    [
      "no device of an adapter",
      "webgpu",
      "Failed to get a WebGPU device: no queue",
      "unsupported",
      "the graphics driver opens no device",
    ],
    [
      "CUDA's memory full",
      "cuda",
      "CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; expr=cudaMalloc((void**)&p, size);",
      "device",
      "its memory is full",
    ],
    [
      "the arena's memory full",
      "cuda",
      "Failed to allocate memory for requested buffer of size 1024",
      "device",
      "its memory is full",
    ],
    [
      "an old NVIDIA driver",
      "cuda",
      "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1",
      "unsupported",
      "older than its CUDA libraries; update the driver",
    ],
    [
      "no NVIDIA GPU",
      "cuda",
      "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1",
      "unsupported",
      "no NVIDIA GPU is visible; see that nvidia-smi lists one",
    ],
    [
      "a removed adapter",
      "dml",
      "DmlExecutionProvider: 887A0005 The GPU device instance has been suspended.",
      "device",
      "the device was lost",
    ],
    [
      "DirectML's memory full",
      "dml",
      "DmlCommandRecorder.cpp(371)\\onnxruntime.dll!: 8007000E Not enough memory resources",
      "device",
      "its memory is full",
    ],
    [
      "a message that no one foresaw",
      "webgpu",
      "WebGPU device error(2): a pipeline\nmore",
      "device",
      "webgpu: WebGPU device error(2): a pipeline",
    ],
  ])("%s", (_, device, message, code, line) => {
    const fault = recognizeDeviceError(new Error(message), device);
    expect(fault?.code).toBe(code);
    expect(`${fault?.message}; ${fault?.hint}`).toContain(line);
    expect(fault?.message).toMatch(new RegExp(`^${device}: [^\\n]+$`));
    expect(fault?.hint).toMatch(new RegExp(`leave out --device ${device}$`));
    expect(fault?.cause).toMatchObject({ message });
  });

  it.each<[string, Device, string, string, string]>([
    [
      "the CUDA provider that was not fetched",
      "cuda",
      NO_CUDA,
      CUDA_PROVIDER,
      "is not installed; fetch it with ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild",
    ],
    [
      "libraries of CUDA",
      "cuda",
      NO_CUDA,
      "libcudart.so.12, libcudnn.so.9",
      `${CUDA_PROVIDER} needs libcudart.so.12, libcudnn.so.9, which the system does not find; install CUDA`,
    ],
    [
      "the Vulkan loader",
      "webgpu",
      NO_ADAPTER,
      "libvulkan.so.1",
      "libvulkan.so.1 is not found, by which WebGPU reaches the GPU here; install it (Debian: libvulkan1",
    ],
  ])("a missing library is named: %s", (_, device, message, missing, line) => {
    const fault = recognizeDeviceError(new Error(message), device, missing);
    expect(fault?.code).toBe("missing-dependency");
    expect(`${fault?.message}; ${fault?.hint}`).toContain(line);
  });

  it("a library that is missing is not blamed for another fault", () => {
    expect(recognizeDeviceError(new Error(TOO_LARGE), "webgpu", "libvulkan.so.1")?.code).toBe("device");
  });

  it.each([
    "Load model from x.onnx failed:Protobuf parsing failed.",
    "Got invalid dimensions for input: x for the following indices",
  ])("%j is no fault of the device", (message) => {
    expect(recognizeDeviceError(new Error(message), "webgpu")).toBeNull();
  });
});

describe("a device", () => {
  const absent = (["dml", "coreml"] as const).find((device) => {
    return device !== { win32: "dml", darwin: "coreml" }[process.platform as string];
  }) as Device;

  it("that this build of ONNX Runtime lacks is refused: its graphs would run on the CPU without a word", async () => {
    const error = await failureOf(() => checkDevice(absent));
    expect(error).toMatchObject({ code: "unsupported", hint: `leave out --device ${absent}` });
    expect(error.message).toMatch(/^onnxruntime-node has no \w+ on \w+ \w+, only on (Windows|macOS)$/);
    const graph = new Graph();
    graph.output(relu(graph.input("x", "float32", [1])), "y");
    expect(await failureOf(() => Session.withInputs(graph, { device: absent }))).toMatchObject({ code: "unsupported" });
  });

  it.skipIf(process.platform !== "linux")(
    "whose library lacks others names those that the system does not find",
    () => {
      const name = `bin/napi-v6/linux/${process.arch}/onnxruntime_binding.node`;
      const own = join("node_modules/onnxruntime-node", name);
      expect(listUnresolved(own)).toBeNull();
      const alone = path("alone.node"); // away from the library beside it
      copyFileSync(own, alone);
      expect(listUnresolved(alone)).toBe("libonnxruntime.so.1");
    },
  );

  it("of another name is refused with the names that there are", async () => {
    expect(await failureOf(() => checkDevice("tpu" as Device))).toMatchObject({
      code: "usage",
      message: "tpu: no such device",
      hint: "take one of cpu, cuda, webgpu, dml, coreml",
    });
  });
});
