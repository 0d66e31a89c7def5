// What the training commands refuse: one line, exit code 2, nothing written.
import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { checkDevice, DEVICES } from "../../src/graph/session.ts";
import { nfc, refused } from "../support/cli.ts";
import { SHORT, studentForTests } from "../support/cli-train.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { writeIds } from "../support/training.ts";

const path = temporaryFolder("cli-train-refused");
const { student, cache, output } = studentForTests(path);

describe("refusals of nfc distill, finetune and pretrain", () => {
  const distill = (...flags: string[]) => ["distill", student, "--teacher", MODEL, "--data", TEXT, ...cache, ...flags];

  it.each<[string[], string]>([
    [
      ["--train", "some"],
      "option '--train <part>' argument 'some' is invalid: Allowed choices are all, attention, noise; nfc distill --help shows the flags",
    ],
    [["--device", "tpu"], "argument 'tpu' is invalid: Allowed choices are cpu, cuda, webgpu, dml, coreml"],
    [["--teacher-precision", "int4"], "argument 'int4' is invalid: Allowed choices are fp32, int8"],
    [["--lr", "0"], "option '--lr <rate>' argument '0' is invalid: not a positive number"],
    [["--steps", "1.5"], "not a positive integer"],
    [["--warmup", "-1"], "not a number from 0"],
    [["--seed", "x"], "not an integer from 0 to 16777216"],
    [["--kd", "2"], "--kd 2 is not between 0 and 1; 0 is labels alone, 1 the teacher alone"],
    [["--length", "65"], "windows of 65 tokens, but the model has 64 positions; give a smaller --length"],
    [["--transfer-steps", "9", "--steps", "3"], "9 steps of attention transfer in a run of 3; lower --transfer-steps"],
    [["--resume"], "there is no run to go on with; leave out --resume"],
    [["--valid", "/nowhere.txt"], "/nowhere.txt: no such file or folder; check the path"],
    [["--kd", "0.5", "--bogus"], "unknown option '--bogus'"],
  ])("nfc distill %j is refused in one line", async (flags, line) => {
    expect(await refused(distill("-o", output(), ...flags))).toContain(line);
  });

  it("a missing required option or file is refused in one line", async () => {
    expect(await refused(["distill", student, "--teacher", MODEL, "-o", output()])).toBe(
      "nfc distill needs text to train on; give it with --data FILE",
    );
    expect(await refused(["finetune", MODEL, "-o", output()])).toContain("required option '--data <paths...>'");
    expect(await refused(["finetune", MODEL, "--data", TEXT])).toContain("required option '-o, --output <folder>'");
    expect(await refused(["pretrain", "--data", TEXT, "-o", output()])).toContain("required option '--config <file>'");
    expect(await refused(["pretrain", "--config", "/nowhere.json", "--data", TEXT, "-o", output()])).toContain(
      "/nowhere.json: no such file",
    );
  });

  it("a corpus of text and token ids together is refused in one line", async () => {
    const ids = writeIds(path("mixed.bin"));
    expect(await refused(["finetune", MODEL, "--data", ids, TEXT, "-o", output()])).toContain(
      "a corpus is one or the other",
    );
  });

  it("a run that diverges is refused in one line, and as an object with --json", async () => {
    const out = output();
    const line = [
      "finetune",
      MODEL,
      "--data",
      TEXT,
      "-o",
      out,
      ...SHORT,
      ...cache,
      "--lr",
      "1e30",
      "--warmup",
      "0",
      "-q",
      "--json",
    ];
    const { code, stdout, stderr } = await nfc(line);
    expect(code).toBe(2);
    expect(stderr).toMatch(
      /^nfc: step 2: the run has diverged \(loss \S+, nll \S+, gradient norm \S+\); no checkpoint yet in \S+; start over [^\n]+\n$/,
    );
    expect(JSON.parse(stdout).error.code).toBe("diverged");
    expect(await refused(["finetune", MODEL, "--data", TEXT, "-o", out, ...SHORT, ...cache])).toContain(
      `${out}.run: an unfinished run is there; go on with --resume, or start over with --force`,
    );
  });

  it.each(DEVICES.filter((device) => device !== "cpu"))(
    "--device %s is refused where there is none, and nothing is written",
    async (device) => {
      const out = output();
      const line = ["finetune", MODEL, "--data", TEXT, "-o", out, ...SHORT, ...cache, "--device", device, "-q"];
      const { code, stderr } = await nfc(line);
      if (code === 0) {
        await checkDevice(device); // such a machine has the device
        return;
      }
      expect(code).toBe(2);
      expect(stderr).toMatch(new RegExp(`^nfc: [^\\n]+; [^\\n]*leave out --device ${device}\\n$`));
      expect(stderr).toContain(device);
      expect([existsSync(out), existsSync(`${out}.run`)]).toEqual([false, false]);
    },
  );
});
