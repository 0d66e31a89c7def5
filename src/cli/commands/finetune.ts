// nfc finetune: trains a model on text without a teacher, or a classifier for a task of GLUE.
import { Command } from "commander";
import { TASK_SETTINGS } from "../../tasks/train/settings.ts";
import { withCheckpoint } from "../open-checkpoint.ts";
import { addSourceFlags, parsePositiveNumber } from "../options.ts";
import type { Context } from "../terminal.ts";
import { addSkipFlag } from "./eval/skipped-lines.ts";
import {
  addSettingFlags,
  addTrainFlags,
  PLAIN_SETTINGS,
  refuseFlags,
  selectSettings,
  TEXT_FLAGS,
} from "./train/flags.ts";
import { type FinetuneTaskFlags, runTask } from "./train/task.ts";
import { runTraining } from "./train/text.ts";

/** Settings that training on text does not have, and those that training on a task does not have. */
const TASK_ONLY = selectSettings(TASK_SETTINGS, (name) => !(name in PLAIN_SETTINGS));
const TEXT_ONLY = selectSettings(PLAIN_SETTINGS, (name) => !(name in TASK_SETTINGS));
const TASK_FLAGS = ["distillFrom", "splitDev", "skipInvalid"];
const FOR_TASK = { reason: "is for --task", hint: "leave it out, or name a task" };
const FOR_TEXT = { reason: "is for training on text", hint: "leave it out with --task" };

const HELP = `
The loss is NLL + noise-kl·KL(noise ‖ N(0, 1)). Any model works: dense, or tied in any variant.
State, interruption and --resume are as in nfc distill.
With --task the model becomes a classifier (score.weight on the last token), trained on train.tsv of the folder --data
and scored on its dev.tsv; the weights that were best there are kept. Its defaults differ: batches of 32, texts of 128
tokens, a rate of 6.25e-5 at width 768, warmup as a share of the steps.

Examples:
  $ nfc finetune out/nf-distilled --data my.txt -o out/tuned
  $ nfc finetune gpt2/ --data my.txt --steps 500 --lr 5e-5 -o out/tuned
  $ nfc finetune out/nf-distilled --task sst2 --data glue/SST-2 -o out/sst2
  $ nfc finetune out/nf-distilled --task rte --data glue/RTE --distill-from out/base-rte -o out/rte`;

export function finetuneCommand(context: Context): Command {
  const command = new Command("finetune").argument(
    "<model>",
    "folder, .safetensors file, shard index, or hf://owner/name[@revision]",
  );
  addTrainFlags(command, "finetune", TASK_SETTINGS).addHelpText("after", HELP);
  addTaskFlags(command);
  return addSourceFlags(command).action((model: string, flags: FinetuneTaskFlags) => {
    const { task } = flags;
    if (task === undefined) refuseFlags(command, TASK_ONLY, TASK_FLAGS, FOR_TASK);
    else refuseFlags(command, TEXT_ONLY, TEXT_FLAGS, FOR_TEXT);
    return withCheckpoint(context, model, flags, (student, progress) =>
      task === undefined
        ? runTraining(context, "finetune", flags, { student, teacher: null }, progress)
        : runTask(context, { ...flags, task }, student, progress),
    );
  });
}

function addTaskFlags(command: Command): Command {
  command
    .option("--task <name>", "a task of GLUE: mrpc, cola, mnli, qqp, rte, qnli, sst2, stsb, wnli")
    .option("--distill-from <model>", "with --task: a classifier of the same task to learn from");
  addSettingFlags(command, TASK_ONLY, { prefix: "with --task: " }).option(
    "--split-dev <share>",
    "without a train.tsv: hold this share of dev.tsv out, train on the rest",
    parsePositiveNumber,
  );
  return addSkipFlag(command);
}
