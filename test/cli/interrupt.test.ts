// SIGINT, SIGTERM and SIGHUP: the command ends with 130, says so in one line, and leaves the disk as it was.
import { mkdirSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { interrupted, nfc } from "../support/cli.ts";
import { digest, MODEL, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("interrupt");
let count = 0;

function parent(): string {
  const folder = path(`p${count++}`);
  mkdirSync(folder);
  return folder;
}

const COMMANDS: [string, (folder: string) => string[], string][] = [
  ["convert", (folder) => ["convert", MODEL, "-o", `${folder}/out`, "--tie", "spectral"], "tying"],
  ["convert with text", (folder) => ["convert", MODEL, "-o", `${folder}/out`, "--calibration", TEXT], "tying"],
  ["export", (folder) => ["export", MODEL, "-o", `${folder}/out`, "--threads", "1"], "fp32: verifying"],
  ["export of external data", (folder) => ["export", MODEL, "-o", `${folder}/out`, "--external-data"], "fp32: writing"],
];

describe.each(COMMANDS)("an interrupted %s", (_, args, sign) => {
  it.each(["SIGINT", "SIGTERM", "SIGHUP"])("%s exits with 130 and leaves nothing", async (signal) => {
    const folder = parent();
    const { code, stdout, stderr } = await interrupted(args(folder), sign, signal);
    expect({ code, stdout }).toEqual({ code: 130, stdout: "" });
    expect(stderr.endsWith("nfc: interrupted; nothing was written\n")).toBe(true);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("an interruption with --force leaves an existing output untouched", async () => {
    const folder = parent();
    await nfc(["convert", MODEL, "-o", `${folder}/out`, "--tie", "key"]);
    const before = digest(`${folder}/out`);
    expect((await interrupted([...args(folder), "--force"], sign)).code).toBe(130);
    expect(digest(`${folder}/out`)).toEqual(before);
    expect(readdirSync(folder)).toEqual(["out"]);
  });
});

it("an interrupted command is an object with --json", async () => {
  const args = ["convert", MODEL, "-o", `${parent()}/out`, "--json"];
  const { code, stdout } = await interrupted(args, "tying");
  expect(code).toBe(130);
  expect(JSON.parse(stdout)).toEqual({
    error: { code: "aborted", message: "interrupted; nothing was written", hint: null },
  });
});

it("an interrupted eval exits with 130", async () => {
  const { code } = await interrupted(["eval", MODEL, "--text", TEXT, "--stride", "1", "--threads", "1"], "scoring");
  expect(code).toBe(130);
});

it("an interrupted demo stops at its current command", async () => {
  const folder = parent();
  const { code, stderr } = await interrupted(["demo", "-o", `${folder}/demo`, "--threads", "1"], "tying");
  expect(code).toBe(130);
  expect(stderr).toContain("$ nfc convert");
  expect(stderr).not.toContain("$ nfc eval");
});
