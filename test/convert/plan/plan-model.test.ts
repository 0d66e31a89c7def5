// Plans of the fixture: what is measured, kept and taken over, and what an interrupted one leaves.
import { describe, expect, it } from "vitest";
import { type Plan, readPlan } from "../../../src/convert/plan/plan-file.ts";
import { type PlanOptions, planModel } from "../../../src/convert/plan/plan-model.ts";
import { MODEL, opened, TEXT } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("plan");
let count = 0;

const AXES: PlanOptions["axes"] = [
  {
    name: "tie",
    listValues: () => [1],
    cut: (settings) => ({ ...settings, attention: { variant: "symmetric", strategy: "calibrated" } }),
  },
];

function plan(options: Partial<PlanOptions> = {}): Promise<Plan> {
  const defaults = { calibration: [TEXT] as [string], calibrationTokens: 512, heldOutTokens: 1024, threads: 1 };
  return opened(MODEL, (checkpoint) =>
    planModel(checkpoint, { file: path(`plan-${count++}.json`), axes: AXES, ...defaults, ...options }),
  );
}

describe("planModel", () => {
  it("measures the source and the axes on text that follows the calibration part", async () => {
    const file = path("whole.json");
    const made = await plan({ file });
    expect(made).toEqual(await readPlan(file));
    expect(made).toMatchObject({ complete: true, calibration: { first: 0, tokens: 512, length: 64 } });
    expect(made.heldOut).toMatchObject({ first: 512, tokens: 1024, length: 64, sha256: made.calibration.sha256 });
    const [source, tied] = made.measurements;
    expect(source).toMatchObject({ cuts: {}, parameters: 128_768, error: 0, kl: 0 });
    expect(tied).toMatchObject({ cuts: { tie: 1 }, parameters: 128_768 - 8_320 });
    expect(tied?.kl).toBeGreaterThan(4 * (tied?.klError as number));
    expect(tied?.error).toBeGreaterThan(0);
    expect(made.steps).toEqual([{ axis: "tie", value: 1, measurement: 1 }]);
  });
});
