// The parsers of the flags that cut layers and MLPs.
import { InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import { parseLayers, parseMlp } from "../../src/cli/commands/convert/axes.ts";

describe("parseLayers", () => {
  it.each([
    ["8", 8],
    ["0,1,3-5", [0, 1, 3, 4, 5]],
    ["2-2", [2]],
    ["5,0", [5, 0]],
  ])("%s is read", (text, layers) => expect(parseLayers(text)).toEqual(layers));

  it.each(["", "0", "-1", "1,", "3-1", "a", "0-999999999", "1.5", "0-1023,7"])("%j is refused", (text) =>
    expect(() => parseLayers(text)).toThrow(InvalidArgumentError),
  );
});

describe("parseMlp", () => {
  it("a share ends with %, a number of units does not", () => {
    expect([parseMlp("75%"), parseMlp("75 %"), parseMlp("62.5%"), parseMlp("768")]).toEqual([
      { share: 0.75 },
      { share: 0.75 },
      { share: 0.625 },
      { units: 768 },
    ]);
  });

  it.each(["", "0", "0%", "100%", "75 %%", "1.5", "-3", "3e2", "%"])("%j is refused", (text) =>
    expect(() => parseMlp(text)).toThrow(InvalidArgumentError),
  );
});
