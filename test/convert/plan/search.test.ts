// The search of a path on models that are formulas: what it takes, what it measures, and when it ends.
import { describe, expect, it } from "vitest";
import { type Cuts, findPath, type SearchAxis } from "../../../src/convert/plan/search.ts";

const AXES: SearchAxis[] = [
  { name: "rank", values: [8, 4, 2] },
  { name: "mlp", values: [48, 32, 16] },
];
const SAVED: Record<string, Record<number, number>> = {
  rank: { 8: 100, 4: 150, 2: 175 },
  mlp: { 48: 120, 32: 240, 16: 360 },
};
const LOSS: Record<string, Record<number, number>> = {
  rank: { 8: 0, 4: 0.01, 2: 0.2 },
  mlp: { 48: 0.02, 32: 0.08, 16: 0.4 },
};

/** Losses add up, times `interaction` where both axes are cut. */
function makeMeasure(interaction = 1) {
  const asked: Cuts[] = [];
  const measure = async (cuts: Cuts) => {
    asked.push(cuts);
    const sum = (table: typeof SAVED) =>
      Object.entries(cuts).reduce((total, [axis, value]) => total + (table[axis]?.[value] as number), 0);
    return { parameters: 1000 - sum(SAVED), kl: sum(LOSS) * (Object.keys(cuts).length > 1 ? interaction : 1) };
  };
  return { asked, measure };
}

const SOURCE = { parameters: 1000, kl: 0 };

describe("findPath", () => {
  it("takes the cut with the least loss for what it saves, step by step, until nothing is left to cut", async () => {
    const steps = await findPath({ source: SOURCE, axes: AXES, floor: 0, measure: makeMeasure().measure });
    expect(steps.map(({ axis, value }) => [axis, value])).toEqual([
      ["rank", 8],
      ["mlp", 48],
      ["rank", 4],
      ["mlp", 32],
      ["mlp", 16],
      ["rank", 2],
    ]);
    expect(steps.at(-1)).toMatchObject({ cuts: { rank: 2, mlp: 16 }, point: { parameters: 465 } });
  });

  it("measures each axis alone at all values first, and then only what may be cheapest", async () => {
    const { asked, measure } = makeMeasure();
    const steps = await findPath({ source: SOURCE, axes: AXES, floor: 0, measure });
    expect(asked.slice(0, 6)).toEqual(
      [8, 4, 2].map((rank) => ({ rank })).concat([48, 32, 16].map((mlp) => ({ mlp })) as never),
    );
    // Losses that add up are foretold exactly: every step needs one measurement.
    expect(asked.length).toBe(6 + steps.length);
  });

  it("goes by what is measured together where that differs from the sum", async () => {
    const measure = async (cuts: Cuts) => {
      const { kl, parameters } = await makeMeasure().measure(cuts);
      return { parameters, kl: cuts.rank === 8 && cuts.mlp === 48 ? kl + 0.3 : kl };
    };
    const [first, second] = await findPath({ source: SOURCE, axes: AXES, floor: 0, measure });
    expect(first).toMatchObject({ axis: "rank", value: 8 });
    expect(second).toMatchObject({ axis: "rank", value: 4 });
  });

  it("ends at the first model below the floor, and where it is told to", async () => {
    const { measure } = makeMeasure();
    const below = await findPath({ source: SOURCE, axes: AXES, floor: 800, measure });
    expect(below.map(({ point }) => point.parameters)).toEqual([900, 780]);
    const told = await findPath({ source: SOURCE, axes: AXES, floor: 0, measure, onStep: async () => false });
    expect(told.length).toBe(1);
  });

  it("prefers the larger saving among cuts that lose nothing that can be measured", async () => {
    const measure = async ({ rank = 16 }: Cuts) => ({ parameters: 500 + rank * 10, kl: rank < 4 ? 1 : 1e-6 });
    const axes = [{ name: "rank", values: [12, 8, 4, 2] }];
    const [first] = await findPath({ source: { parameters: 660, kl: 0 }, axes, floor: 0, measure });
    expect(first).toMatchObject({ value: 4 });
  });

  it("leaves out cuts that save nothing", async () => {
    const measure = async ({ rank = 8 }: Cuts) => ({ parameters: rank === 4 ? 100 : 90, kl: 0 });
    const axes = [{ name: "rank", values: [4, 2] }];
    const steps = await findPath({ source: { parameters: 100, kl: 0 }, axes, floor: 0, measure });
    expect(steps.map(({ value }) => value)).toEqual([2]);
  });

  it("says how many measurements are still to come, fewer from one to the next", async () => {
    const left: number[] = [];
    const { measure } = makeMeasure();
    const counted = (cuts: Cuts, rest: number) => {
      left.push(rest);
      return measure(cuts);
    };
    await findPath({ source: SOURCE, axes: AXES, floor: 0, measure: counted });
    expect(left.slice(0, 6)).toEqual([9, 8, 7, 6, 5, 4]);
    expect(left.at(-1)).toBeLessThanOrEqual(1);
  });
});
