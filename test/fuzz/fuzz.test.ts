// A short run of the fuzzers with a fixed seed, and what they must notice: faults, other exit codes, hangs and deaths.
import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../support/temp-folder.ts";
import { judge } from "./command-line.ts";
import { makeInput } from "./mutate.ts";
import { runTarget } from "./run-target.ts";
import type { Target } from "./target.ts";
import { TARGETS } from "./targets.ts";
import { watchProcess } from "./watch.ts";

const path = temporaryFolder("fuzz");
const SEED = 1;

describe("spoiled inputs", () => {
  const parsers = TARGETS.filter(({ kind }) => kind === "parser");
  it.each(parsers)("$name reads or refuses them", async (target) => {
    const folder = path("parsers", target.name);
    expect(await runTarget(target, { seed: SEED, from: 0, to: 40, folder })).toEqual({ count: 40, findings: [] });
  });

  // One file of each command is enough here.
  const commandOf = ({ name }: Target) => name.split("+")[0];
  const commands = TARGETS.filter(({ kind }) => kind === "command").filter(
    (target, i, all) => all.findIndex((each) => commandOf(each) === commandOf(target)) === i,
  );
  it.each(commands)("$name ends with a result or one line", async (target) => {
    const folder = path("commands", target.name.replaceAll("+", "-"));
    expect(await runTarget(target, { seed: SEED, from: 0, to: 3, folder })).toEqual({ count: 3, findings: [] });
  });
});

describe("the fuzzers", () => {
  const target = (run: () => unknown): Target => ({
    ...{ kind: "parser", name: "made", format: "json" },
    prepare: async () => ({
      valid: [Buffer.from('{"a":[1,2,{"b":"c"}],"d":null}')],
      run: async () => (await run()) as null,
    }),
  });

  it("the same seed makes the same inputs, and another seed others", async () => {
    const { valid } = await target(() => null).prepare("");
    for (const format of ["json", "bytes", "lines"] as const) {
      const inputs = (seed: number) =>
        Array.from({ length: 50 }, (_, index) =>
          Buffer.from(makeInput({ name: "a", format, valid }, seed, index)).toString(),
        );
      expect(inputs(1)).toEqual(inputs(1));
      expect(inputs(1)).not.toEqual(inputs(2));
      expect(new Set(inputs(1)).size).toBeGreaterThan(30);
    }
  });

  it("an error that is none of nfc's, and a fault that a target names, are findings", async () => {
    const limits = { seed: 7, from: 3, to: 5, folder: path("made") };
    const thrown = await runTarget(
      target(() => {
        throw new TypeError("x is undefined");
      }),
      limits,
    );
    expect(thrown.findings).toMatchObject(
      [3, 4].map((index) => ({
        target: "made",
        seed: 7,
        index,
        fact: expect.stringContaining("TypeError: x is undefined"),
      })),
    );
    const named = await runTarget(
      target(() => "two lines"),
      limits,
    );
    expect(named).toMatchObject({ count: 2, findings: [{ fact: "two lines" }, { fact: "two lines" }] });
    expect(
      (
        await runTarget(
          target(() => null),
          limits,
        )
      ).findings,
    ).toEqual([]);
  });

  it("a command is judged by its exit code, its lines and its characters", () => {
    const ending = { code: 2, stdout: "", stderr: "note: a\nnfc: b; c\n" };
    expect(judge(ending, [0, 2])).toBeNull();
    expect(judge({ ...ending, code: 70 }, [0, 2])).toMatch(/^exit 70: note: a \| nfc: b/);
    expect(judge({ ...ending, stderr: "nfc: b\nnfc: c\n" }, [0, 2])).toMatch(/without one line/);
    expect(judge({ ...ending, stderr: "" }, [0, 2])).toMatch(/without one line/);
    expect(judge({ ...ending, stdout: "a\u001b[2J" }, [0, 2])).toBe("prints U+1b as it is");
  });

  it("a process that hangs is ended, one that dies is told, each with the number of its input", async () => {
    const script = (name: string, body: string) => {
      const [file, progress] = [path(`${name}.cjs`), path(`${name}.progress`)];
      writeFileSync(file, `require("node:fs").writeFileSync(${JSON.stringify(progress)}, "12");${body}`);
      return watchProcess([file], progress, 600);
    };
    expect(await script("hangs", "for(;;);")).toMatchObject({ at: 12, hung: true, signal: "SIGKILL" });
    expect(await script("dies", "process.abort();")).toMatchObject({ at: 12, hung: false, signal: "SIGABRT" });
    expect(await script("ends", "")).toMatchObject({ at: 12, hung: false, code: 0 });
  });
});
