// Progress on stderr: a spinner on a terminal, plain lines elsewhere, no colour where none is wanted.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { describe as describeEvent, Progress } from "../../src/cli/progress.ts";
import type { ProgressEvent } from "../../src/progress.ts";
import { nfc, Recorder } from "../support/cli.ts";
import { MODEL } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("progress");
let count = 0;
const convert = () => ["convert", MODEL, "-o", path(`out-${count++}`), "--tie", "mean", "--variant", "symmetric"];

describe("a line of progress", () => {
  it.each<[ProgressEvent, string]>([
    [{ phase: "tying", detail: "h.3", done: 4, total: 12, unit: "layers" }, "tying h.3 (4/12)"],
    [{ phase: "writing", done: 12_100_000, total: 469_400_000, unit: "bytes" }, "writing 12.1 MB of 469.4 MB"],
    [{ phase: "downloading", detail: "a.json", done: 512, total: null, unit: "bytes" }, "downloading a.json 512 B"],
    [{ phase: "scoring", done: 12_288, total: null, unit: "tokens" }, "scoring 12,288 tokens"],
    [{ phase: "scoring", done: 1000, total: 2000, unit: "tokens" }, "scoring 1,000 of 2,000 tokens"],
    [{ phase: "verifying", done: 0, total: null, unit: "steps" }, "verifying"],
  ])("the event %j reads as a sentence", (event, line) => {
    expect(describeEvent(event)).toBe(line);
  });
});

describe("progress without a terminal", () => {
  const bytes = (phase: string, done: number): ProgressEvent => ({ phase, done, total: 100, unit: "bytes" });

  async function open() {
    const stderr = new Recorder();
    const io = { argv: [], env: {}, stdout: new Recorder(), stderr, on: () => {}, off: () => {} };
    return { progress: await Progress.open(io, {}), lines: () => stderr.text.split("\n").slice(0, -1) };
  }

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["performance", "setInterval", "clearInterval"] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("each phase prints its first event, then at most one line per tenth and per second", async () => {
    const { progress, lines } = await open();
    for (let done = 0; done <= 100; done++) {
      progress.show(bytes("writing", done));
      vi.advanceTimersByTime(60);
    }
    expect(lines().length).toBeGreaterThan(3);
    expect(lines().length).toBeLessThanOrEqual(7);
    expect(lines()[0]).toBe("writing 0 B of 100 B");
  });

  it("phases side by side print no more lines", async () => {
    const { progress, lines } = await open();
    for (let done = 0; done <= 100; done++) for (const phase of ["tying", "writing"]) progress.show(bytes(phase, done));
    expect(lines()).toEqual(["tying 0 B of 100 B", "writing 0 B of 100 B"]);
  });

  it("a phase that says nothing gets lines with the seconds that have passed, ever fewer of them", async () => {
    const { progress, lines } = await open();
    progress.show({ phase: "verifying", done: 0, total: null, unit: "steps" });
    vi.advanceTimersByTime(100_000);
    expect(lines()).toEqual(["verifying", "verifying, 10 s", "verifying, 30 s", "verifying, 70 s"]);
    progress.stop();
    vi.advanceTimersByTime(1_000_000);
    expect(lines()).toHaveLength(4);
  });

  it("a brief phase gets a line only if it lasts for more than two seconds", async () => {
    const { progress, lines } = await open();
    const saving: ProgressEvent = {
      phase: "saving",
      detail: "step 50",
      done: 0,
      total: null,
      unit: "steps",
      brief: true,
    };
    progress.show(saving);
    vi.advanceTimersByTime(1900);
    progress.show(bytes("writing", 1));
    expect(lines()).toEqual(["writing 1 B of 100 B"]);
    progress.show(saving);
    vi.advanceTimersByTime(3000);
    expect(lines()).toEqual(["writing 1 B of 100 B", "saving step 50, 2 s"]);
    progress.stop();
  });

  it("progress without a terminal is plain text, without color and cursor movement", async () => {
    const { stderr } = await nfc(convert());
    expect(stderr).toMatch(/^tying h\.0 \(0\/2\)\n/);
    expect(stderr).toMatch(/^[\n -~]*$/);
  });
});

describe("progress on a terminal", () => {
  const cyan = "\u001b[36m";

  beforeEach(() => {
    // What ora asks about the process's own terminal.
    vi.stubEnv("TERM", "xterm");
    vi.stubEnv("FORCE_COLOR", "1");
    vi.stubEnv("NO_COLOR", undefined);
    vi.stubEnv("CI", undefined);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it("progress is a spinner that is cleared at the end, with the cursor shown again", async () => {
    const { code, stdout, stderr } = await nfc(convert(), { tty: true });
    expect(code).toBe(0);
    expect(stderr).toContain("tying h.0 (0/2)");
    expect(stderr).not.toContain("tying h.0 (0/2)\n");
    expect(stderr).toContain("<clear>");
    expect(stderr).toContain(cyan);
    expect(stderr.lastIndexOf("\u001b[?25h")).toBeGreaterThan(stderr.lastIndexOf("\u001b[?25l"));
    expect(stdout).not.toContain("\u001b");
  });

  it("a phase that says nothing moves by the seconds that have passed", async () => {
    vi.useFakeTimers({ toFake: ["performance", "setInterval", "clearInterval"] });
    const stderr = Object.assign(new Recorder(), {
      ...{ isTTY: true, columns: 80, rows: 24, clearLine: () => true, cursorTo: () => true, moveCursor: () => true },
      getColorDepth: () => 8,
    });
    const io = { argv: [], env: {}, stdout: new Recorder(), stderr, on: () => {}, off: () => {} };
    const progress = await Progress.open(io, {});
    progress.show({ phase: "building the graph", done: 0, total: null, unit: "steps", brief: true });
    expect(stderr.text).toContain("building the graph");
    vi.advanceTimersByTime(5000);
    for (const seconds of [2, 3, 4, 5]) expect(stderr.text).toContain(`building the graph, ${seconds} s`);
    progress.stop();
    vi.useRealTimers();
  });

  it("progress has no color with NO_COLOR", async () => {
    const { stderr } = await nfc(convert(), { tty: true, env: { NO_COLOR: "1" } });
    expect(stderr).toContain("tying");
    expect(stderr).not.toContain(cyan);
  });

  it("progress ends before an error is printed", async () => {
    const args = ["convert", MODEL, "-o", path("failing"), "--calibration", MODEL];
    const { code, stderr } = await nfc(args, { tty: true });
    expect(code).toBe(2);
    expect(stderr.endsWith("\n")).toBe(true);
    expect(stderr).toContain("nfc: ");
    expect(stderr.indexOf("nfc: ")).toBeGreaterThan(stderr.lastIndexOf("<clear>"));
  });
});
