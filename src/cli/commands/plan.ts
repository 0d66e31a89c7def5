// nfc plan: measures what cuts along each axis cost, alone and together, and prints the frontier of size and perplexity.
import { Command } from "commander";
import type { Plan } from "../../convert/plan/plan-file.ts";
import { NfcError } from "../../errors.ts";
import { resolveTarget } from "../../io/output-guard.ts";
import { formatCommand } from "../../io/printable.ts";
import { renderText } from "../../report/render/text.ts";
import { addDeviceFlag, type DeviceFlags, requireDevice, resolveDevice } from "../device.ts";
import { withCheckpoint } from "../open-checkpoint.ts";
import {
  addCommonFlags,
  addSourceFlags,
  type CommonFlags,
  parsePositiveInteger,
  type SourceFlags,
} from "../options.ts";
import { type Context, note, printResult } from "../terminal.ts";
import { parseAxes, parseShare } from "./plan/values.ts";
import { openPage, type PageFlags, refuseExistingPage, writePageFile } from "./report/page.ts";

interface PlanFlags extends CommonFlags, SourceFlags, PageFlags, DeviceFlags {
  calibration?: [string, ...string[]];
  text?: [string, ...string[]];
  calibrationTokens?: number;
  tokens?: number;
  field?: string;
  vocabFrom?: [string, ...string[]];
  axes?: string[];
  floor?: number;
  output: string;
}

const HELP = `
Each axis is cut alone at several strengths, then all together along a path: each step takes the cut with the least
measured loss for each parameter that it saves. The models are made in memory and measured on text that the cuts were
not fitted to, against the source: perplexity, and KL(source ‖ model), the mean of a token in nats.
--vocab-from adds the axis vocab: the vocabulary is cut to tokens that this text uses, which makes a model for text of
its kind. (--axes with vocab takes the calibration text.) Losses are then for a token of the source, on the same bytes.
Measurements are kept in the plan file as they are made: the same command goes on after an interruption.

Examples:
  $ nfc plan gpt2/ --calibration text.txt
  $ nfc plan gpt2/ --calibration train.txt --text valid.txt -o gpt2.plan.json --html plan.html
  $ nfc plan gpt2/ --calibration text.txt --axes mlp,layers --floor 60%
  $ nfc plan gpt2/ --calibration notes.txt --vocab-from notes.txt
  $ nfc convert gpt2/ --plan plan.json --at 3 -o out/small
  $ nfc convert gpt2/ --plan plan.json --target 70% -o out/small`;

export function planCommand(context: Context): Command {
  const command = new Command("plan")
    .argument("<model>", "folder, .safetensors file, shard index, or hf://owner/name[@revision]")
    .option("--calibration <files...>", "text (or JSON, or token ids as .bin) that cuts are fitted to; needed")
    .option("--text <files...>", "text to measure on (default: other windows of the calibration files)")
    .option("--calibration-tokens <n>", "tokens to fit to (default: 8192)", parsePositiveInteger)
    .option("--tokens <n>", "tokens to measure on (default: 16384)", parsePositiveInteger)
    .option("--field <name>", "field of .jsonl lines that holds the text (default: text)")
    .option("--axes <names>", "axes to cut, such as mlp,layers (default: all but vocab)", parseAxes)
    .option("--vocab-from <files...>", "cut the vocabulary too, to the tokens that this text uses")
    .option("--floor <share>", "share of the parameters at which the path ends (default: 40%)", parseShare)
    .option("-o, --output <file>", "plan file to write, or to go on from", "plan.json")
    .option("--html <file>", "write the plan as one self-contained page too")
    .option("--open", "open that page in the browser")
    .option("-f, --force", "replace the plan of another model or text, and an existing page")
    .addHelpText("after", HELP);
  return addSourceFlags(addCommonFlags(addDeviceFlag(command))).action((model: string, flags: PlanFlags) =>
    run(context, model, flags),
  );
}

async function run(context: Context, model: string, flags: PlanFlags): Promise<void> {
  const { calibration, html } = flags;
  if (!calibration)
    throw new NfcError("usage", "a plan needs text to fit cuts to and to measure on", {
      hint: "give --calibration FILE",
    });
  if (flags.open && html === undefined)
    throw new NfcError("usage", "--open opens the page of --html", { hint: "add --html plan.html" });
  const output = await resolveTarget(flags.output);
  if (html !== undefined && (await resolveTarget(html)) === output)
    throw new NfcError("usage", `${html}: the plan and its page cannot be one file`, {
      hint: "give -o and --html different names",
    });
  await refuseExistingPage(flags);
  await requireDevice(flags);
  const plan = await makePlan(context, model, { ...flags, calibration });
  if (html !== undefined) {
    const { renderPlanPage } = await import("../../convert/plan/plan-page.ts");
    await writePageFile(html, renderPlanPage(plan), flags);
  }
  const { makePlanBlocks } = await import("../../convert/plan/plan-blocks.ts");
  printResult(context.io, flags, plan, () => renderText(makePlanBlocks(plan)));
  note(context.io, flags, `the plan is in ${flags.output}${html === undefined ? "" : `, its page in ${html}`}`);
  if (plan.steps.length > 0) note(context.io, flags, `apply a step with: ${nameConversion(model, plan, flags.output)}`);
  if (html !== undefined) openPage(context, html, flags);
}

async function makePlan(
  context: Context,
  model: string,
  flags: PlanFlags & { calibration: [string, ...string[]] },
): Promise<Plan> {
  const { planModel } = await import("../../convert/plan/plan-model.ts");
  const { AXES, VOCAB_AXIS } = await import("../../convert/plan/axes.ts");
  const { calibration, text, calibrationTokens, tokens, field, floor, force, threads } = flags;
  const vocabularyText = flags.vocabFrom ?? (flags.axes?.includes(VOCAB_AXIS) ? calibration : undefined);
  const axes = AXES.filter(({ name }) => name === VOCAB_AXIS || (flags.axes?.includes(name) ?? true));
  return withCheckpoint(context, model, flags, async (checkpoint, progress) =>
    planModel(checkpoint, {
      ...{ calibration, heldOut: text, calibrationTokens, heldOutTokens: tokens, field, vocabularyText },
      ...{ floor, force, threads, axes },
      file: flags.output,
      device: await resolveDevice(context, flags, checkpoint.config, "run"),
      onProgress: progress.show,
      signal: context.signal,
    }),
  );
}

/** The command that makes the model of a step in the middle of the path. */
function nameConversion(model: string, { steps }: Plan, file: string): string {
  const step = Math.ceil(steps.length / 2);
  return formatCommand(["nfc", "convert", model, "--plan", file, "--at", String(step)]);
}
