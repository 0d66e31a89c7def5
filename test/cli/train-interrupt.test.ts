// SIGINT in a training run: it saves, ends with 130 and says how to go on; a second SIGINT ends it at once.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { interrupted, nfc } from "../support/cli.ts";
import { compileCli, start } from "../support/compiled-cli.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { metricsOf, TINY_CONFIG, weightsOf, writeIds, writeJson } from "../support/training.ts";

const path = temporaryFolder("train-interrupt");
let data = "";
let config = "";

beforeAll(() => {
  data = writeIds(path("ids.bin"));
  config = writeJson(path("config.json"), { ...TINY_CONFIG, nfc_variant: "noise-per-head" });
});

function args(output: string, steps: number, more: string[] = []): string[] {
  const shape = [
    "--steps",
    String(steps),
    "--batch-size",
    "2",
    "--length",
    "16",
    "--eval-tokens",
    "60",
    "--threads",
    "1",
  ];
  return ["pretrain", "--config", config, "--data", data, "-o", output, ...shape, ...more];
}

describe("an interrupted training run", () => {
  it.each(["SIGINT", "SIGTERM", "SIGHUP"])(
    "a run interrupted by %s exits with 130 and one line, and --resume ends with the same bytes",
    async (signal) => {
      const output = path(signal);
      const { code, stdout, stderr } = await interrupted(args(output, 40), "pretraining", signal);
      expect({ code, stdout }).toEqual({ code: 130, stdout: "" });
      expect(stderr.trimEnd().split("\n").at(-1)).toBe(
        `nfc: interrupted; step 1 of 40 is saved in ${output}.run; the same command with --resume goes on from there`,
      );
      expect(existsSync(output)).toBe(false);
      const resumed = await nfc(args(output, 40, ["--resume", "--json"]));
      expect(resumed.code).toBe(0);
      expect(JSON.parse(resumed.stdout).resumedFrom).toBe(1);
      await nfc(args(path(`${signal}-whole`), 40));
      expect(weightsOf(output).equals(weightsOf(path(`${signal}-whole`)))).toBe(true);
      expect(metricsOf(output)).toEqual(metricsOf(path(`${signal}-whole`)));
    },
  );

  it("an interrupted run is an object with --json", async () => {
    const output = path("json");
    const { code, stdout } = await interrupted(args(output, 40, ["--json"]), "pretraining");
    expect(code).toBe(130);
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: "aborted",
        message: `interrupted; step 1 of 40 is saved in ${output}.run`,
        hint: "the same command with --resume goes on from there",
      },
    });
  });

  it("a run interrupted before its first step writes nothing", async () => {
    const output = path("early");
    const { code, stderr } = await interrupted(args(output, 4), "hashing the corpus");
    expect(code).toBe(130);
    expect(stderr.endsWith("nfc: interrupted; nothing was written\n")).toBe(true);
    expect(readdirSync(path("")).filter((name) => name.includes("early"))).toEqual([]);
  });

  it("an interrupted run that cannot save says why, and exits with 130", async () => {
    const output = path("full");
    const line = args(output, 40);
    const { code, stderr } = await nfc(line, {
      onStderr: (text, signals) => {
        if (!text.includes("pretraining")) return;
        writeFileSync(`${output}.run/checkpoint`, "in the way");
        signals.emit("SIGINT");
      },
    });
    expect(code).toBe(130);
    expect(stderr).toMatch(
      /nfc: interrupted; step 1 of 40 could not be saved \(\S+checkpoint: .+\); no checkpoint yet in \S+;/,
    );
  });
});

describe("a training process", () => {
  let bin = "";
  beforeAll(async () => {
    mkdirSync(path("package"));
    bin = await compileCli(path("package"));
  });
  const endless = (output: string) => args(path(output), 1_000_000, ["--eval-every", "1000000"]);

  it("the first SIGINT saves the run", async () => {
    const child = start(bin, endless("once"));
    await child.shows("pretraining");
    child.process.kill("SIGINT");
    const { code, stderr } = await child.ending;
    expect(code).toBe(130);
    const [, step] = /interrupted; step (\d+) of 1000000 is saved/.exec(stderr) ?? [];
    const state = JSON.parse(readFileSync(join(path("once.run"), "checkpoint/state.json"), "utf8"));
    expect(state.step).toBe(Number(step));
  });

  it("the second SIGINT ends the process at once, and the saved run is intact", async () => {
    const child = start(bin, [...endless("twice"), "--save-every", "1"]);
    await child.shows("pretraining");
    child.process.kill("SIGINT");
    // The signal is taken between steps: the second one must not come before.
    const again = setInterval(() => child.process.kill("SIGINT"), 1);
    const { code, signal, stderr } = await child.ending;
    clearInterval(again);
    // By the signal, which a shell shows as 130; or it was faster.
    expect(signal === "SIGINT" || code === 130, stderr).toBe(true);
    const { code: resumed, stderr: line } = await interruptedProcess(bin, [...endless("twice"), "--resume"]);
    expect(resumed, line).toBe(130);
  });

  async function interruptedProcess(file: string, line: string[]) {
    const child = start(file, line);
    await child.shows("pretraining");
    child.process.kill("SIGINT");
    return child.ending;
  }
});
