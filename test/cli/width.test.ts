// The terminal's width: no help, result, note or error of any command is wider, and none breaks inside a word.
import { readFileSync, writeFileSync } from "node:fs";
import { stripVTControlCharacters } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { nfc, ok } from "../support/cli.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("width");
const help = (await nfc(["--help"])).stdout;
const COMMANDS = [...help.slice(help.indexOf("Commands:"), help.indexOf("Examples:")).matchAll(/^ {2}(\w+)/gm)].map(
  ([, name]) => name as string,
);
const WIDTHS = [60, 80, 120];
/** A path as people have them, so that columns with names are wide. */
const [tied, onnx, text] = [path("a-folder-of-experiments/tied"), path("a-folder-of-experiments/onnx"), path("t.txt")];
let count = 0;
const fresh = () => path(`out-${count++}`);

beforeAll(async () => {
  writeFileSync(text, readFileSync(TEXT, "utf8").slice(0, 2000));
  await ok("convert", MODEL, "-o", tied, "--calibration", text, "-q");
  await ok("export", tied, "--onnx", "--precision", "fp32,int8,q4", "--text", text, "-o", onnx, "-q");
  writeFileSync(path("size.json"), JSON.stringify({ models: { tied: { path: tied, maxSize: "1 MB" } } }));
});

/** Lines that are wider than the terminal, but for a single word, which may be a path to copy. */
function findWide(shown: string, width: number): string[] {
  return shown.split("\n").filter((line) => [...line].length > width && /\S\s+\S/.test(line));
}

describe.each(WIDTHS)("a terminal of %d columns", (columns) => {
  it.each(["", ...COMMANDS])("shows the help of nfc %s", async (command) => {
    const { stdout } = await nfc([...(command === "" ? [] : [command]), "--help"], { ttyOut: true, columns });
    expect(findWide(stdout, columns)).toEqual([]);
    const wide = await nfc([...(command === "" ? [] : [command]), "--help"], { ttyOut: true, columns: 1000 });
    const words = (shown: string) => new Set(shown.split(/\s+/).filter((word) => word !== "\\"));
    expect(words(stdout)).toEqual(words(wide.stdout));
  });

  it.each<[string, () => string[]]>([
    ["inspect", () => ["inspect", tied]],
    ["convert", () => ["convert", MODEL, "-o", fresh(), "--verbose"]],
    ["eval", () => ["eval", tied, "--text", text, "--against", MODEL]],
    ["eval of an export", () => ["eval", onnx, "--precision", "int8,q4", "--text", text]],
    ["export", () => ["export", tied, "--onnx", "--precision", "fp32,int8,q4", "--text", text, "-o", fresh()]],
    ["finetune", () => ["finetune", tied, "--data", text, "--steps", "2", "--length", "16", "-o", fresh()]],
    ["report", () => ["report", MODEL, tied, onnx, "--layers", "--heads"]],
    ["report of several", () => ["report", MODEL, tied, onnx]],
    ["report of one", () => ["report", onnx]],
    ["check", () => ["check", "--config", path("size.json")]],
    ["a fault", () => ["convert", tied, "-o", tied, "--calibration", text]],
    ["wrong usage", () => ["convert", MODEL, "-o", fresh(), "--variant", "symetric"]],
  ])("shows what nfc %s prints", async (_, line) => {
    const args = [...line(), "--threads", "1"].slice(0, line()[0] === "check" ? -2 : undefined);
    const { stdout, stderr } = await nfc(args, { ttyOut: true, tty: true, columns });
    expect(stdout + stderr).not.toBe("");
    const notes = stripVTControlCharacters(stderr.replaceAll(/<clear>|<home>/g, "\n"));
    expect(findWide(stdout, columns)).toEqual([]);
    expect(findWide(notes, columns)).toEqual([]);
  });
});

it("piped tables keep a line a row, however wide", async () => {
  const { stdout } = await ok("report", tied, onnx);
  expect(stdout).toContain(`${onnx}/onnx/model_quantized.onnx`);
  const rows = stdout.split("\n").filter((line) => line.startsWith(onnx));
  expect(rows.every((row) => row.split(/ {2,}/).length > 4)).toBe(true);
});

it("Markdown is not folded on a terminal", async () => {
  const { stdout } = await nfc(["report", MODEL, tied, "--format", "markdown"], { ttyOut: true, columns: 40 });
  expect(stdout).toBe((await ok("report", MODEL, tied, "--format", "markdown")).stdout);
});
