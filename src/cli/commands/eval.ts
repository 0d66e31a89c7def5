// nfc eval: measures the perplexity of a checkpoint or of exported files on text, beside another model's with --against.
import { Command, Option } from "commander";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError } from "../../errors.ts";
import type { Evaluation } from "../../inference/score/evaluate.ts";
import { PRECISIONS } from "../../model/precision.ts";
import { formatPercent, formatThousands } from "../../report/render/format.ts";
import { alignTable } from "../../report/render/text.ts";
import { addDeviceFlag, requireDevice, resolveDevice } from "../device.ts";
import { openModel, withCheckpoint } from "../open-checkpoint.ts";
import {
  addCommonFlags,
  addSourceFlags,
  parsePositiveInteger,
  parsePrecisions,
  parseSeed,
  readNoiseFlags,
} from "../options.ts";
import type { Progress } from "../progress.ts";
import { type Context, note, printResult } from "../terminal.ts";
import { warnOfFewTokens } from "./eval/few-tokens.ts";
import type { EvalFlags, TextFlags } from "./eval/flags.ts";
import { addSkipFlag } from "./eval/skipped-lines.ts";

const HELP = `
Windows of --length tokens start every --stride; each token is scored once, as in Hugging Face's recipe for models of
fixed length. A smaller stride gives every token more context, and takes longer.
A folder with ONNX files only, or --precision, scores those: each against the fp32 file, or against --against.
KL is KL(against ‖ model), the mean of a token in nats; agreement is the share of equal most likely tokens.
Bits per byte of text compare models of different tokens. A model that nfc convert --vocab-from has cut is compared with
its source among the tokens that it has kept: the source's probabilities are those among them.

Examples:
  $ nfc eval out/nf --text valid.txt
  $ nfc eval out/nf --text valid.txt --against gpt2/ --stride 512
  $ nfc eval out/onnx --precision int8,q4 --text valid.txt
  $ nfc eval out/sst2 --task sst2 --data glue/SST-2
  $ nfc eval out/sst2-onnx --task sst2 --data glue/SST-2 --precision int8,q4
  $ nfc eval out/nf --text a.jsonl b.jsonl --field content --json`;

export function evalCommand(context: Context): Command {
  const command = new Command("eval")
    .argument("<model>", "folder, .safetensors file, shard index, or hf://owner/name[@revision]; or an export")
    .option("--text <files...>", "text to score, JSON records of it, or token ids (.bin); also as .gz")
    .option("--task <name>", "score a classifier on a task of GLUE instead: sst2, cola, …; with --data")
    .option("--data <folder>", "with --task: folder of the task's files")
    .option("--precision <names>", `exported files: some of ${PRECISIONS.join(",")} (default: all)`, parsePrecisions)
    .option("--against <model>", "another model, scored on the same tokens")
    .option("--length <tokens>", "window length (default: n_positions)", parsePositiveInteger)
    .option(
      "--stride <tokens>",
      "distance of the windows' starts (default: the length, no overlap)",
      parsePositiveInteger,
    )
    .option("--field <name>", "field of .jsonl lines that holds the text (default: text)")
    .addOption(new Option("--noise <mode>", "the model's noise").choices(["mean", "sample"]).default("mean"))
    .option("--seed <n>", "seed of --noise sample (default: 1)", parseSeed)
    .option("--no-record", "do not note the result in the model's nfc.json, where nfc report finds it")
    .addHelpText("after", HELP);
  return addSourceFlags(addCommonFlags(addDeviceFlag(addSkipFlag(command)))).action((model: string, flags: EvalFlags) =>
    run(context, model, flags),
  );
}

async function run(context: Context, model: string, given: EvalFlags): Promise<void> {
  const { task, text } = given;
  if (task !== undefined) {
    const { evalTask } = await import("./eval/task.ts");
    return evalTask(context, model, { ...given, task });
  }
  if (!text || given.data !== undefined || given.skipInvalid)
    throw new NfcError("usage", text ? "--data and --skip-invalid are for --task" : "nothing to score", {
      hint: "give --text FILE, or --task NAME --data FOLDER",
    });
  const flags = { ...given, text };
  await requireDevice(flags);
  const { hasOnnxFiles } = await import("../../inference/exported/exported-model.ts");
  if (flags.precision || (await hasOnnxFiles(model))) {
    const { evalExport } = await import("./eval/exported.ts");
    return evalExport(context, model, flags);
  }
  const { recordPerplexity } = await import("../../inference/score/record-perplexity.ts");
  await withCheckpoint(context, model, flags, async (checkpoint, progress) => {
    const against = flags.against ? await openModel(context, flags.against, flags, progress) : undefined;
    try {
      const result = await score(context, checkpoint, against, flags, progress);
      progress.stop();
      if (flags.record && flags.noise === "mean") {
        const recorded = await recordPerplexity(checkpoint, text, result, against);
        if (recorded) note(context.io, flags, `perplexity noted in ${recorded} (--no-record leaves it out)`);
        warnOfFewTokens(context.io, flags, result.tokens);
      }
      const json = { model, reference: against?.source, ...result };
      printResult(context.io, flags, json, () => formatResult(checkpoint, against, result));
    } finally {
      await against?.close();
    }
  });
}

async function score(
  context: Context,
  checkpoint: Checkpoint,
  against: Checkpoint | undefined,
  flags: TextFlags,
  progress: Progress,
): Promise<Evaluation> {
  const { evaluate } = await import("../../inference/score/evaluate.ts");
  const { text, field, length, stride, threads } = flags;
  const device = await resolveDevice(context, flags, checkpoint.config, "run");
  return evaluate(checkpoint, {
    ...{ text, field, against, length, stride, device, threads, signal: context.signal },
    noise: readNoiseFlags(flags),
    onProgress: progress.show,
  });
}

function formatResult(checkpoint: Checkpoint, against: Checkpoint | undefined, result: Evaluation): string {
  const rows = [["model", "perplexity", "nll"], formatRow(checkpoint.source, result)];
  if (against && result.against) rows.push(formatRow(nameAgainst(against, result.against), result.against));
  const lines = alignTable(rows, { align: "lr", rulesBefore: [1] });
  if (result.against) {
    const { kl, agreement } = result.against;
    lines.push(`KL ${kl.toFixed(4)} nats a token, agreement ${formatPercent(100 * agreement)}`);
  }
  const { tokens, windows, length, stride, tokensPerSecond } = result;
  lines.push(
    `${formatThousands(tokens)} tokens in ${formatThousands(windows)} windows of ${length}, stride ${stride}, ${formatThousands(tokensPerSecond)} tokens/s`,
    ...formatBits(result),
  );
  return lines.join("\n");
}

function nameAgainst({ source }: Checkpoint, { among }: NonNullable<Evaluation["against"]>): string {
  return among === undefined ? source : `${source} (among the ${formatThousands(among)} tokens)`;
}

/** A line; none for token ids. */
function formatBits({ bitsPerByte, against }: Evaluation): string[] {
  if (bitsPerByte === undefined) return [];
  const other = against?.bitsPerByte === undefined ? "" : `, the other model ${against.bitsPerByte.toFixed(4)}`;
  return [`${bitsPerByte.toFixed(4)} bits a byte${other}`];
}

function formatRow(source: string, { perplexity, nll }: { perplexity: number; nll: number }): string[] {
  return [source, perplexity.toFixed(3), nll.toFixed(4)];
}
