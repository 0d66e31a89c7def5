// The devices that sessions run on, where onnxruntime-node has each, and which library of the system one lacks.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { describeError } from "../errors.ts";
import { fileExists } from "../io/exists.ts";

/** The devices that ops run on; ONNX Runtime runs those that a device lacks on the CPU. */
export const DEVICES = ["cpu", "cuda", "webgpu", "dml", "coreml"] as const;
export type Device = (typeof DEVICES)[number];

/** The platforms whose build of onnxruntime-node has a device. */
export const DEVICE_PLATFORMS: Readonly<Record<Device, string>> = {
  cpu: "all platforms",
  cuda: "Linux x64",
  webgpu: "Linux x64, Windows and macOS",
  dml: "Windows",
  coreml: "macOS",
};

export const CUDA_PROVIDER = "libonnxruntime_providers_cuda.so";
const VULKAN_LOADER = "libvulkan.so.1";

/**
 * What this machine lacks for a device to open: libraries that the system's loader does not find. Null where none is
 * known. ONNX Runtime names none in its errors.
 */
export function findMissingLibrary(device: Device): string | null {
  if (process.platform !== "linux") return null;
  if (device === "webgpu") return isLoadable(VULKAN_LOADER) ? null : VULKAN_LOADER;
  if (device !== "cuda" || process.arch !== "x64") return null;
  const entry = createRequire(import.meta.url).resolve("onnxruntime-node");
  const provider = join(entry, "../../bin/napi-v6/linux/x64", CUDA_PROVIDER);
  return fileExists(provider) ? listUnresolved(provider) : CUDA_PROVIDER;
}

/** A library that is no module of Node is loaded, and refused afterwards. */
function isLoadable(name: string): boolean {
  try {
    process.dlopen({ exports: {} }, name);
    return true;
  } catch (error) {
    return !/cannot open shared object file/.test(describeError(error));
  }
}

/**
 * "libcudart.so.12, libcudnn.so.9": the libraries that one needs and the loader does not find. It is not loaded for that,
 * because the provider's initializers end a process that has not loaded ONNX Runtime's shared part before.
 */
export function listUnresolved(library: string): string | null {
  const { stdout } = spawnSync("ldd", [library], { encoding: "utf8" });
  const missing = [...(stdout ?? "").matchAll(/^\s*(\S+) => not found$/gm)].map(([, name]) => name);
  return missing.length > 0 ? missing.join(", ") : null;
}
