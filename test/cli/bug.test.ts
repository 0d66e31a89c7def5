// A bug of ours: exit code 70 and a stack, so that it can be reported; never taken for the user's fault.
import { describe, expect, it, vi } from "vitest";
import { nfc } from "../support/cli.ts";
import { MODEL } from "../support/fixture.ts";

vi.mock("../../src/report/inspect/inspect.ts", () => ({
  inspect: () => {
    throw new TypeError("boom");
  },
}));

describe("a command that throws something that is no NfcError", () => {
  it("an internal error exits with 70 and prints the stack", async () => {
    const { code, stdout, stderr } = await nfc(["inspect", MODEL]);
    expect({ code, stdout }).toEqual({ code: 70, stdout: "" });
    expect(stderr).toMatch(/^nfc: internal error, please report it\nTypeError: boom\n +at /);
    expect(stderr).toContain("bug.test.ts");
  });

  it("an internal error is also an object with --json", async () => {
    const { code, stdout } = await nfc(["inspect", MODEL, "--json"]);
    expect(code).toBe(70);
    expect(JSON.parse(stdout)).toEqual({ error: { code: "internal", message: "boom", hint: null } });
  });
});
