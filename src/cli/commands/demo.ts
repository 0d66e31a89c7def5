// nfc demo: runs the real commands on the embedded fixture: inspect, convert, eval, export, report.
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { commandLine } from "../../export/format.ts";
import type { Context } from "../context.ts";
import { type CommonFlags, commonFlags } from "../options.ts";
import type { Io } from "../terminal.ts";

/** Shipped with the package: fixtures/ lies beside dist/ and src/. */
const FIXTURES = fileURLToPath(new URL("../../../fixtures/", import.meta.url));

interface DemoFlags extends CommonFlags {
  output: string;
}

export function demoCommand(context: Context): Command {
  const command = new Command("demo")
    .description("Convert, evaluate, export and report a tiny model that comes with nfc.")
    .option("-o, --output <folder>", "folder for the results; results of an earlier demo are replaced", "out/demo")
    .addHelpText(
      "after",
      "\nThe fixture has random weights: its perplexity says nothing about quality.\n\nExample:\n  $ nfc demo",
    );
  return commonFlags(command).action((flags: DemoFlags) => run(context, flags));
}

async function run(context: Context, flags: DemoFlags): Promise<void> {
  const { io } = context;
  const [model, text] = ["tiny-gpt2", "text.txt"].map((name) => shortest(join(FIXTURES, name))) as [string, string];
  const [tied, onnx] = [join(flags.output, "nf"), join(flags.output, "nf-onnx")];
  const steps = [
    ["inspect", model],
    ["convert", model, "-o", tied, "--calibration", text, "--force"],
    ["eval", tied, "--text", text, "--against", model],
    ["export", tied, "--onnx", "-o", onnx, "--force"],
    ["report", model, tied],
  ];
  const shared = [...(flags.quiet ? ["--quiet"] : []), ...(flags.threads ? ["--threads", String(flags.threads)] : [])];
  for (const [i, step] of steps.entries()) {
    const last = i === steps.length - 1;
    const own = flags.json && last ? [...shared, "--json"] : shared;
    if (!flags.quiet) io.stderr.write(`\n$ ${commandLine(["nfc", ...step])}\n`);
    await context.run([...step, ...own], flags.json && !last ? withoutStdout(io) : io);
  }
}

/** With --json, stdout holds the report alone: what the other steps print goes to stderr. */
function withoutStdout(io: Io): Io {
  return { ...io, stdout: io.stderr, on: io.on.bind(io), off: io.off.bind(io) };
}

/** The path as a person would type it. */
function shortest(path: string): string {
  const short = relative("", path);
  return short !== "" && short.length < path.length ? short : path;
}
