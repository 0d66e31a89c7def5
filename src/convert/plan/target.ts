// Targets of a conversion by a plan: a share of the parameters, bytes of a file, or a loss; and the step that meets one.
import { NfcError } from "../../errors.ts";
import { formatBytes, formatThousands } from "../../report/render/format.ts";
import type { Plan, PlanMeasurement } from "./plan-file.ts";

/** The precisions whose bytes a plan knows. */
export const SIZED_PRECISIONS = ["fp32", "int8", "q4"] as const;
type SizedPrecision = (typeof SIZED_PRECISIONS)[number];

export type Target =
  /** At most this share of the source's parameters. */
  | { kind: "parameters"; share: number }
  /** At most so many bytes of the ONNX file of that precision. */
  | { kind: "bytes"; bytes: number; precision: SizedPrecision }
  /** A perplexity of at most 1 + share times the source's, before any training. */
  | { kind: "loss"; share: number };

export type SizeTarget = Exclude<Target, { kind: "loss" }>;

/** A step of a plan, numbered from 1; step 0 is the source. */
export interface ChosenStep {
  step: number;
  measurement: PlanMeasurement;
}

/** The source and the models of the path, by their number. */
export function listSteps({ measurements, steps }: Pick<Plan, "measurements" | "steps">): PlanMeasurement[] {
  return [0, ...steps.map(({ measurement }) => measurement)].map((place) => measurements[place] as PlanMeasurement);
}

/** Whether a model is as small as the target wants; for a loss, whether it loses more than that. */
export function reachesTarget(target: Target, measurement: PlanMeasurement, source: PlanMeasurement): boolean {
  if (target.kind === "loss") return measurement.perplexity > (1 + target.share) * source.perplexity;
  const size = compareSize(target, measurement, source);
  return size !== null && size <= 1;
}

/** A model's size as a share of what the target allows; null where its precision does not suit the model. */
export function compareSize(target: SizeTarget, measurement: PlanMeasurement, source: PlanMeasurement): number | null {
  if (target.kind === "parameters") return measurement.parameters / (target.share * source.parameters);
  const bytes = measurement.bytes[target.precision];
  return bytes === null ? null : bytes / target.bytes;
}

/** Whether a step of the plan is small enough; for a loss, whether the path goes beyond it, so that none is left out. */
export function meetsTarget(plan: Plan, target: Target): boolean {
  const models = listSteps(plan);
  return models.some((model) => reachesTarget(target, model, models[0] as PlanMeasurement));
}

/**
 * The first step that is small enough; for a loss, the smallest model that loses no more.
 * @throws NfcError "usage" where no step meets the target: it says how near the plan comes
 */
export function chooseStep(plan: Plan, target: Target, file: string): ChosenStep {
  const models = listSteps(plan);
  const source = models[0] as PlanMeasurement;
  if (target.kind === "loss") return chooseByLoss(models, target.share, file);
  const step = models.findIndex((model) => reachesTarget(target, model, source));
  if (step > 0) return { step, measurement: models[step] as PlanMeasurement };
  if (step === 0)
    throw new NfcError("usage", `the source meets ${describeTarget(target)} already`, { hint: "ask for less" });
  const [last, least] = [models.length - 1, models.at(-1) as PlanMeasurement];
  const unfinished = plan.complete ? "" : `, which is unfinished; the nfc plan command that began it goes on`;
  throw new NfcError("usage", `${describeTarget(target)} cannot be met`, {
    hint: `the least of ${file} is step ${last}, ${describeSize(target, least, source)}${unfinished}`,
  });
}

function chooseByLoss(models: readonly PlanMeasurement[], share: number, file: string): ChosenStep {
  const source = models[0] as PlanMeasurement;
  const step = models.findLastIndex(({ perplexity }) => perplexity <= (1 + share) * source.perplexity);
  const measurement = models[step];
  if (step > 0 && measurement) return { step, measurement };
  const losses = models.slice(1).map(({ perplexity }) => perplexity / source.perplexity - 1);
  const least = Math.min(...losses);
  throw new NfcError("usage", `a loss of ${formatShare(share)} cannot be met`, {
    hint:
      losses.length === 0
        ? `${file} has no steps`
        : `the least of ${file} is step ${losses.indexOf(least) + 1}, ${formatShare(least)}`,
  });
}

/** @throws NfcError "usage" for a number that the plan does not have */
export function takeStep(plan: Plan, step: number, file: string): ChosenStep {
  const measurement = listSteps(plan)[step];
  if (step > 0 && measurement) return { step, measurement };
  const last = plan.steps.length;
  const unfinished = plan.complete ? "" : "; it is unfinished, and the nfc plan command that began it goes on";
  throw new NfcError("usage", `${file}: has no step ${step}`, {
    hint: `${last === 0 ? "it has no steps yet" : `choose one from 1 to ${last}`}${unfinished}`,
  });
}

function describeTarget(target: Target): string {
  if (target.kind === "parameters") return `${round(100 * target.share)} % of the parameters`;
  if (target.kind === "loss") return `a loss of ${formatShare(target.share)}`;
  return `${formatBytes(target.bytes)} in ${target.precision}`;
}

function describeSize(target: Target, model: PlanMeasurement, source: PlanMeasurement): string {
  const share = `${round((100 * model.parameters) / source.parameters)} %`;
  if (target.kind !== "bytes") return `${formatThousands(model.parameters)} parameters, ${share}`;
  const bytes = model.bytes[target.precision];
  return bytes === null ? `which ${target.precision} does not suit` : `${formatBytes(bytes)} in ${target.precision}`;
}

const round = (value: number) => Number(value.toFixed(2));
const formatShare = (share: number) => `${share >= 0 ? "+" : ""}${round(100 * share)} %`;
