// The command line compiled into a folder of its own, for tests that run it as a process, kill it or interrupt it.
import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { once } from "./once.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Writes src/, compiled, to `folder`/dist, so that a child process runs what stands there now. */
export async function compileSources(folder: string): Promise<void> {
  cpSync(await once("compiled", transpile), join(folder, "dist"), { recursive: true });
  cpSync(join(root, "package.json"), join(folder, "package.json"));
}

/** Compiles src/ to `folder` without a look at types. */
async function transpile(folder: string): Promise<void> {
  const { default: ts } = await import("typescript");
  for (const name of readdirSync(join(root, "src"), { recursive: true }) as string[]) {
    if (!name.endsWith(".ts")) continue;
    const { outputText } = ts.transpileModule(readFileSync(join(root, "src", name), "utf8"), {
      compilerOptions: {
        target: ts.ScriptTarget.ES2023,
        module: ts.ModuleKind.ESNext,
        rewriteRelativeImportExtensions: true,
      },
    });
    const target = join(folder, name.replace(/\.ts$/, ".js"));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, outputText);
  }
}

/** Lays out `folder` as the package is: bin/, dist/, fixtures/, package.json. Gives the path of bin/nfc.js. */
export async function compileCli(folder: string): Promise<string> {
  await compileSources(folder);
  cpSync(join(root, "bin"), join(folder, "bin"), { recursive: true });
  symlinkSync(join(root, "fixtures"), join(folder, "fixtures"));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  return join(folder, "bin/nfc.js");
}

interface Ending {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface Running {
  process: ChildProcess;
  ending: Promise<Ending>;
  /** Resolves when stderr first shows the text; rejects when the process ends before. */
  shows(text: string): Promise<void>;
}

/** Starts `nfc` with these arguments as a process of its own. `env` comes on top of the test's own variables. */
export function start(
  bin: string,
  args: readonly string[],
  { cwd, env }: { cwd?: string; env?: Record<string, string> } = {},
): Running {
  const child = spawn(process.execPath, [bin, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    cwd,
    env: { ...process.env, ...env },
  });
  const written = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name].on("data", (piece) => {
      written[name] += piece;
    });
  const ending = new Promise<Ending>((resolve) => {
    child.on("close", (code, signal) => resolve({ code, signal, ...written }));
  });
  const shows = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => written.stderr.includes(text) && resolve();
      child.stderr.on("data", look);
      child.on("close", () => reject(new Error(`ended without "${text}": ${written.stderr}`)));
      look();
    });
  return { process: child, ending, shows };
}
