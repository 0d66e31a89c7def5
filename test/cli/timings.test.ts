// --timings: every command has it, prints the table on stderr at its end, and puts the same figures into --json.
import { describe, expect, it } from "vitest";
import type { PhaseTiming } from "../../src/io/timings.ts";
import { nfc } from "../support/cli.ts";
import { MODEL } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const temporary = temporaryFolder("cli-timings");

describe("--timings", () => {
  it("is a flag of every command", async () => {
    const { stdout } = await nfc(["--help"]);
    const commands = stdout.slice(stdout.indexOf("Commands:")).matchAll(/^ {2}([a-z]+)(?: [<[].*?)? {2,}/gm);
    const names = Array.from(commands, ([, name]) => name as string).filter((name) => name !== "help");
    expect(names).toContain("convert");
    for (const name of names) expect((await nfc([name, "--help"])).stdout, name).toContain("--timings ");
  });

  it("prints the phases on stderr and adds them to the JSON", async () => {
    const args = ["convert", MODEL, "--tie", "mean", "--variant", "symmetric", "--json", "--quiet"];
    const { code, stdout, stderr } = await nfc([...args, "--timings", "-o", temporary("tied")]);
    expect(code).toBe(0);
    const { timings } = JSON.parse(stdout);
    const phases = new Map<string, PhaseTiming>(timings.phases.map((row: PhaseTiming) => [row.phase, row]));
    for (const [phase, { seconds }] of phases) {
      expect(stderr).toContain(`\n${phase} `);
      expect(seconds).toBeLessThanOrEqual(timings.seconds);
    }
    expect(stderr).toMatch(/^phase +seconds +read +written\n-/);
    expect(stderr).toMatch(/\nin all +\d+\.\d{3} /);
    expect(timings.peakMemory).toBeGreaterThan(1e6);
  });

  it("is silent unless given", async () => {
    const { stdout, stderr } = await nfc(["inspect", MODEL, "--json"]);
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).not.toHaveProperty("timings");
  });

  it("leaves the message and the exit code of a command that fails", async () => {
    const { code, stdout, stderr } = await nfc(["inspect", "/nowhere", "--timings", "--json"]);
    expect(code).toBe(2);
    expect(JSON.parse(stdout).error.code).toBe("not-found");
    expect(stderr).toMatch(/^phase [\s\S]*\nnfc: \/nowhere: no such file or folder; check the path\n$/);
  });
});
