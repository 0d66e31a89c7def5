// The page of a plan: lines that are told apart on light and on dark ground, and columns on their side.
import { describe, expect, it } from "vitest";
import type { Plan, PlanMeasurement } from "../../../src/convert/plan/plan-file.ts";
import { renderPlanPage } from "../../../src/convert/plan/plan-page.ts";

const measured = (cuts: PlanMeasurement["cuts"], parameters: number, perplexity: number): PlanMeasurement => ({
  ...{ cuts, parameters, perplexity, error: 0.01, kl: 0.1, klError: 0.01, seconds: 1 },
  bytes: { fp32: 4 * parameters, int8: parameters, q4: null },
});
const AXES = { "qk-rank": 8, "vo-rank": 8, mlp: 64, layers: 1 };
const text = { files: ["a.txt"], sha256: "0".repeat(64), every: 1, tokens: 600, length: 64 };

const PLAN: Plan = {
  format: "nfc-plan/1",
  tool: { name: "nfc", version: "0.1.0" },
  source: { path: "base", files: [], parameters: 1000 },
  ...{ calibration: text, heldOut: text, floor: 0.4, complete: true },
  axes: Object.entries(AXES).map(([name, value]) => ({ name, values: [value] })),
  measurements: [
    measured({}, 1000, 10),
    ...Object.entries(AXES).map(([name, value], i) => measured({ [name]: value }, 900 - 50 * i, 11 + i)),
  ],
  steps: [{ axis: "qk-rank", value: 8, measurement: 1 }],
};

describe("the page of a plan", () => {
  const page = renderPlanPage(PLAN);

  it("has no axis in the color of the path, which is that of line 0 on light ground and of line 4 on dark", () => {
    const lines = [...page.matchAll(/<path class="line ([^"]+)"/g)].map(([, kind]) => kind);
    expect(lines).toHaveLength(1 + Object.keys(AXES).length);
    expect(new Set(lines).size).toBe(lines.length);
    expect(lines.filter((kind) => /line-[04]\b/.test(kind as string))).toEqual([]);
  });

  it("has names of cuts on the left, under their heading", () => {
    expect(page).toContain('<th scope="col" class="left">cut</th>');
    expect(page).toMatch(/<td class="left"[^>]*>qk-rank 8<\/td>/);
  });
});
