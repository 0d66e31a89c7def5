// Compiles the AssemblyScript of src to wasm.ts beside it; with --check only says whether that is up to date.
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import asc from "assemblyscript/asc";

/** Folders of kernels, and the files in each. */
const FOLDERS = {
  "src/distill/kernels": ["kernels", "rounding"],
  "src/numeric/kernels": ["products"],
};

async function compile(folder, names) {
  const read = (name) => readFile(new URL(`../${folder}/${name}.as.ts`, import.meta.url), "utf8");
  const sources = Object.fromEntries(await Promise.all(names.map(async (name) => [`${name}.ts`, await read(name)])));
  const { error, stderr, binary } = await asc.compileString(sources, {
    optimizeLevel: 3,
    runtime: "stub",
    enable: ["simd"],
    importMemory: true,
    noAssert: true,
  });
  if (error || !binary) throw new Error(`the kernels of ${folder} do not compile\n${stderr}`);
  const files = names.map((name) => `${name}.as.ts`).join(" and ");
  const text = `// Made by \`npm run kernels\` from ${files}: the module as base64.
// The sha256 of their sources: ${createHash("sha256").update(Object.values(sources).join("")).digest("hex")}
export const WASM_BASE64 =
  "${Buffer.from(binary).toString("base64")}";
`;
  return { text, bytes: binary.length };
}

for (const [folder, names] of Object.entries(FOLDERS)) {
  const target = new URL(`../${folder}/wasm.ts`, import.meta.url);
  const { text, bytes } = await compile(folder, names);
  if (!process.argv.includes("--check")) {
    await writeFile(target, text);
    console.log(`${folder}/wasm.ts: ${bytes} bytes of WebAssembly`);
  } else if ((await readFile(target, "utf8")) !== text) {
    console.error(`${folder}/wasm.ts is not what the AssemblyScript beside it compiles to: run npm run kernels`);
    process.exitCode = 1;
  }
}
