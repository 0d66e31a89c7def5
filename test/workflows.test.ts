// What workflows run: actions pinned to a commit, here and in the documentation's examples, and all tests, the slow ones too.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PAGES } from "./support/markdown.ts";

/** nfc's own action, whose commit no page of the same commit can name. */
const OWN = /^noiseformer\/noiseformer-compiler@/;
const PINNED = /^[\w.-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/;

const workflows = [
  "action.yml",
  ...(readdirSync(".github", { recursive: true }) as string[])
    .filter((name) => /\.ya?ml$/.test(name))
    .map((name) => join(".github", name)),
];

/** What stands after `uses:`, comments included. */
const listUses = (file: string): string[] =>
  [...readFileSync(file, "utf8").matchAll(/^[\s-]*uses:\s*(.+?)\s*$/gm)].map(([, used]) => used as string);

describe("actions of others", () => {
  it.each([...workflows, ...PAGES])("every action that %s uses is pinned to a commit, with its version", (file) => {
    expect(listUses(file).filter((used) => !PINNED.test(used) && !OWN.test(used))).toEqual([]);
  });

  it("the workflows use actions, and one commit of each", () => {
    const used = [...workflows, ...PAGES].flatMap(listUses).filter((each) => !OWN.test(each));
    expect(used.length).toBeGreaterThan(4);
    const names = new Set(used.map((each) => each.split("@")[0]));
    expect(new Set(used).size).toBe(names.size);
  });
});

describe("the tests that run", () => {
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8"));

  it("npm test leaves out what npm run test:slow runs, and npm run test:all leaves out nothing", () => {
    expect([scripts.test, scripts["test:slow"], scripts["test:all"]]).toEqual([
      "vitest run --tags-filter=!slow",
      "vitest run --tags-filter=slow",
      "vitest run",
    ]);
  });

  it("the gate and a release run all tests, once", () => {
    const gate = readFileSync(".ci/run", "utf8");
    const lines = gate.split("\n").filter((line) => line.includes("test"));
    expect(lines.filter((line) => !line.startsWith("#"))).toEqual(["npm run test:all -- --coverage"]);
    expect(gate.trimEnd().endsWith("npm run test:all -- --coverage")).toBe(true); // its closing line is the last one
    expect(readFileSync(".github/workflows/ci.yml", "utf8")).toMatch(/- run: bash \.ci\/run$/m);
    const release = readFileSync(".github/workflows/release.yml", "utf8");
    expect(release.match(/npm (?:run )?test\S*/g)).toEqual(["npm run test:all"]);
  });
});
