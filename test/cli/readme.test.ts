// README's three commands and its worked example run as they are written, and print what is shown there.
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { nfc } from "../support/cli.ts";
import { MODEL } from "../support/fixture.ts";
import { areAlike, readFences } from "../support/markdown.ts";
import { SLOW } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("readme");

const cache = process.env.NFC_CACHE;
process.env.NFC_CACHE = path("cache");
afterAll(() => {
  if (cache === undefined) delete process.env.NFC_CACHE;
  else process.env.NFC_CACHE = cache;
});

it("the worked example of the README runs and prints what it says", { ...SLOW, timeout: 120_000 }, async () => {
  const example = readFence("$ npx nfc inspect");
  const steps = example.split(/^\$ npx nfc /m).slice(1);
  expect(steps.length).toBe(10);
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

it("the three commands of the README run in a folder of model and text, and print what it says", {
  timeout: 120_000,
}, async () => {
  const written = readFence("nfc convert gpt2.safetensors");
  const transcript = readFence("$ npx nfc convert tiny-gpt2\n");
  const commands = (text: string) => [...text.matchAll(/^(?:\$ npx )?nfc ([^#\n]+)/gm)].map(([, line]) => line?.trim());
  const named = commands(written).map((line) => line?.replace("gpt2.safetensors", "tiny-gpt2"));
  expect(commands(transcript)).toEqual(named);
  expect(named.length).toBe(3);
  mkdirSync(path("three"));
  cpSync(MODEL, path("three", "tiny-gpt2"), { recursive: true });
  cpSync(join(MODEL, "../train.txt"), path("three", "text.txt"));
  const home = process.cwd();
  process.chdir(path("three"));
  try {
    for (const step of transcript.split(/^\$ npx nfc /m).slice(1)) {
      const [command, ...shown] = step.trim().split("\n") as [string, ...string[]];
      // The 1,000 steps of the README take minutes: its numbers are those of a real run, the test's of a short one.
      const short = command.startsWith("distill") ? ["--steps", "20"] : [];
      const { code, stdout, stderr } = await nfc([...command.split(" "), ...short]);
      expect(code, stderr).toBe(0);
      expect(stderr.split("\n")[0]).toBe(shown[0]);
      const form = (line: string) => (short.length > 0 ? words(line).replace(/[\d.,]+/g, "#") : words(line));
      const printed = stdout.trimEnd().split("\n").map(form);
      const lines = shown
        .slice(1)
        .filter((line) => line !== "…")
        .map(form);
      expect(printed.length).toBe(lines.length);
      for (const [i, line] of lines.entries())
        expect(areAlike(line, printed[i] as string), `${line}: ${printed[i]}`).toBe(true);
    }
  } finally {
    process.chdir(home);
  }
});

function readFence(part: string): string {
  return readFences("README.md").find(({ text }) => text.includes(part))?.text as string;
}

/** A line without the columns' padding and the rules' length, which depend on how long names are. */
function words(line: string): string {
  return line.replace(/ +/g, " ").replace(/-{3,}/g, "---").trim();
}
