// transformers.js for the page: the copy that the user has installed with its WebAssembly files, else one from a CDN.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileExists } from "../io/exists.ts";

/** The version that the page was tested with, and the one that it takes from the CDN. */
const TESTED_VERSION = "4.3.1";
export const CDN = "https://cdn.jsdelivr.net";

/** A build of ONNX Runtime: the JavaScript that loads the WebAssembly beside it. */
export interface Build {
  mjs: string;
  wasm: string;
}

/** The build for each device. That without WebGPU is half the size of the one that transformers.js loads by default. */
const BUILDS: Readonly<Record<BrowserDevice, string>> = {
  wasm: "ort-wasm-simd-threaded",
  webgpu: "ort-wasm-simd-threaded.asyncify",
};

export type BrowserDevice = "wasm" | "webgpu";

export interface BrowserRuntime {
  version: string;
  /** Absolute paths; null where the page loads all of them from the CDN. */
  files: { library: string; builds: Record<BrowserDevice, Build> } | null;
}

/** All paths of an installed runtime. */
export function listRuntimeFiles({ library, builds }: NonNullable<BrowserRuntime["files"]>): string[] {
  return [library, ...Object.values(builds).flatMap(({ mjs, wasm }) => [mjs, wasm])];
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
    const nameBuild = (name: string): Build => ({ mjs: join(wasm, `${name}.mjs`), wasm: join(wasm, `${name}.wasm`) });
    const builds = { wasm: nameBuild(BUILDS.wasm), webgpu: nameBuild(BUILDS.webgpu) };
    const files = { library: join(dirname(main), "transformers.min.js"), builds };
    // Other major versions have other files and other names for what the page calls.
    return version.startsWith("4.") && listRuntimeFiles(files).every(fileExists) ? { version, files } : null;
  } catch {
    return null;
  }
}
