// The comparison of a benchmark with its baseline, on made-up results; and that the workflow runs it, and the gate does not.
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it, test } from "vitest";
import { temporaryFolder } from "./support/temp-folder.ts";

const { compareWithBaseline, computeRatio, makeBaseline, mergeBaselines, readBaseline } = await import(
  new URL("../bench/compare.mjs", import.meta.url).href
);
const at = temporaryFolder("bench-compare");

const MACHINE = { cpu: "a processor", cores: 2, node: "v20.0.0" };

/** A run whose cases took so many times their reference, in each of two pairs. */
function makeRun(ratios: Record<string, number>, more: object = {}) {
  const results = Object.entries(ratios).map(([name, ratio]) => ({
    ...{ name, reference: "copy" },
    pairs: [
      { seconds: 2 * ratio, reference: 2 },
      { seconds: 6 * ratio, reference: 3 },
    ],
  }));
  return makeBaseline({ machine: MACHINE, date: "2026-01-01", size: "small", runs: 2, results, ...more });
}

describe("a baseline", () => {
  test("it has ratios, the machine and no seconds", () => {
    expect(makeRun({ convert: 1.5 })).toEqual({
      ...{ machine: MACHINE, date: "2026-01-01", size: "small", runs: 2 },
      ratios: { convert: { reference: "copy", ratio: 1.5 } },
    });
  });

  test("a ratio is the shortest time over the shortest time of the reference", () => {
    const pairs = [
      { seconds: 9, reference: 2 },
      { seconds: 4, reference: 7 },
    ];
    expect(computeRatio(pairs)).toBe(2);
  });
});

test("a part that was measured anew keeps the rest, on the same machine alone", () => {
  const merged = mergeBaselines(makeRun({ convert: 2, other: 1 }), makeRun({ convert: 3 }, { date: "2026-02-02" }));
  expect(merged).toEqual(makeRun({ convert: 3, other: 1 }, { date: "2026-02-02" }));
  const elsewhere = makeRun({}, { machine: { ...MACHINE, cores: 4 } });
  expect(() => mergeBaselines(makeRun({ convert: 2 }), elsewhere)).toThrow("on 2 × a processor");
  expect(() => mergeBaselines(makeRun({}), makeRun({}, { size: "xl" }))).toThrow("of GPT-2 small");
});

describe("a comparison", () => {
  it.each([
    ["as before", 2, false],
    ["a little worse", 2.29, false],
    ["16 % worse", 2.32, true],
    ["three times as bad", 6, true],
    ["better", 0.5, false],
  ])("%s", (_, ratio, isWorse) => {
    const { lines, worse } = compareWithBaseline(
      makeRun({ convert: 2, other: 1 }),
      makeRun({ convert: ratio, other: 1 }),
    );
    expect(worse).toEqual(isWorse ? ["convert"] : []);
    expect(lines[0]).toMatch(
      new RegExp(`^convert: ${ratio} × copy, baseline 2, [+−]\\d+ %${isWorse ? ", worse" : ""}$`),
    );
    expect(lines[1]).toBe("other: 1 × copy, baseline 1, +0 %");
  });

  test("a case that is new is shown, and one that is gone fails, unless a part was asked for", () => {
    const [before, after] = [makeRun({ convert: 2, old: 1 }), makeRun({ convert: 2, young: 9 })];
    const whole = compareWithBaseline(before, after);
    expect(whole.lines.slice(1)).toEqual([
      "young: 9 × copy, not in the baseline",
      "old: in the baseline, not measured",
    ]);
    expect(whole.worse).toEqual(["old"]);
    expect(compareWithBaseline(before, after, true).worse).toEqual([]);
  });

  test("ratios to another reference are not compared", () => {
    const before = makeRun({ convert: 2 });
    before.ratios.convert.reference = "work";
    const { lines, worse } = compareWithBaseline(before, makeRun({ convert: 20 }));
    expect([lines, worse]).toEqual([["convert: 20 × copy, not in the baseline"], []]);
  });

  test("a run of another model size is refused, and another machine is said", () => {
    expect(() => compareWithBaseline(makeRun({}), makeRun({}, { size: "xl" }))).toThrow(
      "of GPT-2 small, this run of xl",
    );
    const other = makeRun({}, { machine: { ...MACHINE, cores: 4 } });
    expect(compareWithBaseline(makeRun({}), other).isSameMachine).toBe(false);
    expect(compareWithBaseline(makeRun({}), makeRun({})).isSameMachine).toBe(true);
  });
});

test("the workflow runs the comparison; the gate, which has to pass on any machine, does not", () => {
  const baseline = JSON.parse(readFileSync("docs/bench-baseline.json", "utf8"));
  expect(Object.values(baseline.ratios).length).toBeGreaterThan(5);
  const line = /^ +- run: npm run bench -- .*--compare docs\/bench-baseline\.json/m;
  expect(readFileSync(".github/workflows/ci.yml", "utf8")).toMatch(line);
  expect(readFileSync(".ci/run", "utf8")).not.toContain("bench");
});

test("a file that is not there, or is no baseline, is refused by its name", () => {
  expect(() => readBaseline(at("none.json"))).toThrow("none.json");
  for (const content of ["{", "{}", "null", '{"ratios": {}, "machine": {}}']) {
    writeFileSync(at("other.json"), content);
    expect(() => readBaseline(at("other.json"))).toThrow("other.json: is no baseline");
  }
  writeFileSync(at("good.json"), JSON.stringify(makeRun({ convert: 2 })));
  expect(readBaseline(at("good.json"))).toEqual(makeRun({ convert: 2 }));
});
