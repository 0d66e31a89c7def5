// nfc pretrain: trains a model of any variant from random weights.
import { Command, Option } from "commander";
import { VARIANTS, type Variant } from "../../model/variants.ts";
import { parsePositiveInteger } from "../options.ts";
import { Progress } from "../progress.ts";
import type { Context } from "../terminal.ts";
import { addTrainFlags, type TrainFlags } from "./train/flags.ts";
import { runTraining } from "./train/text.ts";

interface PretrainFlags extends TrainFlags {
  config: string;
  tokenizer?: string;
  variant?: Variant;
  qkRank?: number;
  seed?: number;
}

const HELP = `
The config is a Hugging Face config.json, of which n_layer, n_head, n_embd and n_positions are needed. The tokenizer is
the one beside it, or --tokenizer's, or GPT-2's; vocab_size is the tokenizer's unless the config says otherwise.
Equal --seed, --steps and --data make variants comparable: they see the same windows in the same order.
State, interruption and --resume are as in nfc distill.

Examples:
  $ nfc pretrain --config small.json --variant symmetric --data train.txt -o out/scratch
  $ nfc pretrain --config small.json --tokenizer gpt2/ --variant dense --data train.bin --steps 5000 -o out/dense`;

export function pretrainCommand(context: Context): Command {
  const command = new Command("pretrain")
    .requiredOption("--config <file>", "config.json of the model")
    .option("--tokenizer <folder>", "folder with the tokenizer files (default: the config's)")
    .addOption(
      new Option("--variant <name>", "attention variant (default: the config's, else dense)").choices(VARIANTS),
    )
    .option(
      "--qk-rank <n>",
      "numbers of q and of k in each head of a low-rank model (default: the config's, else half of a head)",
      parsePositiveInteger,
    );
  addTrainFlags(command, "pretrain").addHelpText("after", HELP);
  return command.action((flags: PretrainFlags) => run(context, flags));
}

async function run(context: Context, flags: PretrainFlags): Promise<void> {
  const { makeFreshModel } = await import("../../distill/fresh-model.ts");
  const { config, tokenizer, variant, qkRank, seed = 0 } = flags;
  const progress = await Progress.open(context.io, flags);
  try {
    const student = await makeFreshModel({ config, seed, variant, qkRank, tokenizerFolder: tokenizer });
    await runTraining(context, "pretrain", flags, { student, teacher: null }, progress);
  } finally {
    progress.stop();
  }
}
