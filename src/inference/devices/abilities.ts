// What runs on the devices, and what does not.
import type { Device } from "../../graph/session.ts";
import { WEBGPU_ORDER } from "../../model/precision.ts";

/** What a device that opens is used for, by --device of the commands. */
export const WORK = ["train", "eval", "generate", "glue", "plan", "calibration"] as const;

const INT8 = "int8 products (--teacher-precision int8, int8 exports) run on the CPU";
const OF_HALF_FLOATS = WEBGPU_ORDER.half.filter((precision) => !WEBGPU_ORDER.full.includes(precision)).join(" and ");
const BUS = "every parameter crosses the bus in each step of a training";
const UNTRIED = "has not been tried";

const LIMITS: Readonly<Record<Device, readonly string[]>> = {
  cpu: [],
  cuda: [BUS, UNTRIED],
  webgpu: [INT8, `${OF_HALF_FLOATS} exports need an adapter with 16-bit floats (shader-f16)`],
  dml: [BUS, UNTRIED],
  coreml: [BUS, UNTRIED],
};

/** What to know of a device, as parts of a sentence. */
export function listLimits(device: Device): readonly string[] {
  return LIMITS[device];
}
