// --dry-run of the training commands as it is typed: what it prints, in words and as JSON.
import { expect, it } from "vitest";
import { nfc } from "../support/cli.ts";
import { SHORT, studentForTests } from "../support/cli-train.ts";
import { digest, MODEL, TEXT } from "../support/fixture.ts";
import { SLOW } from "../support/slow.ts";
import { writeSst2 } from "../support/task-data.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("cli-dry-run");
const { student, cache, output } = studentForTests(path);

it("nfc distill --dry-run prints a table of at most 80 columns, and writes nothing", async () => {
  const before = digest(path(""));
  const out = output();
  const line = ["distill", student, "--teacher", MODEL, "--data", TEXT, "-o", out, ...SHORT, ...cache, "--dry-run"];
  const { code, stdout, stderr } = await nfc([...line, "--price", "3600"]);
  expect(code, stderr).toBe(0);
  expect(digest(path(""))).toEqual(before);
  const time = /[\d.]+ (?:s|min)/.source;
  const lines = [
    `dry run of ${out}: nothing was written`,
    "steps     3: 1 of attention transfer, 2 of training",
    "tokens    192, 64 a step",
    /text {6}\d+,\d+ tokens, read 0\.\d+ times/,
    /held-out {2}4 evaluations on [\d,]+ tokens/,
    /work {6}0\.999 MFLOP a token: 0\.737 of the model, 0\.262 of its teacher/,
    /rate {6}[\d.]+ [MG]FLOP\/s measured, [\d.,]+ tokens\/s/,
    new RegExp(`time {6}about ${time}`),
    new RegExp(` {10}${time} a step of attention transfer`),
    new RegExp(` {10}${time} a step of training`),
    new RegExp(` {10}${time} an evaluation`),
    /money {5}about [\d.]+ at 3600 an hour/,
    /memory {4}[\d.,]+ MB/,
    /disk {6}3\.4 MB while it runs, then 482\.8 kB/,
    / {10}\d+\.\d kB of cache files/,
  ];
  const printed = stdout.trimEnd().split("\n");
  expect(printed.length).toBe(lines.length);
  for (const line of printed.slice(1)) expect(line.length).toBeLessThanOrEqual(80);
  for (const [i, expected] of lines.entries())
    if (typeof expected === "string") expect(printed[i]).toBe(expected);
    else expect(printed[i]).toMatch(new RegExp(`^${expected.source}$`));
  expect(stderr).toMatch(/measuring steps of training \(\d\/6\)/);
});

it("nfc pretrain --dry-run and nfc finetune --task --dry-run print an object with --json", SLOW, async () => {
  const before = digest(path(""));
  const pretrain = ["pretrain", "--config", `${MODEL}/config.json`, "--data", TEXT, "-o", output(), ...SHORT, ...cache];
  const first = JSON.parse((await nfc([...pretrain, "--dry-run", "--price", "7.2", "--json", "-q"])).stdout);
  expect(first).toMatchObject({ dryRun: true, tokens: 192, steps: { transfer: 0, train: 3, done: 0 } });
  const { flopsPerToken, rate, seconds, price } = first;
  // Twice the weights of two layers of width 64 and of a head of 384 rows, and attention to 32 tokens; thrice for training.
  const student = 3 * (2 * (2 * 12 * 64 ** 2 + 384 * 64) + 4 * 32 * 64 * 2);
  expect(flopsPerToken).toEqual({ student, teacher: 0 });
  expect(rate.tokensPerSecond).toBeCloseTo(64 / seconds.trainStep, 6);
  expect(rate.flopsPerSecond).toBeCloseTo(student * rate.tokensPerSecond, 0);
  expect(price).toEqual({ perHour: 7.2, total: (7.2 * seconds.total) / 3600 });
  expect(digest(path(""))).toEqual(before);
  const data = writeSst2(path("SST-2"));
  const task = ["finetune", MODEL, "--task", "sst2", "--data", data, "-o", output(), "--epochs", "2"];
  const { stdout } = await nfc([...task, "--dry-run", "--price", "0.001"]);
  expect(stdout).toMatch(/^dry run of .*\nsteps {5}10 at most, of 32 examples\nexamples {2}160, read 2 times\n/);
  expect(stdout).toMatch(/\nmoney {5}under 0\.01 at 0\.001 an hour\n/);
});

it("--price is refused where nothing is said of time", async () => {
  const line = ["pretrain", "--config", `${MODEL}/config.json`, "--data", TEXT, "-o", output(), "--price", "1"];
  const { code, stderr } = await nfc([...line, "-q"]);
  expect([code, stderr.trim()]).toEqual([2, "nfc: --price says what a dry run costs, and this is none; add --dry-run"]);
});
