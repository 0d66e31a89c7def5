// convert and export killed at many moments: the output is whole or not there, and one that was there is whole, too.
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { convert } from "../../src/convert/convert.ts";
import { exportModel } from "../../src/export/export-model.ts";
import { stageDirectory } from "../../src/io/staging.ts";
import { compileCli, start } from "../support/compiled-cli.ts";
import { digest, opened } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { SLOW, slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("kill");
/** Moments at which a run is killed, from its start to beyond its end. */
const MOMENTS = 12;
let bin = "";
let source = "";
let count = 0;

beforeAll(async () => {
  mkdirSync(path("package"));
  bin = await compileCli(path("package"));
  // 3.7 MB, so that writing takes a while.
  source = await writeCheckpoint(path("source"), { width: 64, heads: 4, layers: 4, vocab: 10_000, positions: 64 });
});

function folder(): string {
  const made = path(`f${count++}`);
  mkdirSync(made);
  return made;
}

interface Subject {
  name: string;
  /** The command line that makes `out` in the current folder. */
  args: (flags?: string[]) => string[];
  /** Flags of another output, to be replaced. */
  other: string[];
  /** The next run, in this process. */
  next: (output: string, force: boolean) => Promise<unknown>;
}

const SUBJECTS: Subject[] = [
  {
    name: "convert",
    args: (flags = []) => ["convert", source, "-o", "out", "--threads", "2", ...flags],
    other: ["--variant", "noise-shared"],
    next: (output, force) =>
      opened(source, (model) => convert(model, { output, force, variant: "symmetric", strategy: "mean" })),
  },
  {
    name: "export",
    // Shared weights: the export with the most files, and a link.
    args: (flags = ["--share-weights"]) => ["export", source, "-o", "out", "--threads", "2", ...flags],
    other: ["--external-data"],
    next: (output, force) =>
      opened(source, (model) => exportModel(model, { output, force, safetensors: { dtype: "F16" } })),
  },
];

/** Runs a command line in `cwd` to its end; gives what `out` then is, and how long it took. */
async function complete(cwd: string, args: string[]): Promise<{ files: Record<string, string>; took: number }> {
  const began = performance.now();
  const { code, stderr } = await start(bin, args, { cwd }).ending;
  expect({ code, ...(code !== 0 && { stderr }) }).toEqual({ code: 0 });
  return { files: digest(join(cwd, "out")), took: performance.now() - began };
}

/** Starts a command line and kills it after `delay`; false when it had ended before. */
async function killed(cwd: string, args: string[], delay: number): Promise<boolean> {
  const running = start(bin, args, { cwd });
  await new Promise((resolve) => setTimeout(resolve, delay));
  running.process.kill("SIGKILL");
  return (await running.ending).signal === "SIGKILL";
}

const momentsOf = (took: number) => Array.from({ length: MOMENTS }, (_, i) => (took * (i + 1) * 1.1) / MOMENTS);

describe.each(SUBJECTS)("$name, killed by a signal", ({ name, args, other, next }) => {
  const slow = { ...SLOW, timeout: 120_000 };
  const quick = { ...slowUnless(name === "convert"), timeout: 120_000 };

  it("a killed command leaves a complete output or none, and the next run clears the rest", quick, async () => {
    const { files, took } = await complete(folder(), args());
    const endings = { killed: 0, nothing: 0 };
    for (const delay of momentsOf(took)) {
      const cwd = folder();
      const out = join(cwd, "out");
      if (await killed(cwd, args(), delay)) endings.killed++;
      if (existsSync(out)) expect(digest(out)).toEqual(files);
      else endings.nothing++;
      await next(out, existsSync(out));
      expect(readdirSync(cwd)).toEqual(["out"]);
    }
    expect(endings.killed).toBeGreaterThan(MOMENTS / 3);
    expect(endings.nothing).toBeGreaterThan(0);
  });

  it("a killed command with --force leaves the existing output as it was, or the new one complete", slow, async () => {
    const cwd = folder();
    const out = join(cwd, "out");
    const { files: old } = await complete(cwd, args(other));
    const force = [...args(), "--force"];
    const fresh = await complete(folder(), force);
    expect(fresh.files).not.toEqual(old);
    let kills = 0;
    for (const delay of momentsOf(fresh.took)) {
      if (await killed(cwd, force, delay)) kills++;
      // Between two renames only a backup is there: the next command puts it back before anything else.
      if (!existsSync(out)) await (await stageDirectory(out, { force: true })).discard();
      const now = digest(out);
      expect([old, fresh.files]).toContainEqual(now);
    }
    expect(kills).toBeGreaterThan(MOMENTS / 3);
    await next(out, true);
    expect(readdirSync(cwd)).toEqual(["out"]);
  });
});
