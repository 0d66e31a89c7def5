// The programs of examples/ run, print what the documentation shows, and are the programs that the documentation shows.
import { execFileSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { compileCli } from "./support/compiled-cli.ts";
import { areAlike, PAGES, readFences } from "./support/markdown.ts";
import { temporaryFolder } from "./support/temp-folder.ts";

const path = temporaryFolder("examples");
const fences = PAGES.map(readFences);
const programs = fences.flat().filter(({ text }) => text.includes('from "noiseformer-compiler"'));
const names = readdirSync("examples");

// A package of its own, so that the programs import it by its name.
beforeAll(() => {
  compileCli(path());
  cpSync("examples", path("examples"), { recursive: true });
  for (const name of ["nfc.size.json", "nfc.baseline.json"]) cpSync(name, path(name));
});

it("every program that a page shows is a file of examples/", () => {
  const files = names.map((name) => readFileSync(`examples/${name}`, "utf8"));
  expect(files).toEqual(expect.arrayContaining(programs.map(({ text }) => text)));
});

describe.each(names)("examples/%s", (name) => {
  const source = readFileSync(`examples/${name}`, "utf8");

  it("stands on a page, followed by what it prints", { timeout: 120_000 }, () => {
    const page = fences.find((blocks) => blocks.some(({ text }) => text === source)) ?? [];
    const shown = page[page.findIndex(({ text }) => text === source) + 1]?.text;
    const env = { ...process.env, NFC_CACHE: path("cache"), NO_COLOR: "1", ORT_DISABLE_TELEMETRY: "1" };
    const printed = execFileSync(process.execPath, [`examples/${name}`], { cwd: path(), encoding: "utf8", env });
    const [expected, got] = [shown?.split("\n") ?? [], printed.split("\n")];
    expect(got.map((line, i) => (areAlike(line, expected[i] ?? "") ? expected[i] : line))).toEqual(expected);
  });
});
