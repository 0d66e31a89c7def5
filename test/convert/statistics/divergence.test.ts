// What the meter of divergences refuses: windows that have no next token to measure a loss of.
import { expect, it } from "vitest";
import { DivergenceMeter } from "../../../src/convert/statistics/divergence.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL, opened } from "../../support/fixture.ts";

it.each([
  ["no windows", []],
  ["a window of one token", [Int32Array.of(1)]],
])("%s have no loss", async (_, windows) => {
  await opened(MODEL, async (checkpoint) => {
    const meter = await DivergenceMeter.open(checkpoint, { threads: 1, device: "cpu", signal: undefined });
    try {
      const error = await failureOf(() => meter.measure(windows, [], []));
      expect(error.message).toBe("windows of one token have no next token to measure the loss of");
    } finally {
      await meter.close();
    }
  });
});
