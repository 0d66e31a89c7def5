// Compiles src/io to JavaScript in a temporary folder, so that a child process can run it without a build of the project.
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const source = fileURLToPath(new URL("../../src/", import.meta.url));

/** Writes errors.js and io/*.js below `folder`; they import each other as the sources do. */
export async function compileIo(folder: string): Promise<void> {
  await mkdir(join(folder, "io"));
  await writeFile(join(folder, "package.json"), '{"type":"module"}');
  const names = (await readdir(join(source, "io"))).map((name) => join("io", name));
  for (const name of ["errors.ts", ...names]) {
    const { outputText } = ts.transpileModule(await readFile(join(source, name), "utf8"), {
      compilerOptions: {
        target: ts.ScriptTarget.ES2023,
        module: ts.ModuleKind.ESNext,
        rewriteRelativeImportExtensions: true,
      },
    });
    await writeFile(join(folder, name.replace(/\.ts$/, ".js")), outputText);
  }
}
