// A process killed at any moment: its output is whole or not there, and an output that was there is whole too.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openSafetensors } from "../../src/formats/safetensors/reader.ts";
import { stageDirectory, writeFileAtomic } from "../../src/io/staging.ts";
import { compileSources } from "../support/compiled-cli.ts";
import { SLOW, slowUnless } from "../support/slow.ts";
import { temporaryFolders } from "./support.ts";

const temporaryFolder = temporaryFolders();
const child = fileURLToPath(new URL("./kill-child.mjs", import.meta.url));
let compiled = "";

beforeAll(async () => {
  compiled = await mkdtemp(join(tmpdir(), "nfc-io-compiled-"));
  await compileSources(compiled);
});

afterAll(async () => {
  await rm(compiled, { recursive: true, force: true });
});

interface Ending {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
}

function start(target: string, mode: string, killAt: number): { process: ChildProcess; ending: Promise<Ending> } {
  const process_ = spawn(process.execPath, [child, compiled, target, mode, String(killAt)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  process_.stdout.on("data", (text) => {
    output += text;
  });
  process_.stderr.on("data", (text) => {
    output += text;
  });
  const ending = new Promise<Ending>((resolve) => {
    process_.on("close", (code, signal) => resolve({ code, signal, output }));
  });
  return { process: process_, ending };
}

/** The version of a whole output folder; fails when it is anything but whole. */
async function wholeVersion(target: string): Promise<number> {
  const { version } = JSON.parse(await readFile(join(target, "config.json"), "utf8"));
  const reader = await openSafetensors(join(target, "model.safetensors.index.json"));
  for (const name of ["a", "b"]) {
    const bytes = await reader.readBytes(name);
    expect(bytes.length).toBe(3_000_000);
    expect(bytes.every((byte) => byte === version)).toBe(true);
  }
  await reader.close();
  expect((await readdir(target)).length).toBe(4);
  return version;
}

/** What the next command on this target does first. It finds a target when there was one, and leaves nothing else. */
async function nextStage(parent: string, target: string): Promise<void> {
  await (await stageDirectory(target, { force: true })).discard();
  expect((await readdir(parent)).filter((name) => name !== "out")).toEqual([]);
}

async function callsOf(target: string, mode: string): Promise<number> {
  const { code, output } = await start(target, mode, 0).ending;
  expect({ code, output }).toMatchObject({ code: 0, output: expect.stringMatching(/^\d+\n$/) });
  return Number(output);
}

describe("a process that is killed before any one of its calls", () => {
  const slow = { ...SLOW, timeout: 120_000 };

  it("a killed process leaves no output, or a whole one", slow, async () => {
    const calls = await callsOf(join(await temporaryFolder(), "out"), "folder");
    expect(calls).toBeGreaterThan(20);
    let committed = 0;
    for (let killAt = 1; killAt <= calls; killAt++) {
      const parent = await temporaryFolder();
      const target = join(parent, "out");
      expect((await start(target, "folder", killAt).ending).signal).toBe("SIGKILL");
      if (existsSync(target)) {
        expect(await wholeVersion(target)).toBe(1);
        committed++;
      }
      const before = existsSync(target);
      await nextStage(parent, target);
      expect(existsSync(target)).toBe(before);
    }
    expect(committed).toBeGreaterThan(0);
    expect(committed).toBeLessThan(calls / 2);
  });

  it(
    "a killed process leaves the output that was there, or the new one whole, at the latest when the next command looks",
    slow,
    async () => {
      const parent = await temporaryFolder();
      const target = join(parent, "out");
      await callsOf(target, "folder");
      const calls = await callsOf(target, "folder");
      let version = await wholeVersion(target);
      let away = 0;
      for (let killAt = 1; killAt <= calls; killAt++) {
        expect((await start(target, "folder", killAt).ending).signal).toBe("SIGKILL");
        if (!existsSync(target)) away++;
        await nextStage(parent, target);
        const now = await wholeVersion(target);
        expect([version, version + 1]).toContain(now);
        version = now;
      }
      // Exactly one call lies between the two renames, where only the backup exists.
      expect(away).toBe(1);
    },
  );

  it("a killed process leaves a single file old or new", async () => {
    const parent = await temporaryFolder();
    const target = join(parent, "out");
    await callsOf(target, "file");
    const calls = await callsOf(target, "file");
    for (let killAt = 1; killAt <= calls; killAt++) {
      const [before] = await readFile(target);
      expect((await start(target, "file", killAt).ending).signal).toBe("SIGKILL");
      const after = await readFile(target);
      expect(after.length).toBe(3_000_000);
      expect([before, (before as number) + 1]).toContain(after[0]);
      expect(after.every((byte) => byte === after[0])).toBe(true);
    }
    await writeFileAtomic(target, "end");
    expect(await readdir(parent)).toEqual(["out"]);
  });
});

describe("a process that is killed from outside at a random moment", () => {
  for (const mode of ["folder-loop", "file-loop"]) {
    it(
      `a process killed at a random moment leaves a whole output (${mode})`,
      slowUnless(mode === "file-loop"),
      async () => {
        const parent = await temporaryFolder();
        const target = join(parent, "out");
        await callsOf(target, mode.replace("-loop", ""));
        for (let round = 0; round < 20; round++) {
          const { process: running, ending } = start(target, mode, 0);
          // From before its first call to several outputs later.
          await new Promise((resolve) => setTimeout(resolve, 50 + 10 * round));
          running.kill("SIGKILL");
          expect(await ending).toMatchObject({ signal: "SIGKILL", output: "" });
          if (mode === "folder-loop") {
            await nextStage(parent, target);
            await wholeVersion(target);
          } else {
            const content = await readFile(target);
            expect(content.length).toBe(3_000_000);
            expect(content.every((byte) => byte === content[0])).toBe(true);
          }
        }
      },
    );
  }
});
