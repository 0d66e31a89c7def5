// The values of the flags about plans: names of axes, shares, and targets.
import { InvalidArgumentError } from "commander";
import { parseBytes } from "../../../check/units.ts";
import { AXES } from "../../../convert/plan/axes.ts";
import { SIZED_PRECISIONS, type Target } from "../../../convert/plan/target.ts";
import { readPercent } from "../../percent.ts";
import { suggest } from "../../usage.ts";

const AXIS_NAMES = AXES.map(({ name }) => name);

/** "mlp,layers" */
export function parseAxes(text: string): string[] {
  return text.split(",").map((part) => {
    const name = part.trim();
    if (AXIS_NAMES.includes(name)) return name;
    throw new InvalidArgumentError(`not a list of ${AXIS_NAMES.join(", ")}${suggest(name, AXIS_NAMES)}`);
  });
}

/** "40%" as 0.4. */
export function parseShare(text: string): number {
  const percent = readPercent(text);
  if (percent === null || percent <= 0 || percent >= 100)
    throw new InvalidArgumentError("not a share between 0% and 100%");
  return percent / 100;
}

/** "70%": of the parameters; "80MB", "20MB@q4": of the ONNX file; "+1%": of the perplexity. */
export function parseTarget(text: string): Target {
  const loss = /^\s*\+(.*)$/.exec(text)?.[1];
  const percent = readPercent(loss ?? text);
  if (loss !== undefined && percent !== null) return { kind: "loss", share: percent / 100 };
  if (loss === undefined && percent !== null && percent > 0 && percent < 100)
    return { kind: "parameters", share: percent / 100 };
  const [, size = "", name = "fp32"] = /^([^@]*?)\s*(?:@\s*(\w+)\s*)?$/.exec(text) ?? [];
  const bytes = loss === undefined && /[a-z]/i.test(size) ? parseBytes(size) : null;
  const precision = SIZED_PRECISIONS.find((each) => each === name);
  if (bytes !== null && precision) return { kind: "bytes", bytes, precision };
  throw new InvalidArgumentError("not a target such as 70%, 80MB, 20MB@int8, 15MB@q4 or +1%");
}
