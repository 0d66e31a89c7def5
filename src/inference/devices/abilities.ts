// What runs on the devices, and what does not.
import type { Device } from "../../graph/session.ts";

/** What a device that opens is used for, by --device of the commands. */
export const WORK = ["train", "eval", "generate", "glue", "plan", "calibration"] as const;

const INT8 = "int8 products (--teacher-precision int8, int8 exports) run on the CPU";
const BUS = "every parameter crosses the bus in each step of a training";
const UNTRIED = "has not been tried";

const LIMITS: Readonly<Record<Device, readonly string[]>> = {
  cpu: [],
  cuda: [BUS, UNTRIED],
  webgpu: [INT8, "fp16, q4 and uint8 exports need an adapter with 16-bit floats (shader-f16)"],
  dml: [BUS, UNTRIED],
  coreml: [BUS, UNTRIED],
};

/** What to know of a device, as parts of a sentence. */
export function listLimits(device: Device): readonly string[] {
  return LIMITS[device];
}
