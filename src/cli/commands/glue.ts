// nfc glue: makes the whole table of models, tasks and seeds, beside the paper's; it can be interrupted.
import { Command, Option } from "commander";
import { NfcError } from "../../errors.ts";
import type { Device } from "../../graph/devices.ts";
import type { Table } from "../../report/render/blocks.ts";
import { formatMetric, formatThousands } from "../../report/render/format.ts";
import { renderMarkdown } from "../../report/render/markdown.ts";
import { renderText } from "../../report/render/text.ts";
import type { GlueEntry, GlueRow } from "../../tasks/glue/glue.ts";
import type { Task } from "../../tasks/glue-tasks.ts";
import { TASK_SETTINGS } from "../../tasks/train/settings.ts";
import { addDeviceFlag, type DeviceFlags, requireDevice, resolveDevice } from "../device.ts";
import { withCheckpoint } from "../open-checkpoint.ts";
import { addCommonFlags, type CommonFlags, parsePositiveInteger, parsePositiveNumber } from "../options.ts";
import { Progress } from "../progress.ts";
import type { Context } from "../terminal.ts";
import { printResult } from "../terminal.ts";
import { addSkipFlag, SkippedLines } from "./eval/skipped-lines.ts";
import { addSettingFlags, readSettings } from "./train/flags.ts";

interface GlueFlags extends CommonFlags, DeviceFlags {
  models: string[];
  tasks: string[];
  data: string;
  output: string;
  seeds: number;
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

const { epochs, lr, batchSize, length, devicePrecision } = TASK_SETTINGS;
/** Settings that all cells share. */
const CELL_SETTINGS = { epochs, lr, batchSize, length, devicePrecision };

const parseList = (text: string) =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");

export function glueCommand(context: Context): Command {
  const command = new Command("glue")
    .requiredOption("--models <list>", "model folders, separated by commas", parseList)
    .requiredOption("--tasks <list>", "of mrpc, cola, mnli, qqp, rte, qnli, sst2, stsb, wnli", parseList)
    .requiredOption("--data <folder>", "holds a folder for each task: MRPC, CoLA, SST-2, …")
    .option("-o, --output <folder>", "folder of the finished cells", "out/glue")
    .option("--seeds <n>", "seeds of each cell", parsePositiveInteger, 1);
  addSettingFlags(command, CELL_SETTINGS)
    .option("--split-dev <share>", "for tasks without a train.tsv: hold this share of dev.tsv out", parsePositiveNumber)
    .addOption(new Option("--format <name>", "of the table").choices(["text", "markdown"]).default("text"))
    .option("-f, --force", "make cells of other settings again")
    .addHelpText("after", HELP);
  return addCommonFlags(addDeviceFlag(addSkipFlag(command))).action((flags: GlueFlags) => run(context, flags));
}

async function run(context: Context, flags: GlueFlags): Promise<void> {
  const { makeGlueTable } = await import("../../tasks/glue/glue.ts");
  const { findTask } = await import("../../tasks/glue-tasks.ts");
  const { models, data, output, seeds, splitDev, threads, force } = flags;
  if (models.length === 0 || flags.tasks.length === 0)
    throw new NfcError("usage", "nothing to do", { hint: "name models and tasks, separated by commas" });
  const tasks = [...new Set(flags.tasks.map(findTask))];
  await requireDevice(flags);
  const device = await chooseFor(models[0] as string, context, flags);
  const skipped = new SkippedLines(flags);
  const progress = await Progress.open(context.io, flags);
  try {
    const rows = await makeGlueTable({
      ...{ models, tasks, data, output, seeds, splitDev, force },
      settings: readSettings(CELL_SETTINGS, flags),
      ...skipped.reading,
      session: { device, threads },
      onProgress: progress.show,
      signal: context.signal,
    }).catch((error: unknown) => {
      throw explainResumption(error, output);
    });
    progress.stop();
    skipped.tell(context.io, flags);
    const table = await makeTable(rows, tasks);
    const text = () => (flags.format === "markdown" ? renderMarkdown([table]) : renderText([table]));
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

/** The models of a table are of about one size: the first one decides. */
async function chooseFor(model: string, context: Context, flags: GlueFlags): Promise<Device> {
  if (flags.device !== "auto") return flags.device;
  return withCheckpoint(context, model, flags, ({ config }) => resolveDevice(context, flags, config, "train"));
}

/** Says how an interrupted table goes on: its finished cells are kept, and it needs no --resume. */
function explainResumption(error: unknown, output: string): unknown {
  if (!(error instanceof NfcError) || error.code !== "aborted") return error;
  return new NfcError("aborted", `interrupted; what is finished is kept in ${output}`, {
    hint: "the same command goes on from there",
    cause: error,
  });
}

async function loadPaperRows() {
  return (await import("../../tasks/glue/paper.ts")).PAPER_ROWS;
}

async function makeTable(rows: readonly GlueRow[], tasks: readonly Task[]): Promise<Table> {
  const papers = await loadPaperRows();
  return {
    kind: "table",
    heading: ["model", "parameters", ...tasks.map(({ title }) => title)],
    rows: [
      ...rows.map(({ model, parameters, entries }) => [
        { code: model },
        formatThousands(parameters),
        ...entries.map((entry, i) => formatScore(entry, tasks[i] as Task)),
      ]),
      ...papers.map(({ model, scores }) => [
        { code: `${model} (paper)` },
        "",
        ...tasks.map(({ name, metrics: [metric] }) =>
          scores[name] === undefined ? "" : toPlain(metric, scores[name]),
        ),
      ]),
    ],
    align: "lr",
    footRows: papers.length,
  };
}

/** "63.2 ± 1.1", or with one seed "63.2 [61.0, 65.2]". */
function formatScore({ mean, spread, cells }: GlueEntry, { metrics: [metric] }: Task): string {
  if (Number.isNaN(mean)) return "undefined";
  if (spread !== null) return `${toPlain(metric, mean)} ± ${toPlain(metric, spread)}`;
  const interval = cells[0]?.interval;
  return interval
    ? `${toPlain(metric, mean)} [${interval.map((end) => toPlain(metric, end)).join(", ")}]`
    : toPlain(metric, mean);
}

const toPlain = (metric: string, value: number) => formatMetric(metric, value).replace(" %", "");
