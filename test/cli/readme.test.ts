// README's worked example runs as it is written, and prints what is shown there.
import { readFileSync } from "node:fs";
import { afterAll, expect, it } from "vitest";
import { nfc } from "../support/cli.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("readme");
const readme = readFileSync("README.md", "utf8");
/** Numbers are compared as such: kernels round differently from one CPU to another. */
const NUMBER = /\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?/g;
const TOLERANCE = 0.05;

const cache = process.env.NFC_CACHE;
process.env.NFC_CACHE = path("cache");
afterAll(() => {
  if (cache === undefined) delete process.env.NFC_CACHE;
  else process.env.NFC_CACHE = cache;
});

it("the worked example", { timeout: 120_000 }, async () => {
  const blocks = [...readme.matchAll(/^```console\n([\s\S]*?)^```/gm)].map(([, block]) => block as string);
  const example = blocks.find((block) => block.includes("nfc distill")) as string;
  const steps = example.split(/^\$ npx nfc /m).slice(1);
  expect(steps.length).toBe(8);
  for (const step of steps) {
    const [command, ...shown] = step.trim().split("\n") as [string, ...string[]];
    const args = [...command.replaceAll("out/", `${path("out")}/`).matchAll(/"([^"]*)"|\S+/g)].map(
      ([word, quoted]) => quoted ?? word,
    );
    const { code, stdout, stderr } = await nfc([...args, "--quiet"]);
    expect({ code, stderr }, command).toEqual({ code: 0, stderr: "" });
    const printed = stdout
      .replaceAll(`${path("out")}/`, "out/")
      .split("\n")
      .map(words);
    let from = 0;
    for (const line of shown.filter((each) => each !== "…")) {
      const at = printed.findIndex((other, i) => i >= from && alike(words(line), other));
      expect(at, `${command}: ${line}`).toBeGreaterThanOrEqual(from);
      from = at + 1;
    }
  }
});

/** A line without the columns' padding and the rules' length, which depend on how long names are. */
function words(line: string): string {
  return line.replace(/ +/g, " ").replace(/-{3,}/g, "---").trim();
}

function alike(a: string, b: string): boolean {
  if (a.replace(NUMBER, "#") !== b.replace(NUMBER, "#")) return false;
  const numbers = (text: string) => (text.match(NUMBER) ?? []).map((found) => Number(found.replaceAll(",", "")));
  const others = numbers(b);
  return numbers(a).every((value, i) => Math.abs(value - (others[i] as number)) <= TOLERANCE * Math.max(1, value));
}
