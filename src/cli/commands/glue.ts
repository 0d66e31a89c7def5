// nfc glue: the whole table of models, tasks and seeds, beside the paper's, in one command that can be taken up again.
import { Command, Option } from "commander";
import { NfcError } from "../../errors.ts";
import { alignTable, escapeControls, formatMetric, formatThousands } from "../../report/render/format.ts";
import { code, table } from "../../report/render/report-markdown.ts";
import type { GlueEntry, GlueRow } from "../../tasks/glue/glue.ts";
import type { Task } from "../../tasks/tasks.ts";
import { addCommonFlags, type CommonFlags, parsePositiveInteger, parsePositiveNumber } from "../options.ts";
import { Progress } from "../progress.ts";
import { addSkipFlag, SkippedLines } from "../skipped-lines.ts";
import { type Context, printResult } from "../terminal.ts";

interface GlueFlags extends CommonFlags {
  models: string[];
  tasks: string[];
  data: string;
  output: string;
  seeds: number;
  epochs?: number;
  lr?: number;
  batchSize?: number;
  length?: number;
  splitDev?: number;
  format: "text" | "markdown";
  skipInvalid?: boolean;
  force?: boolean;
}

const HELP = `
Every cell fine-tunes one model on one task with one seed, as nfc finetune --task does, and is kept in the output folder
as a small JSON file. Ctrl-C keeps what is done: the same command goes on where it stopped. Scores are those of the best
step on the development set: mean ± standard deviation over the seeds, or with one seed its 95 % interval.

Examples:
  $ nfc glue --models gpt2/,out/sym --tasks cola,sst2,rte --data glue/ -o out/glue
  $ nfc glue --models gpt2/,out/sym --tasks cola --data glue/ --seeds 3 --format markdown -o out/glue`;

const parseList = (text: string) =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");

export function glueCommand(context: Context): Command {
  const command = new Command("glue")
    .description("Fine-tune and score models on tasks of GLUE, as a table beside the paper's.")
    .requiredOption("--models <list>", "model folders, separated by commas", parseList)
    .requiredOption("--tasks <list>", "of mrpc, cola, mnli, qqp, rte, qnli, sst2, stsb, wnli", parseList)
    .requiredOption("--data <folder>", "holds a folder for each task: MRPC, CoLA, SST-2, …")
    .option("-o, --output <folder>", "folder of the finished cells", "out/glue")
    .option("--seeds <n>", "seeds of each cell", parsePositiveInteger, 1)
    .option("--epochs <n>", "times through the examples (default: 3; small tasks 10)", parsePositiveInteger)
    .option("--lr <rate>", "peak learning rate (default: 6.25e-5 at width 768)", parsePositiveNumber)
    .option("--batch-size <n>", "examples of a step (default: 32)", parsePositiveInteger)
    .option("--length <n>", "most tokens of a text (default: 128)", parsePositiveInteger)
    .option("--split-dev <share>", "for tasks without a train.tsv: hold this share of dev.tsv out", parsePositiveNumber)
    .addOption(new Option("--format <name>", "of the table").choices(["text", "markdown"]).default("text"))
    .option("-f, --force", "make cells of other settings again")
    .addHelpText("after", HELP);
  return addCommonFlags(addSkipFlag(command)).action((flags: GlueFlags) => run(context, flags));
}

async function run(context: Context, flags: GlueFlags): Promise<void> {
  const { makeGlueTable } = await import("../../tasks/glue/glue.ts");
  const { findTask } = await import("../../tasks/tasks.ts");
  const { models, data, output, seeds, epochs, lr, batchSize, length, splitDev, threads, force = false } = flags;
  if (models.length === 0 || flags.tasks.length === 0)
    throw new NfcError("usage", "nothing to do", { hint: "name models and tasks, separated by commas" });
  const tasks = [...new Set(flags.tasks.map(findTask))];
  const given = Object.entries({ epochs, lr, batchSize, length }).filter(([, value]) => value !== undefined);
  const skipped = new SkippedLines(flags);
  const progress = await Progress.open(context.io, flags);
  try {
    const rows = await makeGlueTable({
      ...{ models, tasks, data, output, seeds, force },
      settings: Object.fromEntries(given),
      ...(splitDev !== undefined && { splitDev }),
      ...skipped.reading,
      ...(threads !== undefined && { session: { threads } }),
      onProgress: progress.show,
      signal: context.signal,
    }).catch((error: unknown) => {
      throw isResumable(error, output);
    });
    progress.stop();
    skipped.tell(context.io, flags);
    const lines = await formatLines(rows, tasks);
    const align = `lr${"r".repeat(tasks.length)}`;
    const text = () =>
      flags.format === "markdown"
        ? table(
            lines[0] as string[],
            lines.slice(1).map(([model = "", ...cells]) => [code(model), ...cells]),
            align,
          )
        : alignTable(
            lines.map((cells) => cells.map(escapeControls)),
            { align, rulesBefore: [1, 1 + rows.length] },
          ).join("\n");
    printResult(
      context.io,
      flags,
      { output, tasks: tasks.map(({ name }) => name), rows, paper: await loadPaperRows() },
      text,
    );
  } finally {
    progress.stop();
  }
}

/** An interrupted table goes on by itself: its cells need no --resume. */
function isResumable(error: unknown, output: string): unknown {
  if (!(error instanceof NfcError) || error.code !== "aborted") return error;
  return new NfcError("aborted", `interrupted; what is finished is kept in ${output}`, {
    hint: "the same command goes on from there",
    cause: error,
  });
}

async function loadPaperRows() {
  return (await import("../../tasks/glue/paper.ts")).PAPER_ROWS;
}

async function formatLines(rows: readonly GlueRow[], tasks: readonly Task[]): Promise<string[][]> {
  return [
    ["model", "parameters", ...tasks.map(({ title }) => title)],
    ...rows.map(({ model, parameters, entries }) => [
      model,
      formatThousands(parameters),
      ...entries.map((entry, i) => formatScore(entry, tasks[i] as Task)),
    ]),
    ...(await loadPaperRows()).map(({ model, scores }) => [
      `${model} (paper)`,
      "",
      ...tasks.map(({ name, metrics: [metric] }) => (scores[name] === undefined ? "" : toPlain(metric, scores[name]))),
    ]),
  ];
}

/** "63.2 ± 1.1", or "63.2 [61.0, 65.2]" of one seed. */
function formatScore({ mean, spread, cells }: GlueEntry, { metrics: [metric] }: Task): string {
  if (Number.isNaN(mean)) return "undefined";
  if (spread !== null) return `${toPlain(metric, mean)} ± ${toPlain(metric, spread)}`;
  const interval = cells[0]?.interval;
  return interval
    ? `${toPlain(metric, mean)} [${interval.map((end) => toPlain(metric, end)).join(", ")}]`
    : toPlain(metric, mean);
}

const toPlain = (metric: string, value: number) => formatMetric(metric, value).replace(" %", "");
