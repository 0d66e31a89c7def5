// Steps with parameters in tensors of a device, run on the CPU provider, against those in the host's memory.
import { describe, expect, it } from "vitest";
import { compareSteps, runSteps, STEPS_CASES } from "../../support/device-steps.ts";

const session = { threads: 1 };

describe("parameters on a device", () => {
  it.each(STEPS_CASES)("take the same steps: $name", async (given) => {
    const host = await runSteps(given, 6, { session, onHost: true });
    const device = await runSteps(given, 6, { session });
    const { losses, values, worst } = compareSteps(host, device);
    expect(Object.keys(device.values)).toEqual(Object.keys(host.values));
    expect(losses).toBeLessThan(1e-4);
    expect(values, worst).toBeLessThan(1e-3);
    expect(Object.values(host.moved).some((moved) => moved > 1e-3)).toBe(true);
  });
});
