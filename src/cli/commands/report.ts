// nfc report: parameters and bytes of two models, before and after, and what exports of them weigh and lose.
import { existsSync } from "node:fs";
import { Command, Option } from "commander";
import { NfcError } from "../../errors.ts";
import type { Report } from "../../export/report-schema.ts";
import type { ExportedModel } from "../../inference/exported-model.ts";
import type { Checkpoint } from "../../model/checkpoint.ts";
import { openBrowser } from "../browser.ts";
import type { Context } from "../context.ts";
import { withCheckpoint } from "../open.ts";
import { type CommonFlags, commonFlags, type SourceFlags, sourceFlags } from "../options.ts";
import { note, printResult } from "../terminal.ts";

interface ReportFlags extends CommonFlags, SourceFlags {
  title?: string;
  format: "text" | "markdown" | "json";
  layers?: boolean;
  heads?: boolean;
  html?: string;
  open?: boolean;
  sentence: string;
  force?: boolean;
}

/** Two names and a pronoun: heads that look back have something to look for. */
const SENTENCE = "When Mary and John went to the store, John gave a drink to Mary.";

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
    .option("--html <file>", "write the report as one self-contained page instead")
    .option("--open", "open that page in the browser")
    .option("--sentence <text>", "sentence whose attention the page shows; empty: none", SENTENCE)
    .option("-f, --force", "replace an existing page")
    .addHelpText(
      "after",
      "\nReads headers only; the page also reads the noise and runs both models on a sentence. The JSON follows schema/nfc-report-1.schema.json.\n\nExamples:\n  $ nfc report gpt2/ out/nf\n  $ nfc report gpt2/ out/nf --format markdown >> $GITHUB_STEP_SUMMARY\n  $ nfc report gpt2/ out/nf --json\n  $ nfc report gpt2/ out/nf out/onnx\n  $ nfc report gpt2/ out/nf out/onnx --html report.html --open",
    );
  return sourceFlags(commonFlags(command)).action(
    (before: string, after: string, exports: string[], flags: ReportFlags) =>
      run(context, before, after, exports, flags),
  );
}

async function writePage(
  file: string,
  report: Report,
  [before, after]: readonly [Checkpoint, Checkpoint],
  { sentence, force = false }: ReportFlags,
): Promise<void> {
  const { attentionPairs, learnedNoise, trainingCurves } = await import("../../export/page/page-data.ts");
  const { reportPage } = await import("../../export/page/page.ts");
  const { writeFileAtomic } = await import("../../io/staging.ts");
  const { readTokenizer } = await import("../../model/tokenizer.ts");
  if (!force && existsSync(file))
    throw new NfcError("exists", `${file}: exists already`, {
      hint: "choose another name, or replace it with --force",
    });
  const folder = after.folder ?? before.folder;
  const tokenizer = folder === null || sentence === "" ? null : await readTokenizer(folder);
  const page = reportPage({
    report,
    noise: await learnedNoise(after),
    training: await trainingCurves(after),
    attention: tokenizer && (await attentionPairs(before, after, tokenizer, sentence)),
  });
  await writeFileAtomic(file, page);
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
  const options = { exports, ...(flags.title !== undefined && { title: flags.title }) };
  const report = await withCheckpoint(context, before, flags, (first) =>
    withCheckpoint(context, after, flags, async (second) => {
      const made = createReport(first, second, options);
      if (flags.html !== undefined) await writePage(flags.html, made, [first, second], flags);
      return made;
    }),
  );
  if (flags.html !== undefined) {
    printResult(context.io, flags, { html: flags.html }, () => flags.html as string);
    if (flags.open) openBrowser(flags.html, (fact) => note(context.io, flags, `the browser does not open: ${fact}`));
    return;
  }
  const parts = { layers: flags.layers ?? false, heads: flags.heads ?? false };
  printResult(context.io, { json: flags.json || flags.format === "json" }, report, () =>
    flags.format === "markdown" ? reportMarkdown(report, parts) : reportText(report, parts),
  );
}
