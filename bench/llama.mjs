// Finds llama.cpp, as npm's node-llama-cpp: the folder that NFC_LLAMA_CPP names, or an installed package.
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** The type of a GGUF file that has about as many bits a weight as one of our precisions. */
export const GGUF_OF = { fp16: "f16", int8: "q8_0", q4: "q4_0" };

const PACKAGE = "node-llama-cpp";

/** The URL to import; null where there is none. */
export function findLlama() {
  const folder = process.env.NFC_LLAMA_CPP;
  if (folder) return pathToFileURL(join(folder, "dist/index.js")).href;
  try {
    return import.meta.resolve(PACKAGE);
  } catch (error) {
    if (error.code === "ERR_MODULE_NOT_FOUND") return null;
    throw error;
  }
}
