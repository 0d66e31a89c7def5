// The flags of nfc convert that take the cuts from a plan.
import type { Command } from "commander";
import type { Checkpoint } from "../../../checkpoint/checkpoint.ts";
import type { VocabularySettings } from "../../../convert/cuts/vocabulary-choice.ts";
import type { AppliedPlan, PlanChoice } from "../../../convert/plan/apply-plan.ts";
import { describeCuts, hasVocabularyAxis, VOCAB_AXIS } from "../../../convert/plan/axes.ts";
import { formatError, formatLarge, formatLoss } from "../../../convert/plan/plan-blocks.ts";
import type { Target } from "../../../convert/plan/target.ts";
import { NfcError } from "../../../errors.ts";
import type { Device } from "../../../graph/devices.ts";
import { checkTarget, contains, resolveTarget } from "../../../io/output-guard.ts";
import type { LongCall } from "../../../progress.ts";
import { formatThousands } from "../../../report/render/format.ts";
import { parsePositiveInteger } from "../../options.ts";
import { parseTarget } from "../plan/values.ts";
import { toVocabularySettings, type VocabularyFlags } from "./vocabulary.ts";

export type { PlanChoice };

export interface ConvertPlanFlags {
  plan?: string;
  at?: number;
  target?: Target;
}

/** Flags that say what is cut, which a plan says too; a target also says how many tokens stay. */
const CUTTING = ["variant", "tie", "noiseStd", "qkRank", "voRank", "layers", "mlp", "repair"];
const DEFAULT_PLAN = "plan.json";

export function addPlanFlags(command: Command): Command {
  return command
    .option("--plan <file>", "plan to take the cuts from, with --at or --target (default: plan.json)")
    .option("--at <step>", "the step of the plan to apply", parsePositiveInteger)
    .option("--target <size or loss>", "70%, 80MB, 20MB@int8 or +1%; makes the plan if need be", parseTarget);
}

export const PLAN_HELP = `
Plans: --at applies a step of a plan that nfc plan made, --target the first one that is small enough: 70% of the
parameters, 80MB of fp32 ONNX, 15MB@q4; or the smallest model whose perplexity is at most 1 % above the source's: +1%.
With --target and --calibration, the plan is made first where there is none; with --vocab-from too, it cuts the
vocabulary as well.`;

/** What a plan is asked for; null where none is. @throws NfcError "usage" for flags that do not go together */
export function readPlanChoice({ plan, at, target }: ConvertPlanFlags, command: Command): PlanChoice | null {
  if (plan === undefined && at === undefined && target === undefined) return null;
  if ((at === undefined) === (target === undefined))
    throw new NfcError("usage", at === undefined ? "--plan needs a step" : "--at and --target exclude each other", {
      hint: "give --at N, or --target such as 70%",
    });
  const cutting = target === undefined ? CUTTING : [...CUTTING, "vocabSize"];
  const given = command.options.find((option) => {
    const name = option.attributeName();
    const named = option.negate === (command.getOptionValue(name) === false); // --no-repair is not --repair
    return cutting.includes(name) && named && command.getOptionValueSource(name) === "cli";
  });
  if (given)
    throw new NfcError("usage", `${given.long} does not go with a plan, which says what is cut`, {
      hint: "leave one of them out",
    });
  return at === undefined ? { target: target as Target } : { at };
}

interface ApplyFlags extends ConvertPlanFlags, VocabularyFlags {
  calibration?: string[];
  calibrationTokens?: number;
  device: Device;
  threads?: number;
  output: string;
  force?: boolean;
}

/** The step's options, which replace those of the flags. */
export async function applyPlanFlags(
  checkpoint: Checkpoint,
  choice: PlanChoice,
  flags: ApplyFlags,
  call: LongCall,
): Promise<AppliedPlan> {
  const { applyPlan } = await import("../../../convert/plan/apply-plan.ts");
  const { plan: file = DEFAULT_PLAN, calibration, calibrationTokens, field, device, threads, vocabFrom } = flags;
  // Before minutes of measuring.
  const output = await resolveTarget(flags.output);
  await checkTarget(output, flags.output, flags.force ?? false);
  if (contains(output, await resolveTarget(file)))
    throw new NfcError("usage", `${file}: the plan cannot lie in the output folder, which appears as a whole`, {
      hint: "name another output, or another file with --plan",
    });
  const [first, ...others] = calibration ?? [];
  const files = first === undefined ? undefined : ([first, ...others] as const);
  const applied = await applyPlan(checkpoint, {
    ...{ file, choice, calibration: files, calibrationTokens, field, device, threads, vocabularyText: vocabFrom },
    ...call,
  });
  if (flags.vocabSize !== undefined && hasVocabularyAxis(applied.plan))
    throw new NfcError("usage", `--vocab-size does not go with ${file}, which says how many tokens stay`, {
      hint: "leave one of them out",
    });
  return applied;
}

/** The vocabulary of the step, or where the plan does not cut it, that of the flags. */
export function chooseVocabulary(applied: AppliedPlan | null, flags: VocabularyFlags): VocabularySettings | undefined {
  return applied && hasVocabularyAxis(applied.plan) ? applied.cuts.vocabulary : toVocabularySettings(flags);
}

/** A remark where other tokens are asked for than those that the cuts of the plan are fitted to. */
export function listUnusedText(
  { calibrationTokens: asked }: { calibrationTokens?: number },
  { plan, cuts }: AppliedPlan,
): string[] {
  const { tokens } = plan.calibration;
  if (asked === undefined || asked === cuts.calibrationTokens) return [];
  return [
    `cuts are fitted to the ${formatThousands(tokens)} tokens of the plan: --calibration-tokens is for a new one`,
  ];
}

/** What the plan expects of the model. */
export function describeApplied({ step, weakened, measurement, origin, plan }: AppliedPlan): string {
  const { cuts, perplexity } = measurement;
  const source = plan.measurements[0] ?? measurement;
  const sure = formatError(measurement, source);
  const text = `${formatThousands(plan.heldOut.tokens)} tokens of ${plan.heldOut.files.join(", ")}`;
  const place = `step ${step} of ${origin.file}${weakened ? ", its last cut as weak as the target allows" : ""}`;
  const unit = cuts[VOCAB_AXIS] === undefined ? "" : " for a token of the source";
  return `${place}: ${describeCuts(cuts)}; expected perplexity${unit} ${formatLarge(perplexity, 3)} (${formatLoss(perplexity / source.perplexity - 1)} ± ${sure}) on ${text}`;
}
