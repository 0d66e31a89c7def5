// nfc demo: the whole way on the embedded fixture: inspect, convert, evaluate, export, report.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { convert } from "../../convert/convert.ts";
import { evaluate } from "../../distill/evaluate.ts";
import { recordPerplexity } from "../../distill/record-perplexity.ts";
import { exportModel } from "../../export/export-model.ts";
import { createReport } from "../../export/report.ts";
import { reportText } from "../../export/report-text.ts";
import { type Checkpoint, openCheckpoint } from "../../model/checkpoint.ts";
import { loadTokenizer } from "../../model/tokenizer.ts";
import { tokenStream } from "../../model/tokens.ts";
import type { Context } from "../main.ts";
import { type CommonFlags, commonFlags } from "../options.ts";
import { Progress } from "../progress.ts";
import { printResult } from "../terminal.ts";

/** Shipped with the package: fixtures/ lies beside dist/ and src/. */
const FIXTURES = fileURLToPath(new URL("../../../fixtures/", import.meta.url));
const MODEL = join(FIXTURES, "tiny-gpt2");
const TEXT = join(FIXTURES, "text.txt");

interface DemoFlags extends CommonFlags {
  output: string;
}

export function demoCommand(context: Context): Command {
  const command = new Command("demo")
    .description("Convert, evaluate, export and report a tiny model that comes with nfc.")
    .option("-o, --output <folder>", "folder for the results; demo results in it are replaced", "out/demo")
    .addHelpText(
      "after",
      "\nThe fixture has random weights: its perplexity says nothing about quality.\n\nExample:\n  $ nfc demo",
    );
  return commonFlags(command).action((flags: DemoFlags) => run(context, flags));
}

async function run(context: Context, flags: DemoFlags): Promise<void> {
  const progress = new Progress(context.io, flags);
  const { signal } = context;
  const say = (text: string) => {
    progress.stop();
    if (!flags.quiet) context.io.stderr.write(`$ ${text}\n`);
  };
  const shared = { force: true, signal, onProgress: progress.show, ...(flags.threads && { threads: flags.threads }) };
  const [tied, onnx] = [join(flags.output, "nf"), join(flags.output, "nf-onnx")];
  const base = await openCheckpoint(MODEL);
  try {
    const convertLine = ["nfc", "convert", MODEL, "-o", tied, "--calibration", TEXT];
    say(convertLine.join(" "));
    await convert(base, {
      ...shared,
      output: tied,
      variant: "noise-distance",
      strategy: "calibrated",
      calibration: [TEXT],
      command: convertLine,
    });
    await withModel(tied, async (model) => {
      say(`nfc eval ${tied} --text ${TEXT} --against ${MODEL}`);
      const tokens = tokenStream([TEXT], await loadTokenizer(model.folder, model.config));
      await recordPerplexity(model, [TEXT], await evaluate(model, { tokens, against: base, signal }), base);
    });
    await withModel(tied, async (model) => {
      say(`nfc export ${tied} --onnx -o ${onnx}`);
      await exportModel(model, { ...shared, output: onnx, onnx: { weights: "inline", noise: { kind: "mean" } } });
      say(`nfc report ${MODEL} ${tied}`);
      progress.stop();
      const report = createReport(base, model, { title: "nfc demo" });
      printResult(context.io, flags, report, () => reportText(report));
    });
  } finally {
    progress.stop();
    await base.close();
  }
}

async function withModel(folder: string, use: (model: Checkpoint) => Promise<void>): Promise<void> {
  const model = await openCheckpoint(folder);
  try {
    await use(model);
  } finally {
    await model.close();
  }
}
