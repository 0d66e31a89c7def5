// The tool's version is that of package.json, from wherever the module is loaded, and what CI installs is pinned to it.
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { TOOL } from "../src/version.ts";

test("the tool names itself and the package's version", async () => {
  const { version } = JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8"));
  expect(TOOL).toEqual({ name: "nfc", version });
});

test("the action and the examples for CI install this version, without what the check does not need", () => {
  const action = readFileSync("action.yml", "utf8");
  expect(/version:\n +description: .*\n +default: (\S+)/.exec(action)?.[1]).toBe(TOOL.version);
  expect(action).toContain('npx --yes --omit=optional --package "noiseformer-compiler@$VERSION" nfc check');
  const page = readFileSync("docs/check.md", "utf8");
  const named = [...page.matchAll(/noiseformer-compiler@v?([\w.]+)/g)].map(([, version]) => version);
  expect(named.length).toBeGreaterThanOrEqual(4);
  expect(new Set(named)).toEqual(new Set([TOOL.version]));
  for (const line of page.split("\n").filter((each) => /(npx|npm i) .*noiseformer-compiler/.test(each)))
    expect(line).toContain("--omit=optional");
});
