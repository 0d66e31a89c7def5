// README's worked example runs as it is written, and prints what is shown there.
import { afterAll, expect, it } from "vitest";
import { nfc } from "../support/cli.ts";
import { areAlike, readFences } from "../support/markdown.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("readme");

const cache = process.env.NFC_CACHE;
process.env.NFC_CACHE = path("cache");
afterAll(() => {
  if (cache === undefined) delete process.env.NFC_CACHE;
  else process.env.NFC_CACHE = cache;
});

it("the worked example of the README runs and prints what it says", { timeout: 120_000 }, async () => {
  const example = readFences("README.md").find(({ text }) => text.includes("nfc distill"))?.text as string;
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
      const at = printed.findIndex((other, i) => i >= from && areAlike(words(line), other));
      expect(at, `${command}: ${line}`).toBeGreaterThanOrEqual(from);
      from = at + 1;
    }
  }
});

/** A line without the columns' padding and the rules' length, which depend on how long names are. */
function words(line: string): string {
  return line.replace(/ +/g, " ").replace(/-{3,}/g, "---").trim();
}
