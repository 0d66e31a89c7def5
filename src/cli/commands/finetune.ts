// nfc finetune: next-token training of any model, without a teacher.
import { Command } from "commander";
import type { Context } from "../context.ts";
import { withCheckpoint } from "../open.ts";
import { type SourceFlags, sourceFlags } from "../options.ts";
import { runTraining } from "../run-training.ts";
import { type TrainFlags, trainFlags } from "../train-flags.ts";

const HELP = `
The loss is NLL + noise-kl·KL(noise ‖ N(0, 1)). Any model works: dense, or tied in any variant.
State, interruption and --resume are as in nfc distill.

Examples:
  $ nfc finetune out/nf-distilled --data my.txt -o out/tuned
  $ nfc finetune gpt2/ --data my.txt --steps 500 --lr 5e-5 -o out/tuned`;

export function finetuneCommand(context: Context): Command {
  const command = new Command("finetune")
    .description("Train a model to predict the next token of your text.")
    .argument("<model>", "folder, .safetensors file, shard index, or hf://owner/name[@revision]");
  trainFlags(command, { steps: 300, lr: "0.0001" }).addHelpText("after", HELP);
  return sourceFlags(command).action((model: string, flags: TrainFlags & SourceFlags) =>
    withCheckpoint(context, model, flags, (student, progress) =>
      runTraining(context, "finetune", flags, { student, teacher: null }, progress),
    ),
  );
}
