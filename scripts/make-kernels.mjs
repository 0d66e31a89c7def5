// Compiles the AssemblyScript of src/ to the wasm.ts files; with --check only says whether these are up to date.
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import asc from "assemblyscript/asc";

const ROUNDING = "src/graph/quantize/rounding.as.ts";
const MODULES = {
  "src/graph/quantize/wasm.ts": [ROUNDING],
  "src/distill/kernels/wasm.ts": ["src/distill/kernels/kernels.as.ts", ROUNDING],
  "src/numeric/kernels/wasm.ts": [
    "src/numeric/kernels/products.as.ts",
    "src/numeric/kernels/symmetric.as.ts",
    "src/numeric/kernels/buckets.as.ts",
  ],
};
const locate = (path) => new URL(`../${path}`, import.meta.url);

async function compile(paths) {
  const names = paths.map((path) => basename(path));
  const texts = await Promise.all(paths.map((path) => readFile(locate(path), "utf8")));
  const sources = Object.fromEntries(names.map((name, i) => [name.replace(".as.ts", ".ts"), texts[i]]));
  const { error, stderr, binary } = await asc.compileString(sources, {
    optimizeLevel: 3,
    runtime: "stub",
    enable: ["simd"],
    importMemory: true,
    noAssert: true,
  });
  if (error || !binary) throw new Error(`the kernels do not compile\n${stderr}`);
  return `// Made by \`npm run kernels\` from ${names.join(" and ")}: the module as base64.
// The sha256 of ${names.length > 1 ? "their sources" : "its source"}: ${createHash("sha256").update(texts.join("")).digest("hex")}
export const WASM_BASE64 =
  "${Buffer.from(binary).toString("base64")}";
`;
}

for (const [target, paths] of Object.entries(MODULES)) {
  const text = await compile(paths);
  if (!process.argv.includes("--check")) {
    await writeFile(locate(target), text);
    console.log(`${target}: written`);
  } else if ((await readFile(locate(target), "utf8")) !== text) {
    console.error(`${target} is not what its AssemblyScript compiles to: run npm run kernels`);
    process.exitCode = 1;
  }
}
