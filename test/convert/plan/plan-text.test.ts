// The texts of a plan: as many tokens as are asked for, and the same windows whenever they are read again.
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { countAsked } from "../../../src/convert/plan/plan-file.ts";
import {
  computeEvery,
  type PlanTextOptions,
  type PlanTexts,
  readPlanTexts,
  readTextsAgain,
} from "../../../src/convert/plan/plan-text.ts";
import { readCalibrationText } from "../../../src/convert/statistics/calibration-text.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL, opened, TEXT } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("plan-text");
const text = readFileSync(TEXT, "utf8"); // about 7,300 tokens, windows of 64
const write = (name: string, content: string) => {
  writeFileSync(path(name), content);
  return path(name);
};

const read = (options: Partial<PlanTextOptions>): Promise<PlanTexts> =>
  opened(MODEL, (checkpoint) => readPlanTexts(checkpoint, { calibration: [TEXT], ...options }));
const list = (windows: readonly Int32Array[]) => windows.map((ids) => ids.join());

describe("the texts of a plan", () => {
  it.each([
    ["whole windows", 512, 1024],
    ["no whole windows", 1000, 2000],
    ["fewer to measure on than to fit to", 1000, 300],
    ["a text too short for both", 4000, 8000],
    ["a text far too short for what is measured on", 512, 10 ** 9],
  ])("are read again as they were, of %s", async (_, calibrationTokens, heldOutTokens) => {
    const options = { calibrationTokens, heldOutTokens };
    const first = await read(options);
    const { calibration, heldOut } = first.record;
    const asked = { calibrationTokens: countAsked(calibration), heldOutTokens: countAsked(heldOut) };
    const again = await opened(MODEL, (checkpoint) =>
      readTextsAgain(checkpoint, first.record, "plan.json", { calibration: [TEXT], ...asked }),
    );
    expect(again.record).toEqual(first.record);
    expect(again.heldOut).toEqual(first.heldOut);
    expect(list(again.fitted.windows)).toEqual(list(first.fitted.windows));
    // As a conversion by the plan reads the text that its cuts are fitted to.
    const every = computeEvery(asked.calibrationTokens, asked.heldOutTokens);
    const tokens = asked.calibrationTokens;
    const fitted = await opened(MODEL, (checkpoint) => readCalibrationText([TEXT], checkpoint, { tokens, every }));
    expect(list(fitted.windows)).toEqual(list(first.fitted.windows));
  });

  it("no window is fitted to and measured on", async () => {
    const { fitted, heldOut } = await read({ calibrationTokens: 1000, heldOutTokens: 2000 });
    const measured = heldOut.join();
    expect(heldOut).toHaveLength(2000);
    expect(fitted.windows).toHaveLength(16);
    for (const ids of list(fitted.windows)) expect(measured).not.toContain(ids);
  });

  it("fewer tokens are measured on than to fit to where that is asked for, from all over the text", async () => {
    const { heldOut, fitted } = await read({ calibrationTokens: 2048, heldOutTokens: 256 });
    expect(heldOut).toHaveLength(256);
    const places = list(fitted.others).map((ids) => heldOut.join().includes(ids));
    expect(places.filter(Boolean)).toHaveLength(4);
    expect(places.lastIndexOf(true)).toBeGreaterThan(places.length / 2);
  });

  it("a third of a text is fitted to, however many tokens are to be measured on", async () => {
    const { fitted, heldOut } = await read({ heldOutTokens: 10 ** 9 });
    expect(fitted.windows.length / (fitted.windows.length + fitted.others.length)).toBeCloseTo(1 / 3, 2);
    expect(heldOut).toHaveLength(64 * fitted.others.length);
  });

  it("another number of tokens is another text", async () => {
    const { record } = await read({ calibrationTokens: 512, heldOutTokens: 1024 });
    const other = { calibration: [TEXT] as [string], calibrationTokens: 512, heldOutTokens: 1000 };
    const error = await failureOf(() =>
      opened(MODEL, (checkpoint) => readTextsAgain(checkpoint, record, "plan.json", other)),
    );
    expect(error).toMatchObject({ code: "mismatch", message: "plan.json: its models were measured on another text" });
  });

  it("tokens count for the vocabulary but for those of its own files that are measured on", async () => {
    const [a, b, c] = [
      write("a.txt", "a e a e. ".repeat(40)),
      write("b.txt", text.slice(0, 3000)),
      write("c.txt", text.slice(3000, 9000)),
    ];
    const countUsed = async (vocabularyText: [string, ...string[]], heldOut: [string, ...string[]]) =>
      (await read({ calibrationTokens: 512, heldOut, vocabularyText })).vocabulary?.counted.used as number;
    const whole = await countUsed([a, b], [c]);
    expect(await countUsed([a, b], [b])).toBeLessThan(whole);
    expect(await countUsed([a, b], [b, c])).toBe(await countUsed([a, b], [b]));
    expect(await countUsed([a, b], [c, b])).toBe(await countUsed([a, b], [b]));
  });
});
