// nfc demo: runs the real commands on the embedded fixture: inspect, convert, distill, eval, export, generate, report.
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { formatCommand } from "../../io/printable.ts";
import { alignTable } from "../../report/render/text.ts";
import { requireRuntime } from "../open-checkpoint.ts";
import { addCommonFlags, type CommonFlags } from "../options.ts";
import { type Context, fitTerminal, type Io } from "../terminal.ts";

/** The package ships fixtures/ beside dist/ and src/. */
const FIXTURES = fileURLToPath(new URL("../../../fixtures/", import.meta.url));
/** These settings win most of the loss back in seconds, because the model is tiny and bears a high rate. */
const SHORT = ["--steps", "200", "--batch-size", "16", "--lr", "0.001"];

const PROMPT = "Anna keeps her old lantern in the tower. Boris keeps his";

interface DemoFlags extends CommonFlags {
  output: string;
}

export function demoCommand(context: Context): Command {
  const command = new Command("demo")
    .option("-o, --output <folder>", "folder for the results; results of an earlier demo are replaced", "out/demo")
    .addHelpText(
      "after",
      "\nThe model was trained on text from a small grammar: it shows the way, not what\nlarge models lose and win back.\n\nExample:\n  $ nfc demo",
    );
  return addCommonFlags(command).action((flags: DemoFlags) => run(context, flags));
}

async function run(context: Context, flags: DemoFlags): Promise<void> {
  const { io } = context;
  await requireRuntime();
  const fixture = (name: string) => shorten(join(FIXTURES, name));
  const [model, train, text] = [fixture("tiny-gpt2"), fixture("train.txt"), fixture("text.txt")];
  const output = (name: string) => join(flags.output, name);
  const [tied, distilled, onnx] = [output("nf"), output("nf-distilled"), output("nf-onnx")];
  const learning = ["--teacher", model, "--data", train, "--cache", output("cache"), ...SHORT];
  const steps = [
    ["inspect", model],
    ["convert", model, "-o", tied, "--calibration", train, "--force"],
    ["eval", tied, "--text", text, "--against", model],
    ["distill", tied, ...learning, "-o", distilled, "--force"],
    ["eval", distilled, "--text", text, "--against", model],
    ["export", distilled, "--onnx", "--precision", "fp32,int8,q4", "--text", text, "-o", onnx, "--force"],
    ["generate", onnx, "--precision", "q4", "--prompt", PROMPT, "--max-new-tokens", "30"],
    ["report", model, distilled],
  ];
  const shared = [...(flags.quiet ? ["--quiet"] : []), ...(flags.threads ? ["--threads", String(flags.threads)] : [])];
  for (const [i, step] of steps.entries()) {
    const last = i === steps.length - 1;
    const own = flags.json && last ? [...shared, "--json"] : shared;
    if (!flags.quiet) io.stderr.write(fitTerminal(`\n$ ${formatCommand(["nfc", ...step])}\n`, io.stderr));
    await context.run([...step, ...own], flags.json && !last ? muteStdout(io) : io);
  }
  if (!flags.json) io.stdout.write(fitTerminal(`\n${await describeRecovery(model, tied, distilled)}\n`, io.stdout));
}

/** A table of the recorded perplexities, and of the share of the loss that distilling won back. */
async function describeRecovery(model: string, tied: string, distilled: string): Promise<string> {
  const [converted, after] = [await readPerplexities(tied), await readPerplexities(distilled)];
  const before = after.source ?? Number.NaN;
  const share = 1 - Math.log(after.perplexity / before) / Math.log(converted.perplexity / before);
  const rows = [
    ["model", "perplexity", "loss won back"],
    [model, before.toFixed(3), ""],
    [tied, converted.perplexity.toFixed(3), "0 %"],
    [distilled, after.perplexity.toFixed(3), `${Math.round(100 * share)} %`],
  ];
  return alignTable(rows, { align: "lrr", rulesBefore: [1] }).join("\n");
}

async function readPerplexities(folder: string): Promise<{ perplexity: number; source?: number }> {
  const { readNfcRecord } = await import("../../checkpoint/nfc-record.ts");
  const entry = (await readNfcRecord(folder))?.perplexity?.[0];
  if (!entry) throw new Error(`${folder}: nfc eval noted no perplexity`);
  return entry;
}

/** With --json, stdout holds the report alone, and the other steps print to stderr. */
function muteStdout(io: Io): Io {
  return { ...io, stdout: io.stderr, on: io.on.bind(io), off: io.off.bind(io) };
}

/** The path as a person would type it. */
function shorten(path: string): string {
  const short = relative("", path);
  return short !== "" && short.length < path.length ? short : path;
}
