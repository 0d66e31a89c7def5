// What happens to each parameter apart from the others, as graphs: AdamW, the sum of gradients, the mean of values.
import type { Value } from "../../graph/ir.ts";
import { add, cast, div, mul, single, sub, where } from "../../graph/ops.ts";
import { isNoiseParameter } from "../../model/parameters.ts";
import { isDecayed, type MoveSettings, type StatePart } from "../step/parameter-state.ts";

/** The arrays of a parameter on the device; `total` is `gradient` itself where none are accumulated. */
export type GroupPart = Exclude<StatePart, "grid"> | "gradient" | "total";

/** Makes new arrays of a parameter from its present ones. */
export interface GroupBuilder {
  /** By which a session of it is known. */
  kind: string;
  /** The arrays that it reads. */
  reads: readonly GroupPart[];
  /** What tells apart the parameters that it does not treat alike; those with the same may be one array. */
  treatment(parameter: Member): string;
  /** The arrays that it makes, of parameters of one treatment. @param scalar gives an input of shape [] */
  build(
    treatment: string,
    of: (part: GroupPart) => Value,
    scalar: (name: string) => Value,
  ): Partial<Record<GroupPart, Value>>;
}

export interface Member {
  name: string;
  shape: readonly number[];
}

/** a + w·(b − a) */
const mix = (a: Value, b: Value, w: Value) => add(a, mul(w, sub(b, a)));
const sqrt = (x: Value) => single({ op: "Sqrt", inputs: [x], dtype: x.dtype, shape: x.shape });

/**
 * AdamW as the host's kernel takes it (kernels.as.ts): with g = scale·total,
 * m ← m + (1 − β1)(g − m), v ← v + (1 − β2)(g² − v), p ← p − (lr·decay·p + lr·√bias2/bias1·m / (√v + ε·√bias2)).
 */
export const buildMove: GroupBuilder = {
  kind: "move",
  reads: ["value", "moment1", "moment2", "total"],
  treatment: ({ name, shape }) => (isNoiseParameter(name) ? "noise" : isDecayed(name, shape) ? "decayed" : "kept"),
  build(treatment, of, scalar) {
    const p = of("value");
    const g = mul(of("total"), scalar("scale"));
    const moment1 = mix(of("moment1"), g, scalar("weight1"));
    const moment2 = mix(of("moment2"), mul(g, g), scalar("weight2"));
    const rate = scalar(treatment === "noise" ? "noise_rate" : "rate");
    const step = div(mul(rate, moment1), add(sqrt(moment2), scalar("floor")));
    const change = treatment === "decayed" ? add(mul(scalar("shrink"), p), step) : step;
    return { value: sub(p, change), moment1, moment2 };
  },
};

/** The scalars of a move. Their names are those of `buildMove`. */
export function makeMoveScalars(settings: MoveSettings): Record<string, number> {
  const { lr, noiseLr, beta1, beta2, epsilon, decay, step, gradientScale } = settings;
  const [bias1, bias2] = [1 - beta1 ** step, 1 - beta2 ** step];
  return {
    scale: gradientScale,
    weight1: 1 - beta1,
    weight2: 1 - beta2,
    rate: (lr * Math.sqrt(bias2)) / bias1,
    noise_rate: (noiseLr * Math.sqrt(bias2)) / bias1,
    floor: epsilon * Math.sqrt(bias2),
    shrink: lr * decay,
  };
}

/** total ← total + gradient with keep 1; gradient with keep 0, even after an overflow, which 0 times it would make NaN. */
export const buildTotal: GroupBuilder = {
  kind: "total",
  reads: ["total", "gradient"],
  treatment: () => "all",
  build: (_, of, scalar) => {
    const gradient = of("gradient");
    return { total: where(cast(scalar("keep"), "bool"), add(of("total"), gradient), gradient) };
  },
};

/** average ← average + weight·(value − average) */
export const buildMean: GroupBuilder = {
  kind: "mean",
  reads: ["average", "value"],
  treatment: () => "all",
  build: (_, of, scalar) => ({ average: mix(of("average"), of("value"), scalar("weight")) }),
};
