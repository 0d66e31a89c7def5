// Starts the compiled command line. In a fresh clone, where install scripts do not run, it compiles first.
import { existsSync } from "node:fs";
import module from "node:module";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const main = new URL("../dist/cli/main.js", import.meta.url);

export async function launch() {
  if (!existsSync(main)) {
    if (!existsSync(new URL("../src", import.meta.url))) {
      process.stderr.write(
        "nfc: this package was published without its compiled code (dist/); install another version\n",
      );
      process.exitCode = 70;
      return;
    }
    process.stderr.write("nfc: building once …\n");
    const { execFileSync } = await import("node:child_process");
    const tsc = module.createRequire(import.meta.url).resolve("typescript/bin/tsc");
    execFileSync(process.execPath, [tsc, "-p", `${root}tsconfig.build.json`], { stdio: ["ignore", 2, 2] });
  }
  // From Node 22 on, the compiled code of modules is kept in the system's temporary folder from one start to the next.
  module.enableCompileCache?.();
  // A write that fails must not end the process: `main` tells what stdout has lost.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  const { main: run } = await import(main.href);
  process.exitCode = await run(process);
}
