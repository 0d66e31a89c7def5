// The parsers of flag values.
import { InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import {
  parseByteSize,
  parsePositiveInteger,
  parsePositiveNumber,
  parsePrecisions,
  parseSeed,
  toDtype,
} from "../../src/cli/options.ts";
import { findChoice } from "../../src/cli/usage.ts";

describe("parseByteSize", () => {
  it.each([
    ["1", 1],
    ["500MB", 500e6],
    ["500 mb", 500e6],
    ["1.5GB", 1.5e9],
    ["2GiB", 2 ** 31],
    ["3 KiB", 3072],
    ["7kb", 7000],
    ["9B", 9],
    ["0.5KiB", 512],
  ])("%s is read as %i bytes", (text, bytes) => {
    expect(parseByteSize(text)).toBe(bytes);
  });

  it.each(["", "MB", "-1MB", "1TB", "1e3", "0", "0.1B", "1 2MB", "99999999999GiB", "MB5"])(
    "the size %j is refused",
    (text) => {
      expect(() => parseByteSize(text)).toThrow(InvalidArgumentError);
    },
  );
});

describe("number options", () => {
  it("valid numbers are read as written", () => {
    expect([
      parsePositiveInteger("12"),
      parsePositiveNumber("0.25"),
      parsePositiveNumber("1e-3"),
      parseSeed("0"),
      parseSeed("16777216"),
    ]).toEqual([12, 0.25, 1e-3, 0, 2 ** 24]);
  });

  it.each(["", "0", "-3", "1.5", "0x10", "1e3", " 1", "9007199254740993"])("%j is no positive integer", (text) => {
    expect(() => parsePositiveInteger(text)).toThrow("not a positive integer");
  });

  it.each(["", " ", "0", "-1", "NaN", "Infinity", "1,5"])("%j is no positive number", (text) => {
    expect(() => parsePositiveNumber(text)).toThrow("not a positive number");
  });

  it.each(["", "-1", "16777217", "1.5"])("%j is no seed", (text) => {
    expect(() => parseSeed(text)).toThrow("not an integer from 0 to 16777216");
  });
});

it("names of dtypes are those of safetensors in lower case", () => {
  expect(["f32", "f16", "bf16", "f64"].map(toDtype)).toEqual(["F32", "F16", "BF16", "F64"]);
});

it("q8 is transformers.js's name for int8, where int8 is a choice", () => {
  expect(parsePrecisions("q4,q8")).toEqual(["q4", "int8"]);
  expect(findChoice(["int8", "q4"], "q8")).toBe("int8");
  expect(findChoice(["q4", "q2"], "q8")).toBeUndefined();
});
