// The programs of examples/ run, print what the documentation shows, and are the programs that the documentation shows.
import { execFileSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { compileSources } from "./support/compiled-cli.ts";
import { areAlike, PAGES, readFences } from "./support/markdown.ts";
import { slowUnless } from "./support/slow.ts";
import { temporaryFolder } from "./support/temp-folder.ts";

const path = temporaryFolder("examples");
const fences = PAGES.map(readFences);
const programs = fences.flat().filter(({ text }) => text.includes('from "noiseformer-compiler'));
const names = readdirSync("examples");
/** They train for half a minute; the commands that they call have tests of their own. */
const TRAINING = ["compress.mjs", "pretrain.mjs"];

// A package of its own, so that the programs import it by its name.
beforeAll(async () => {
  await compileSources(path());
  for (const name of ["examples", "fixtures", "nfc.size.json", "nfc.baseline.json"])
    cpSync(name, path(name), { recursive: true });
  symlinkSync(resolve("node_modules"), path("node_modules"), "junction");
});

it("every program that a page shows is a file of examples/", () => {
  const files = new Set(names.map((name) => readFileSync(`examples/${name}`, "utf8")));
  expect(programs.map(({ text }) => text).filter((text) => !files.has(text))).toEqual([]);
});

describe.each(names)("examples/%s", (name) => {
  const source = readFileSync(`examples/${name}`, "utf8");

  it("stands on a page, followed by what it prints", {
    ...slowUnless(!TRAINING.includes(name)),
    timeout: 120_000,
  }, () => {
    const page = fences.find((blocks) => blocks.some(({ text }) => text === source)) ?? [];
    const shown = page[page.findIndex(({ text }) => text === source) + 1]?.text;
    const env = { ...process.env, NFC_CACHE: path("cache"), NO_COLOR: "1", ORT_DISABLE_TELEMETRY: "1" };
    const printed = execFileSync(process.execPath, [`examples/${name}`], { cwd: path(), encoding: "utf8", env });
    const [expected, got] = [shown?.split("\n") ?? [], printed.split("\n")];
    expect(got.map((line, i) => (areAlike(line, expected[i] ?? "") ? expected[i] : line))).toEqual(expected);
  });
});
