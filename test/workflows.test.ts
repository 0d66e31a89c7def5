// The actions that workflows run, here and in the documentation's examples, are pinned to a commit, not to a tag.
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
