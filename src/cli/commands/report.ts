// nfc report: compares a model before and after, with its exports; or any number of models side by side.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Command, Option } from "commander";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError } from "../../errors.ts";
import type { ExportedModel } from "../../inference/exported/exported-model.ts";
import type { TaskMeasurement } from "../../report/report.ts";
import type { Report } from "../../report/report-schema.ts";
import type { ReportedModels } from "../../report/weigh/compressed.ts";
import { requireRuntime, withCheckpoint } from "../open-checkpoint.ts";
import { addCommonFlags, addSourceFlags, type CommonFlags, type SourceFlags, toOpenOptions } from "../options.ts";
import { type Context, note, printResult } from "../terminal.ts";
import { type PageFlags, refuseExistingPage, writePage } from "./report/page.ts";

interface ReportFlags extends CommonFlags, SourceFlags, PageFlags {
  title?: string;
  format: "text" | "markdown" | "json";
  layers?: boolean;
  heads?: boolean;
  sentence: string;
  glue?: string;
  brotli?: boolean;
}

/** The sentence has two names and repeats one, so that heads which look back find something. */
const SENTENCE = "When Mary and John went to the store, John gave a drink to Mary.";

export function reportCommand(context: Context): Command {
  const command = new Command("report")
    .argument("<models...>", "two checkpoints, before and after, then folders of exports; or any models side by side")
    .addOption(new Option("--format <name>", "output").choices(["text", "markdown", "json"]).default("text"))
    .option("--title <text>", "heading of the report")
    .option("--layers", "of two checkpoints: a line for every layer")
    .option("--heads", "of two checkpoints: the tie error of every head")
    .option("--glue <folder>", "of two checkpoints: their scores, from the folder of nfc glue")
    .option("--brotli", "read the files and say what they weigh after brotli, as servers send them")
    .option("--html <file>", "write the report as one self-contained page instead")
    .option("--open", "open that page in the browser")
    .option("--sentence <text>", "sentence whose attention the page of two checkpoints shows; empty: none", SENTENCE)
    .option("-f, --force", "replace an existing page")
    .addHelpText(
      "after",
      `
Two checkpoints are compared in full, with the files of every further folder that holds onnx/. Anything else (one
model, more than two, ONNX files of nfc or of other tools) becomes a table, whose first model is the reference.
Reads headers only, unless --brotli is given (a second for 100 MB, on every core); the page of two checkpoints also reads the noise and runs both on a sentence. The JSON follows
schema/nfc-report-1.schema.json, that of several models schema/nfc-comparison-1.schema.json.

Examples:
  $ nfc report gpt2/ out/nf
  $ nfc report gpt2/ out/nf --format markdown >> $GITHUB_STEP_SUMMARY
  $ nfc report gpt2/ out/nf out/onnx --html report.html --open
  $ nfc report gpt2/ out/nf out/onnx --brotli
  $ nfc report gpt2/ out/nf --glue out/glue
  $ nfc report gpt2/ out/sym out/distance out/onnx/onnx/model_q4.onnx`,
    );
  return addSourceFlags(addCommonFlags(command)).action((models: string[], flags: ReportFlags) =>
    run(context, models, flags),
  );
}

async function run(context: Context, models: readonly string[], flags: ReportFlags): Promise<void> {
  if (flags.open && flags.html === undefined)
    throw new NfcError("usage", "--open opens the page of --html", { hint: "add --html report.html" });
  await refuseExistingPage(flags);
  const [before, after, ...exports] = models;
  if (before !== undefined && after !== undefined && (await arePairAndExports(before, after, exports)))
    return runPair(context, [before, after], exports, flags);
  return runComparison(context, models, flags);
}

/** Whether two checkpoints come first and exports of language models follow. A folder with both counts by its place. */
async function arePairAndExports(before: string, after: string, exports: readonly string[]): Promise<boolean> {
  const { findModels } = await import("../../report/comparison/compare-models.ts");
  for (const model of [before, after]) if (!(await findModels(model)).checkpoint) return false;
  const { isClassifierConfig } = await import("../../inference/exported/exported-model.ts");
  const { readConfig } = await import("../../checkpoint/checkpoint.ts");
  for (const folder of exports) {
    if (!(await isFolder(join(folder, "onnx")))) return false;
    if (isClassifierConfig((await readConfig(folder)) ?? {})) return false;
  }
  return true;
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (status) => status.isDirectory(),
    () => false,
  );

