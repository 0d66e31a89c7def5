// nfc report: parameters and bytes of two models, before and after, and what exports of them weigh and lose.
import { Command, Option } from "commander";
import type { ExportedModel } from "../../inference/exported-model.ts";
import type { Context } from "../context.ts";
import { withCheckpoint } from "../open.ts";
import { type CommonFlags, commonFlags, type SourceFlags, sourceFlags } from "../options.ts";
import { printResult } from "../terminal.ts";

interface ReportFlags extends CommonFlags, SourceFlags {
  title?: string;
  format: "text" | "markdown" | "json";
  layers?: boolean;
  heads?: boolean;
}

export function reportCommand(context: Context): Command {
  const command = new Command("report")
    .description("Compare two models: parameters and bytes by group, tie errors, recorded perplexities.")
    .argument("<before>", "the model that the other was made from")
    .argument("<after>", "the smaller model")
    .argument("[exports...]", "folders of exports, to list size and recorded perplexity of every file")
    .addOption(new Option("--format <name>", "output").choices(["text", "markdown", "json"]).default("text"))
    .option("--title <text>", "heading of the report")
    .option("--layers", "a line for every layer")
    .option("--heads", "the tie error of every head")
    .addHelpText(
      "after",
      "\nReads headers only. The JSON follows schema/nfc-report-1.schema.json.\n\nExamples:\n  $ nfc report gpt2/ out/nf\n  $ nfc report gpt2/ out/nf --format markdown >> $GITHUB_STEP_SUMMARY\n  $ nfc report gpt2/ out/nf --json\n  $ nfc report gpt2/ out/nf out/onnx",
    );
  return sourceFlags(commonFlags(command)).action(
    (before: string, after: string, exports: string[], flags: ReportFlags) =>
      run(context, before, after, exports, flags),
  );
}

async function run(
  context: Context,
  before: string,
  after: string,
  folders: readonly string[],
  flags: ReportFlags,
): Promise<void> {
  const { openExportedModel } = await import("../../inference/exported-model.ts");
  const { createReport } = await import("../../export/report.ts");
  const { reportMarkdown } = await import("../../export/report-markdown.ts");
  const { reportText } = await import("../../export/report-text.ts");
  const exports: ExportedModel[] = [];
  for (const folder of folders) exports.push(await openExportedModel(folder));
  const report = await withCheckpoint(context, before, flags, (first) =>
    withCheckpoint(context, after, flags, async (second) =>
      createReport(first, second, { exports, ...(flags.title !== undefined && { title: flags.title }) }),
    ),
  );
  const options = { layers: flags.layers ?? false, heads: flags.heads ?? false };
  printResult(context.io, { json: flags.json || flags.format === "json" }, report, () =>
    flags.format === "markdown" ? reportMarkdown(report, options) : reportText(report, options),
  );
}
