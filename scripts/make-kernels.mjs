// Compiles the AssemblyScript of src/distill/kernels to wasm.ts beside it; with --check only says whether that is up to date.
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import asc from "assemblyscript/asc";

const folder = new URL("../src/distill/kernels/", import.meta.url);
const target = new URL("wasm.ts", folder);
const read = (name) => readFile(new URL(name, folder), "utf8");
const sources = { "kernels.ts": await read("kernels.as.ts"), "rounding.ts": await read("rounding.as.ts") };
const { error, stderr, binary } = await asc.compileString(sources, {
  optimizeLevel: 3,
  runtime: "stub",
  enable: ["simd"],
  importMemory: true,
  noAssert: true,
});
if (error || !binary) throw new Error(`the kernels do not compile\n${stderr}`);

const text = `// Made by \`npm run kernels\` from kernels.as.ts and rounding.as.ts: the module as base64.
// The sha256 of their sources: ${createHash("sha256").update(Object.values(sources).join("")).digest("hex")}
export const WASM_BASE64 =
  "${Buffer.from(binary).toString("base64")}";
`;
if (!process.argv.includes("--check")) {
  await writeFile(target, text);
  console.log(`src/distill/kernels/wasm.ts: ${binary.length} bytes of WebAssembly`);
} else if ((await readFile(target, "utf8")) !== text) {
  console.error(
    "src/distill/kernels/wasm.ts is not what the AssemblyScript beside it compiles to: run npm run kernels",
  );
  process.exitCode = 1;
}
