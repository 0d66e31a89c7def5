// What nfc convert prints of the cuts that it made, and the remark on what they cost.
import { describe, expect, it } from "vitest";
import { ok } from "../support/cli.ts";
import { MODEL } from "../support/fixture.ts";
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
});
