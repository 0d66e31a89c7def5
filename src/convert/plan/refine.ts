// Between two steps of a plan: the weaker cut that still meets a target of size.
import type { ModelConfig } from "../../model/config.ts";
import { findAxis } from "./axes.ts";
import type { Plan, PlanMeasurement } from "./plan-file.ts";
import type { Cuts } from "./search.ts";
import { compareSize, listSteps, type SizeTarget } from "./target.ts";

/**
 * The cuts of a step, the last of them as weak as the target allows. Sizes fall in proportion to what is left of an axis,
 * up to the rounding of ranks, so that a few candidates are enough: the weakest that should do comes first. Empty where
 * the step itself is the weakest.
 */
export function listWeakerCuts(plan: Plan, target: SizeTarget, step: number, config: ModelConfig): Cuts[] {
  const models = listSteps(plan);
  const [before, chosen] = [models[step - 1], models[step]] as [PlanMeasurement, PlanMeasurement];
  const { axis: name, value } = plan.steps[step - 1] as Plan["steps"][number];
  const axis = findAxis(name);
  const from = before.cuts[name] ?? axis.whole(config);
  const [large, small] = [before, chosen].map((model) => compareSize(target, model, models[0] as PlanMeasurement));
  if (!large || !small || large <= small) return [];
  const share = (large - 1) / (large - small); // of the step that is needed
  const weakest = axis.bounded ? plan.axes.find((each) => each.name === name)?.values[0] : undefined;
  const wanted = Math.min(from - share * (from - value), weakest ?? from);
  const first = Math.floor(wanted / axis.grain) * axis.grain;
  const values = [first, first - axis.grain].filter((each) => each > value && each < from);
  return values.map((each) => ({ ...chosen.cuts, [name]: each }));
}