async function runPair(
  context: Context,
  [before, after]: readonly [string, string],
  folders: readonly string[],
  flags: ReportFlags,
): Promise<void> {
  const { openExportedModel } = await import("../../inference/exported/exported-model.ts");
  const { createReport } = await import("../../report/report.ts");
  const { renderReportMarkdown, renderReportText } = await import("../../report/report-blocks.ts");
  const exports: ExportedModel[] = [];
  for (const folder of folders) exports.push(await openExportedModel(folder));
  const options = { exports, title: flags.title };
  const { glue } = flags;
  const { report, page } = await withCheckpoint(context, before, flags, (first) =>
    withCheckpoint(context, after, flags, async (second) => {
      const tasks = glue === undefined ? [] : await readTaskScores(context, glue, { before: first, after: second });
      const plain = createReport(first, second, { ...options, tasks });
      const made = flags.brotli
        ? await withCompressed(context, plain, { before: first, after: second, exports })
        : plain;
      return {
        report: made,
        page: flags.html === undefined ? null : await makePage(context, made, first, second, flags),
      };
    }),
  );
  if (flags.html !== undefined && page !== null) return writePage(context, flags.html, page, flags);
  printResult(context.io, { ...flags, json: flags.json || flags.format === "json" }, report, () =>
    flags.format === "markdown" ? renderReportMarkdown(report, flags) : renderReportText(report, flags),
  );
}

async function withCompressed({ signal }: Context, report: Report, models: ReportedModels): Promise<Report> {
  const { addCompressedSizes } = await import("../../report/weigh/compressed.ts");
  return addCompressedSizes(report, models, signal);
}

/** @throws NfcError "not-found" where the folder has no score of either model */
async function readTaskScores(
  { signal }: Context,
  folder: string,
  models: Readonly<Record<"before" | "after", Checkpoint>>,
): Promise<TaskMeasurement[]> {
  const { readGlueScores } = await import("../../tasks/glue/cells.ts");
  const found: TaskMeasurement[] = [];
  for (const side of ["before", "after"] as const)
    for (const { task, metric, ...score } of await readGlueScores(folder, models[side], signal))
      found.push({ task, metric, [side]: score });
  if (found.length > 0) return found;
  throw new NfcError("not-found", `${folder}: has no score of ${models.before.source} or ${models.after.source}`, {
    hint: "scores belong to the weights that they were made from: run nfc glue with these models",
  });
}

async function makePage(
  { io }: Context,
  report: Report,
  before: Checkpoint,
  after: Checkpoint,
  flags: ReportFlags,
): Promise<string> {
  const { readAttentionPairs, readLearnedNoise, readTrainingCurves } = await import("../../report/page/page-data.ts");
  const { renderReportPage } = await import("../../report/page/page.ts");
  const { readTokenizer } = await import("../../checkpoint/tokenizer.ts");
  const folder = after.folder ?? before.folder;
  const { sentence } = flags;
  const wanted = folder !== null && sentence !== "";
  const missing = wanted ? await findMissingRuntime() : undefined;
  if (missing !== undefined) note(io, flags, `the page has no attention maps: ${missing}`);
  const tokenizer = wanted && missing === undefined ? await readTokenizer(folder, after.config.vocab_size) : null;
  return renderReportPage({
    report,
    noise: await readLearnedNoise(after),
    training: await readTrainingCurves(after),
    attention: tokenizer && (await readAttentionPairs(before, after, tokenizer, sentence)),
    missingAttention: missing,
  });
}

/** What is missing to run models, and how to get it. */
async function findMissingRuntime(): Promise<string | undefined> {
  try {
    await requireRuntime();
    return undefined;
  } catch (error) {
    if (error instanceof NfcError && error.code === "missing-dependency") return `${error.message}; ${error.hint}`;
    throw error;
  }
}

async function runComparison(context: Context, models: readonly string[], flags: ReportFlags): Promise<void> {
  if (flags.layers || flags.heads || flags.glue !== undefined)
    throw new NfcError("usage", "--layers, --heads and --glue are for two checkpoints", {
      hint: "name one before and one after; exports may follow",
    });
  const { compareModels } = await import("../../report/comparison/compare-models.ts");
  const { renderComparisonMarkdown, renderComparisonText } = await import("../../report/comparison/comparison-text.ts");
  const { title, html, format } = flags;
  const options = { ...toOpenOptions(flags), signal: context.signal, title, brotli: flags.brotli };
  const comparison = await compareModels(models, options);
  if (html !== undefined) {
    const { renderComparisonPage } = await import("../../report/comparison/comparison-page.ts");
    return writePage(context, html, renderComparisonPage(comparison), flags);
  }
  printResult(context.io, { ...flags, json: flags.json || format === "json" }, comparison, () =>
    format === "markdown" ? renderComparisonMarkdown(comparison) : renderComparisonText(comparison),
  );
}
