// Things that are opened together: all of them, or none.
import { describe, expect, it } from "vitest";
import { openAll } from "../../src/io/open-all.ts";

function makeThing(closed: string[], name: string, fault?: string) {
  return {
    async close() {
      closed.push(name);
      if (fault) throw new Error(fault);
    },
  };
}

describe("opening several things", () => {
  it("gives them all, open", async () => {
    const closed: string[] = [];
    const both = await openAll(async (keep) => [keep(makeThing(closed, "a")), keep(makeThing(closed, "b"))]);
    expect([both.length, closed]).toEqual([2, []]);
  });

  it("closes those before one that fails, whatever closing does, and tells of the first fault", async () => {
    const closed: string[] = [];
    const open = () =>
      openAll(async (keep) => {
        keep(makeThing(closed, "a", "stuck"));
        keep(makeThing(closed, "b"));
        throw new Error("the third does not open");
      });
    await expect(open()).rejects.toThrow("the third does not open");
    expect(closed).toEqual(["a", "b"]);
  });
});
