// The axes along which a plan cuts a model, each one row: the values to try, and the settings of a conversion that cut so.
import type { ModelConfig } from "../../model/config.ts";
import type { CutSettings } from "../make-smaller.ts";
import type { Cuts } from "./search.ts";

export interface Axis {
  /** The name in plan files and tables. */
  name: string;
  /** What may be left of the axis, the weakest cut first; none where the model has nothing to cut. */
  listValues(config: ModelConfig): number[];
  /** The settings with this axis cut too. */
  cut(settings: CutSettings, value: number): CutSettings;
}

export const AXES: readonly Axis[] = [];

/** The settings of a conversion that makes these cuts. @throws Error for an axis that is not in the table */
export function toCutSettings(cuts: Cuts, axes: readonly Axis[] = AXES): CutSettings {
  return Object.entries(cuts).reduce((settings, [name, value]) => findAxis(name, axes).cut(settings, value), {});
}

/** "qk-rank 16, mlp 768"; "the source" for the whole model. */
export function describeCuts(cuts: Cuts): string {
  const parts = Object.entries(cuts).map(([name, value]) => `${name} ${value}`);
  return parts.length === 0 ? "the source" : parts.join(", ");
}

function findAxis(name: string, axes: readonly Axis[]): Axis {
  const axis = axes.find((each) => each.name === name);
  if (!axis) throw new Error(`${name} is no axis of a plan`);
  return axis;
}
