// Numbers and commands as people see them.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatBytes,
  formatCount,
  formatMegabytes,
  formatPercent,
  formatSigned,
  formatSignedMegabytes,
  formatSignedPercent,
  formatThousands,
} from "../../../src/report/render/format.ts";

describe("numbers for readers", () => {
  test("thousands are separated by commas, whatever the sign", () => {
    expect([0, 999, 1000, -1234567, 124439808].map(formatThousands)).toEqual([
      "0",
      "999",
      "1,000",
      "-1,234,567",
      "124,439,808",
    ]);
  });

  test("thousands lose no digit of any safe integer", () => {
    fc.assert(fc.property(fc.maxSafeInteger(), (n) => Number(formatThousands(n).replaceAll(",", "")) === n));
  });

  test("a difference carries its sign, and zero carries none", () => {
    expect([288, -7087104, 0].map(formatSigned)).toEqual(["+288", "-7,087,104", "0"]);
  });

  test("bytes are shown in decimal units, megabytes being the largest", () => {
    expect([0, 96, 1152, 497759232, 6230444800, -28348416].map(formatBytes)).toEqual([
      "0 B",
      "96 B",
      "1.2 kB",
      "497.8 MB",
      "6,230.4 MB",
      "-28.3 MB",
    ]);
  });

  test("a column in MB shows kilobytes, and rounds no size down to nothing", () => {
    expect([0, 96, -96, 1152, 6230444800].map(formatMegabytes)).toEqual([
      "0",
      "<0.001",
      "-<0.001",
      "0.001",
      "6,230.445",
    ]);
    expect([96, -1152, 0].map(formatSignedMegabytes)).toEqual(["+<0.001", "-0.001", "0"]);
  });

  test("percentages have two decimals", () => {
    expect(formatPercent(31.0169)).toBe("31.02 %");
    expect([-5.6952, 0.001, 0].map(formatSignedPercent)).toEqual(["-5.70 %", "+0.00 %", "0.00 %"]);
  });

  test("the noun of a count of one is singular", () => {
    expect([formatCount(1, "file"), formatCount(2, "file"), formatCount(0, "file")]).toEqual([
      "1 file",
      "2 files",
      "0 files",
    ]);
  });
});
