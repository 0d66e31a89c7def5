// nfc distill: a converted model learns from the model that it came from.

import { Command } from "commander";
import { withCheckpoint } from "../open-checkpoint.ts";
import { addSourceFlags, type SourceFlags, toOpenOptions } from "../options.ts";
import type { Context } from "../terminal.ts";
import { addSettingFlags, addTrainFlags, TEACHER_SETTINGS, type TrainFlags } from "./train/flags.ts";
import { runTraining } from "./train/text.ts";

interface DistillFlags extends TrainFlags, SourceFlags {
  teacher: string;
}

const HELP = `
The loss is (1 − kd)·NLL + kd·T²·KL(teacher ‖ student) + noise-kl·KL(noise ‖ N(0, 1)). The first steps learn the
teacher's attention alone, layer by layer. A step has batch-size · accumulate windows of length tokens.

While it runs, FOLDER.run holds the state beside the output. Ctrl-C saves; the same command with --resume goes on
exactly as if it had not stopped. The weights that were best on held-out text become the output.

Examples:
  $ nfc distill out/nf --teacher gpt2/ --data train.txt -o out/nf-distilled
  $ nfc distill out/nf --teacher gpt2/ --data 'corpus/*.jsonl' --field content --valid valid.txt -o out/nf-distilled
  $ nfc distill out/nf --teacher gpt2/ --data train.txt -o out/nf-distilled --resume`;

export function distillCommand(context: Context): Command {
  const command = new Command("distill")
    .description("Train a converted model to predict what its teacher predicts.")
    .argument("<model>", "folder of the model to train, as nfc convert wrote it")
    .requiredOption("--teacher <model>", "the model to learn from, of the same vocabulary");
  addSettingFlags(addTrainFlags(command, "distill"), TEACHER_SETTINGS).addHelpText("after", HELP);
  return addSourceFlags(command).action((model: string, flags: DistillFlags) => run(context, model, flags));
}

async function run(context: Context, model: string, flags: DistillFlags): Promise<void> {
  const { openCheckpoint } = await import("../../checkpoint/checkpoint.ts");
  await withCheckpoint(context, model, flags, async (student, progress) => {
    const teacher = await openCheckpoint(flags.teacher, toOpenOptions(flags));
    try {
      await runTraining(context, "distill", flags, { student, teacher }, progress);
    } finally {
      await teacher.close();
    }
  });
}
