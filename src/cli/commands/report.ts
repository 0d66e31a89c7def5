// nfc report: parameters and bytes of two models, before and after.
import { Command, Option } from "commander";
import { createReport } from "../../export/report.ts";
import { reportMarkdown } from "../../export/report-markdown.ts";
import { reportText } from "../../export/report-text.ts";
import type { Context } from "../main.ts";
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
    .addOption(new Option("--format <name>", "output").choices(["text", "markdown", "json"]).default("text"))
    .option("--title <text>", "heading of the report")
    .option("--layers", "a line for every layer")
    .option("--heads", "the tie error of every head")
    .addHelpText(
      "after",
      "\nReads headers only. The JSON follows schema/nfc-report-1.schema.json.\n\nExamples:\n  $ nfc report gpt2/ out/nf\n  $ nfc report gpt2/ out/nf --format markdown >> $GITHUB_STEP_SUMMARY\n  $ nfc report gpt2/ out/nf --json",
    );
  return sourceFlags(commonFlags(command)).action((before: string, after: string, flags: ReportFlags) =>
    withCheckpoint(context, before, flags, (first) =>
      withCheckpoint(context, after, flags, async (second) => {
        const report = createReport(first, second, flags.title === undefined ? {} : { title: flags.title });
        const options = { layers: flags.layers ?? false, heads: flags.heads ?? false };
        const json = flags.json || flags.format === "json";
        printResult(context.io, { json }, report, () =>
          flags.format === "markdown" ? reportMarkdown(report, options) : reportText(report, options),
        );
      }),
    ),
  );
}
