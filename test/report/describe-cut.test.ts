// The line that says what a cut has taken away.
import { expect, it } from "vitest";
import { describeCut } from "../../src/report/describe-cut.ts";

it.each([
  [
    { axis: "layers", from: 12, to: 6, kept: [0, 1, 2, 5, 7, 8], chosen: "measured" },
    "layers 12 -> 6: 0-2, 5, 7-8 stay, chosen on the calibration text",
  ],
  [{ axis: "layers", from: 3, to: 1, kept: [1], chosen: "listed" }, "layers 3 -> 1: 1 stay"],
  [{ axis: "mlp", from: 3072, to: 1536, chosen: "weights" }, "hidden units 3,072 -> 1,536, chosen by their weights"],
  [
    { axis: "mlp", from: 1024, to: 768, chosen: "measured", errors: [0.1, 0.25] },
    "hidden units 1,024 -> 768, chosen on the calibration text, error of their output 0.175 (worst 0.250)",
  ],
  [
    { axis: "repair", applied: false, before: 0.01, after: 0.02, heldOut: 2048 },
    "repair not made: KL to the source on 2,048 held-out tokens 0.0100 -> 0.0200",
  ],
  [
    { axis: "repair", applied: true, before: 0.00004321, after: 0, heldOut: 2048 },
    "repair made: KL to the source on 2,048 held-out tokens 0.000043 -> 0.0",
  ],
  [
    {
      axis: "values",
      strategy: "calibrated",
      ranks: [32, 32],
      errors: [
        [0.1, 0.2],
        [0.3, 0.4],
      ],
    },
    "v of rank 32, factored by calibrated, error of their output 0.250 (worst 0.400)",
  ],
  [{ axis: "values", strategy: "spectral", ranks: [61, 20], errors: [] }, "v of rank 61, 20, factored by spectral"],
  [{ axis: "of a later version", from: 1 }, "of a later version"],
  // nfc.json may come from anyone.
  [{ axis: "constructor" }, "constructor"],
  [{ axis: "__proto__" }, "__proto__"],
  [{ axis: "layers", from: "3", to: 1, kept: ["a", 1], chosen: "toString" }, "layers ? -> 1: ? stay"],
  [{ axis: "mlp", from: 3, to: 1, errors: [{}, null] }, "hidden units 3 -> 1"],
])("%o is told in one line", (cut, line) => {
  expect(describeCut(cut)).toBe(line);
});
