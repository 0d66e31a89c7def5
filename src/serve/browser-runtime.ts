// transformers.js for the page: the copy that the user has installed with its WebAssembly files, else one from a CDN.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileExists } from "../io/exists.ts";

/** The version that the page was tested with, and the one that it takes from the CDN. */
const TESTED_VERSION = "4.3.1";
export const CDN = "https://cdn.jsdelivr.net";

/** ONNX Runtime's build without WebGPU: half the size of the one that transformers.js loads by default. */
const WASM_MODULE = "ort-wasm-simd-threaded.mjs";
const WASM_BINARY = "ort-wasm-simd-threaded.wasm";

export interface BrowserRuntime {
  version: string;
  /** Absolute paths; null where the page loads all three from the CDN. */
  files: { library: string; wasmModule: string; wasmBinary: string } | null;
}

/** Looks from each folder in turn, as Node would for an import there. */
export function findBrowserRuntime(folders: readonly string[]): BrowserRuntime {
  for (const folder of folders) {
    const found = findInstalled(folder);
    if (found) return found;
  }
  return { version: TESTED_VERSION, files: null };
}

function findInstalled(folder: string): BrowserRuntime | null {
  try {
    const main = createRequire(join(folder, "any.js")).resolve("@huggingface/transformers");
    const { version } = JSON.parse(readFileSync(join(dirname(main), "../package.json"), "utf8")) as { version: string };
    const wasm = dirname(createRequire(main).resolve("onnxruntime-web"));
    const files = {
      library: join(dirname(main), "transformers.min.js"),
      wasmModule: join(wasm, WASM_MODULE),
      wasmBinary: join(wasm, WASM_BINARY),
    };
    // Other major versions have other files and other names for what the page calls.
    return version.startsWith("4.") && Object.values(files).every(fileExists) ? { version, files } : null;
  } catch {
    return null;
  }
}
