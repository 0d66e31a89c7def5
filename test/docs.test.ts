// The pages of the documentation: their links lead somewhere, in the package too, and what they say of commands is so.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { expect, it } from "vitest";
import { countParameters } from "../src/model/parameters.ts";
import { compileCli } from "./support/compiled-cli.ts";
import { PAGES } from "./support/markdown.ts";
import { temporaryFolder } from "./support/temp-folder.ts";

const path = temporaryFolder("docs");
const packed = JSON.parse(readFileSync("package.json", "utf8"));

/** The text of a page without its fences and code, where brackets are no links. */
function readProse(page: string): string {
  return readFileSync(page, "utf8")
    .replace(/^```[\s\S]*?^```$/gm, "")
    .replace(/`[^`\n]*`/g, (code) => code.replaceAll(/[[\]()]/g, ""));
}

/** The anchors of a page, as GitHub makes them of its headings. */
function readAnchors(page: string): string[] {
  return [...readProse(page).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    (heading as string)
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-"),
  );
}

function isPacked(file: string): boolean {
  return (
    /^(README\.md|LICENSE|package\.json)$/.test(file) ||
    packed.files.some((each: string) => file === each || file.startsWith(`${each}/`))
  );
}

it.each(PAGES)("every relative link of %s leads to a file, and to a heading of it", (page) => {
  const targets = [...readProse(page).matchAll(/\]\(([^()\s]+)\)/g)].map(([, target]) => target as string);
  const broken = targets.filter((target) => {
    if (/^[a-z]+:/.test(target)) return false;
    const [name, anchor] = target.split("#") as [string, string | undefined];
    const file = name === "" ? page : posix.join(posix.dirname(page), name);
    if (!existsSync(file)) return true;
    if (isPacked(page) && !isPacked(file)) return true;
    return anchor !== undefined && !readAnchors(file).includes(anchor);
  });
  expect(broken).toEqual([]);
});

it.each(PAGES)("every file of the repository that %s names exists", (page) => {
  const named = readFileSync(page, "utf8").matchAll(/`((?:assets|bench|examples|schema|scripts|src|test)\/[\w./-]+)`/g);
  expect([...named].map(([, file]) => file as string).filter((file) => !existsSync(file))).toEqual([]);
});

it("every npm script that a page, a workflow or the gate calls exists", () => {
  const callers = [...PAGES, ".ci/run", ".github/workflows/ci.yml", ".github/workflows/release.yml"];
  const called = callers.flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/npm (?:run (?:--silent )?([\w:-]+)|(test|start)\b)/g)].map(
      ([, a, b]) => a ?? b,
    ),
  );
  expect(called.length).toBeGreaterThan(0);
  expect(called.filter((name) => !((name as string) in packed.scripts))).toEqual([]);
});

it("docs/reference/commands.md is what npm run docs:commands writes", { timeout: 60_000 }, async () => {
  await compileCli(path());
  const printed = execFileSync(process.execPath, ["scripts/make-docs.mjs", join(path(), "bin/nfc.js"), "--print"], {
    encoding: "utf8",
  });
  expect(readFileSync("docs/reference/commands.md", "utf8")).toBe(printed);
});

it.each([
  ["small", 12, 12, 768],
  ["medium", 24, 16, 1024],
  ["large", 36, 20, 1280],
  ["xl", 48, 25, 1600],
] as const)("docs/convert.md says what tying saves in GPT-2 %s", (name, n_layer, n_head, n_embd) => {
  const sizes = { n_layer, n_head, n_embd, n_inner: 4 * n_embd, n_positions: 1024, vocab_size: 50257 };
  const form = { layer_norm_epsilon: 1e-5, activation: "gelu_tanh", scale_attn_weights: true } as const;
  const rest = { scale_attn_by_inverse_layer_idx: false, tied_head: true, bias: true };
  const [dense, symmetric, distance] = (["dense", "symmetric", "noise-distance"] as const).map((variant) =>
    countParameters({ ...sizes, ...form, ...rest, variant }),
  ) as [number, number, number];
  const [a, b, c] = [dense, symmetric, distance].map((parameters) => parameters.toLocaleString("en-US"));
  const rows = readFileSync("docs/convert.md", "utf8").split("\n");
  const cells = rows.map((row) => row.split("|").map((cell) => cell.trim()));
  expect(cells).toContainEqual(["", name, a, b, `${((100 * (symmetric - dense)) / dense).toFixed(2)} %`, c, ""]);
});

/** Where it is said what it means, and that the package of that name is somebody else's. */
const IN_A_CLONE = ["README.md", "CHANGELOG.md"];

it("no page, example, snippet or action runs the npm package named nfc, which is somebody else's", () => {
  const files = [
    ...PAGES.filter((page) => !IN_A_CLONE.includes(page)),
    "action.yml",
    ...["assets", "examples", "src"].flatMap((folder) =>
      (readdirSync(folder, { recursive: true }) as string[])
        .filter((name) => /\.(ts|js|py|html|sh)$/.test(name))
        .map((name) => `${folder}/${name}`),
    ),
  ];
  expect(files.length).toBeGreaterThan(300);
  expect(files.filter((file) => /npx (?:--yes |-y )?nfc\b/.test(readFileSync(file, "utf8")))).toEqual([]);
  expect(readFileSync("docs/README.md", "utf8")).toContain("npx --package noiseformer-compiler nfc");
});
