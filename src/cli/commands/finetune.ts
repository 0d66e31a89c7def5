// nfc finetune: next-token training of any model without a teacher, or a classifier for a task of GLUE.
import { Command } from "commander";
import { NfcError } from "../../errors.ts";
import { withCheckpoint } from "../open.ts";
import {
  addSourceFlags,
  parseNonNegativeInteger,
  parseNonNegativeNumber,
  parsePositiveInteger,
  parsePositiveNumber,
} from "../options.ts";
import { type FinetuneTaskFlags, runTask } from "../run-task.ts";
import { runTraining } from "../run-training.ts";
import { addSkipFlag } from "../skipped-lines.ts";
import type { Context } from "../terminal.ts";
import { addTrainFlags } from "../train-flags.ts";

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
  const command = new Command("finetune")
    .description("Train a model on your text, or a classifier on a task of GLUE.")
    .argument("<model>", "folder, .safetensors file, shard index, or hf://owner/name[@revision]");
  addTrainFlags(command, { steps: 300, lr: "0.0001", tasks: true }).addHelpText("after", HELP);
  addTaskFlags(command);
  return addSourceFlags(command).action((model: string, flags: FinetuneTaskFlags) => {
    const { task } = flags;
    if (task === undefined) refuseTaskFlags(flags);
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
    .option(
      "--epochs <n>",
      "with --task: times through its examples (default: 3; small tasks 10)",
      parsePositiveInteger,
    )
    .option(
      "--patience <n>",
      "with --task: evaluations without a better score, 0: any (default: 6)",
      parseNonNegativeInteger,
    )
    .option("--distill-from <model>", "with --task: a classifier of the same task to learn from")
    .option("--kd <share>", "share of that teacher in the loss (default: 0.5)", parseNonNegativeNumber)
    .option("--temperature <T>", "temperature of its distribution (default: 1)", parsePositiveNumber)
    .option(
      "--split-dev <share>",
      "without a train.tsv: hold this share of dev.tsv out, train on the rest",
      parsePositiveNumber,
    );
  return addSkipFlag(command);
}

function refuseTaskFlags(flags: FinetuneTaskFlags): void {
  const names = {
    epochs: "--epochs",
    patience: "--patience",
    distillFrom: "--distill-from",
    kd: "--kd",
    temperature: "--temperature",
    splitDev: "--split-dev",
    skipInvalid: "--skip-invalid",
  } as const;
  const given = Object.entries(names).find(([key]) => flags[key as keyof typeof names] !== undefined);
  if (given) throw new NfcError("usage", `${given[1]} is for --task`, { hint: "leave it out, or name a task" });
  if (!Number.isInteger(flags.warmup ?? 0))
    throw new NfcError("usage", `--warmup ${flags.warmup} is no number of steps`, {
      hint: "with --task it is a share",
    });
}
