// nfc distill: a converted model learns from the model that it came from.

import { Command } from "commander";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError } from "../../errors.ts";
import { openModel, withCheckpoint } from "../open-checkpoint.ts";
import { addSourceFlags, type SourceFlags, toOpenOptions } from "../options.ts";
import type { Progress } from "../progress.ts";
import { type Context, note } from "../terminal.ts";
import { addSettingFlags, addTrainFlags, TEACHER_SETTINGS, type TrainFlags } from "./train/flags.ts";
import { runTraining } from "./train/text.ts";

interface DistillFlags extends Omit<TrainFlags, "data" | "output">, SourceFlags {
  data?: string[];
  output?: string;
  teacher?: string;
}

const HELP = `
The loss is (1 − kd)·NLL + kd·T²·KL(teacher ‖ student) + noise-kl·KL(noise ‖ N(0, 1)). The first steps learn the
teacher's attention alone, layer by layer. A step has batch-size · accumulate windows of length tokens.

While it runs, FOLDER.run holds the state beside the output. Ctrl-C saves; the same command with --resume goes on
exactly as if it had not stopped. The weights that were best on held-out text become the output.

Examples:
  $ nfc distill --data text.txt        # the model that nfc convert made here
  $ nfc distill out/nf --teacher gpt2/ --data train.txt -o out/nf-distilled
  $ nfc distill out/nf --teacher gpt2/ --data 'corpus/*.jsonl' --field content --valid valid.txt -o out/nf-distilled
  $ nfc distill out/nf --teacher gpt2/ --data train.txt -o out/nf-distilled --resume`;

export function distillCommand(context: Context): Command {
  const command = new Command("distill")
    .argument("[model]", "folder of the model to train (default: the one here that nfc convert made)")
    .option("--teacher <model>", "the model to learn from, of the same vocabulary (default: the model's source)");
  addSettingFlags(addTrainFlags(command, "distill"), TEACHER_SETTINGS).addHelpText("after", HELP);
  return addSourceFlags(command).action((model: string | undefined, flags: DistillFlags) => run(context, model, flags));
}

async function run(context: Context, named: string | undefined, flags: DistillFlags): Promise<void> {
  const { data } = flags;
  if (!data) throw new NfcError("usage", "nfc distill needs text to train on", { hint: "give it with --data FILE" });
  const { chooseConverted } = await import("../unnamed/choose.ts");
  const chosen =
    named === undefined ? await chooseConverted(data, flags.resume ?? false) : { model: named, remarks: [] };
  await withCheckpoint(context, chosen.model, flags, async (student, progress) => {
    const { nameOutput } = await import("../unnamed/names.ts");
    const { locateSource } = await import("../unnamed/source-teacher.ts");
    const output = flags.output ?? nameOutput(chosen.model, "distilled");
    const places = flags.teacher === undefined ? locateSource(student) : null;
    const told = [
      `trains ${chosen.model}`,
      ...(places ? [`its teacher is its source ${places[0]}`] : []),
      ...(flags.output === undefined ? [`writes ${output}`] : []),
    ];
    if (named === undefined || told.length > 1) note(context.io, flags, told.join(", "));
    for (const line of chosen.remarks) note(context.io, flags, line);
    const teacher = await openTeacher(context, flags, { student, places, progress });
    try {
      await runTraining(context, "distill", { ...flags, data, output }, { student, teacher }, progress);
    } finally {
      await teacher.close();
    }
  });
}

/** @param models `places` are where the student's source may be; null where --teacher names another model */
async function openTeacher(
  context: Context,
  flags: DistillFlags,
  { student, places, progress }: { student: Checkpoint; places: readonly string[] | null; progress: Progress },
): Promise<Checkpoint> {
  if (places === null) return openModel(context, flags.teacher as string, flags, progress);
  const { openSource } = await import("../unnamed/source-teacher.ts");
  const options = { ...toOpenOptions(flags), signal: context.signal, onProgress: progress.show };
  return openSource(student, places, options);
}
