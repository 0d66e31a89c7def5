// What nfc convert prints of the cuts that it made, and the remark on what they cost.

import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ok, refused } from "../support/cli.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("convert-remarks");

describe("nfc convert", () => {
  it("says that the cost is not known, and names the command that measures it", async () => {
    const output = path("low-rank");
    const { stdout, stderr } = await ok("convert", MODEL, "-o", output, "--variant", "low-rank");
    expect(stderr).toContain(
      `the perplexity of the result is not known yet; measure it with: nfc eval ${output} --text FILE --against ${MODEL}`,
    );
    expect(stderr).not.toContain("worse than its source");
    expect(stdout).toMatch(/^q and k of rank 8$/m);
  });

  it("tells of narrower values once, in one line", async () => {
    const { stdout } = await ok("convert", MODEL, "-o", path("values"), "--variant", "low-rank", "--vo-rank", "8");
    expect(stdout.match(/^.*\bv of rank.*$/gm)).toEqual([
      expect.stringMatching(/^v of rank 8, factored by spectral, error of their output 0\.\d{3} \(worst 0\.\d{3}\)$/),
    ]);
    expect(stdout).not.toMatch(/^values$/m);
  });

  it.each([
    ["symmetric", "as many"],
    ["pairwise", "fewer"],
  ])("compares %s with low-rank attention of %s parameters", async (variant, size) => {
    const { stdout } = await ok("convert", MODEL, "-o", path(variant), "--variant", variant);
    expect(stdout).toMatch(
      new RegExp(
        `^low-rank attention of ${size} parameters would have an error of 0\\.\\d{3} \\(--variant low-rank\\)$`,
        "m",
      ),
    );
  });

  it("refuses narrower values of a dense model, which would not be cut", async () => {
    const output = path("dense-values");
    const flags = ["--variant", "dense", "--mlp", "50%", "--vo-rank", "8"];
    expect(await refused(["convert", MODEL, "-o", output, ...flags])).toBe(
      "--vo-rank does not go with --variant dense, whose v is as wide as GPT-2's; leave out --vo-rank, or take --variant low-rank (with --qk-rank 16 only v is cut)",
    );
    expect(existsSync(output)).toBe(false);
  });

  it.each([
    [["--calibration-tokens", "50"], "--calibration-tokens says how much text; give --calibration FILE too"],
    [["--field", "text"], "--field is where JSON has the text; give --calibration FILE too"],
    [["--variant", "dense", "--tie", "mean", "--mlp", "50%"], "--tie is for Q and K, which --variant dense leaves"],
  ])("refuses %j, which would change nothing", async (flags, fact) => {
    expect(await refused(["convert", MODEL, "-o", path("refused"), ...flags])).toContain(fact);
  });

  it("refuses a pipe for a text, whether anybody writes to it or not", async () => {
    execFileSync("mkfifo", [path("pipe")]);
    const line = ["convert", MODEL, "-o", path("piped"), "--variant", "dense", "--vocab-from", path("pipe")];
    expect(await refused(line)).toContain("is a pipe or a device, and a text is read more than once");
  });

  it.each([
    [["--variant", "dense", "--vocab-from", TEXT, "--vocab-size", "300"], "no cut of the vocabulary needs text"],
    [["--variant", "symmetric", "--tie", "mean"], "neither --tie mean nor --variant symmetric needs text"],
  ])("notes a calibration text that nothing is fitted to: %j", async (flags, fact) => {
    const line = ["convert", MODEL, "-o", path("unused"), "-f", "--calibration", TEXT, ...flags];
    expect((await ok(...line)).stderr).toContain(`note: --calibration was not used: ${fact}`);
  });

  it("does not say so of a text that values are fitted to", async () => {
    const flags = ["--variant", "low-rank", "--tie", "spectral", "--vo-rank", "8", "--calibration-tokens", "512"];
    const { stderr } = await ok("convert", MODEL, "-o", path("used"), "--calibration", TEXT, ...flags);
    expect(stderr).not.toContain("was not used");
  });

  it("notes a text that uses all tokens", async () => {
    const flags = ["--variant", "dense", "--vocab-from", TEXT, "--vocab-size", "384"];
    const { stderr } = await ok("convert", MODEL, "-o", path("all"), ...flags);
    expect(stderr).toMatch(/note: the text uses all \d+ tokens/);
  });

  it("refuses a vocabulary of no text", async () => {
    const [empty, output] = [path("empty.txt"), path("no-tokens")];
    writeFileSync(empty, "");
    const flags = ["--variant", "dense", "--vocab-from", empty];
    expect(await refused(["convert", MODEL, "-o", output, ...flags])).toBe(
      `${empty}: there is no text to choose the tokens by; give text of the kind that the model is for`,
    );
    expect(existsSync(output)).toBe(false);
  });

  it.each([
    [["--mlp", "0"], "not a share above 0% and below 100%, nor a number of hidden units from 1 on"],
    [["--layers", "0"], "not how many layers stay, from 1 on, nor a list such as 0,1,3-5"],
    [["--qk-rank", "1.5"], "not a whole number, such as 32, nor a percentage, such as 50%"],
    [["--mlp", "99.9%"], "so that 256 cannot stay (a share is rounded to a multiple of 32)"],
    [["--layers", "2"], "--layers: the model has 2, so that 2 would cut none"],
  ])("%j is refused in one line", async (flags, part) => {
    const output = path("refused");
    expect(await refused(["convert", MODEL, "-o", output, "--variant", "low-rank", ...flags])).toContain(part);
    expect(existsSync(output)).toBe(false);
  });
});
