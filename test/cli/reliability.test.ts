// Processes of nfc where it goes wrong outside: a full disk behind the streams, a closed terminal, containers, two at once.
import { spawn, spawnSync } from "node:child_process";
import { closeSync, cpSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { compileCli, start } from "../support/compiled-cli.ts";
import { converted, MODEL, TEXT } from "../support/fixture.ts";
import { SLOW } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { TINY_CONFIG, writeIds, writeJson } from "../support/training.ts";

const path = temporaryFolder("reliability");
const FULL = "/dev/full";
let bin = "";

beforeAll(async () => {
  mkdirSync(path("package"));
  bin = await compileCli(path("package"));
  writeIds(path("ids.bin"));
  writeJson(path("config.json"), TINY_CONFIG);
  await converted({ output: path("model") });
});

const TRAINING =
  "pretrain --config config.json --data ids.bin --threads 1 --steps 100000 --batch-size 4 --length 16 --eval-every 50000 --save-every 20".split(
    " ",
  );
const train = (output: string, ...more: string[]) => [bin, ...TRAINING, "-o", output, ...more];

/** Runs nfc with its stdout or stderr on a full disk. */
function runOnFullDisk(args: string[], full: "stdout" | "stderr"): { status: number | null; stderr: string } {
  const device = openSync(FULL, "w");
  const stdio = full === "stdout" ? (["ignore", device, "pipe"] as const) : (["ignore", "pipe", device] as const);
  const { status, stderr } = spawnSync(process.execPath, [bin, ...args], { stdio: [...stdio], cwd: path("") });
  closeSync(device);
  return { status, stderr: String(stderr ?? "") };
}

describe.skipIf(!existsSync(FULL))("a full disk behind the streams", () => {
  it.each([
    ["--help"],
    ["--version"],
    ["report", MODEL],
    ["report", MODEL, "--json"],
    ["inspect", MODEL],
    ["eval", MODEL, "--text", TEXT, "--json", "-q"],
    ["check", "--config", "size.json"],
    ["check", "--config", "size.json", "--json"],
  ])("nfc %s %s says in one line that stdout is full, and exits with 2", (...args) => {
    writeJson(path("size.json"), { models: [{ path: "model/model.safetensors", limit: "1 kB" }] });
    const { status, stderr } = runOnFullDisk(args, "stdout");
    expect({ status, lines: stderr.split("\n").filter((line) => line.includes("stdout: disk full")).length }).toEqual({
      status: 2,
      lines: 1,
    });
    expect(stderr).not.toMatch(/internal error|at .*\.js/);
  });

  it("what stderr loses changes nothing", () => {
    expect(runOnFullDisk(["report", MODEL], "stderr").status).toBe(0);
    expect(runOnFullDisk(["inspect", "/nowhere"], "stderr").status).toBe(2);
  });
});

describe("a closed terminal", () => {
  it("SIGHUP, sent twice while stderr is gone, saves the run", async () => {
    const child = spawn(process.execPath, train("hangup"), { cwd: path(""), stdio: ["ignore", "ignore", "pipe"] });
    await vi.waitFor(() => expect(existsSync(path("hangup.run/checkpoint"))).toBe(true), { timeout: 30_000 });
    child.stderr.destroy();
    child.kill("SIGHUP");
    child.kill("SIGHUP");
    const code = await new Promise((resolve) => child.on("exit", resolve));
    expect(code).toBe(130);
    const { step } = JSON.parse(readFileSync(path("hangup.run/checkpoint/state.json"), "utf8"));
    const lines = readFileSync(path("hangup.run/metrics.jsonl"), "utf8").trim().split("\n");
    expect(JSON.parse(lines.at(-1) as string).step).toBe(step);
    expect(readdirSync(path("hangup.run"))).not.toContain("lock");
  });
});

it("two commands that note their results in one nfc.json at once lose none", async () => {
  cpSync(path("model"), path("noted"), { recursive: true });
  const texts = ["a.txt", "b.txt", "c.txt"].map((name, n) => {
    writeFileSync(path(name), readFileSync(TEXT, "utf8").slice(n, 3000 + n));
    return path(name);
  });
  const runs = texts.map((text) => start(bin, ["eval", path("noted"), "--text", text, "--threads", "1"]).ending);
  for (const { code, stderr } of await Promise.all(runs))
    expect({ code, ...(code && { stderr }) }).toEqual({ code: 0 });
  const { perplexity } = JSON.parse(readFileSync(path("noted/nfc.json"), "utf8"));
  expect(perplexity.map(({ file }: { file: string }) => file).sort()).toEqual(["a.txt", "b.txt", "c.txt"]);
  expect(readdirSync(path("noted")).sort()).toEqual(readdirSync(path("model")).sort());
});

const CONTAINER = ["-pf", "--mount-proc", "--kill-child"];
const hasContainers = spawnSync("unshare", [...CONTAINER, "true"]).status === 0;

describe.skipIf(!hasContainers)("containers, in which nfc is process 1", () => {
  /** Runs nfc as process 1 of a process namespace of its own. */
  function startContained(args: string[]) {
    const child = spawn("unshare", [...CONTAINER, process.execPath, ...args], {
      cwd: path(""),
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (piece) => {
      stderr += piece;
    });
    const ending = new Promise<{ code: number | null; stderr: string }>((resolve) => {
      child.on("close", (code) => resolve({ code, stderr }));
    });
    return { child, ending };
  }

  it("a run is refused while another container works on it, and taken over once that is killed", SLOW, async () => {
    const first = startContained(train("shared"));
    const lock = path("shared.run/lock");
    await vi.waitFor(() => expect(existsSync(path("shared.run/checkpoint"))).toBe(true), { timeout: 30_000 });
    expect(JSON.parse(readFileSync(lock, "utf8")).pid).toBe(1);
    const second = await startContained(train("shared", "--resume")).ending;
    expect(second.code).toBe(2);
    expect(second.stderr).toMatch(/^nfc: shared\.run: process 1 of \S+ is at work in it;/m);
    first.child.kill("SIGKILL");
    await first.ending;
    const before = readFileSync(lock, "utf8");
    const third = startContained(train("shared", "--resume"));
    await vi.waitFor(() => expect(readFileSync(lock, "utf8")).not.toBe(before), { timeout: 40_000 });
    await sleep(500);
    third.child.kill("SIGKILL");
    expect((await third.ending).stderr).not.toContain("at work");
    expect(existsSync(join(path("shared.run"), "checkpoint/state.json"))).toBe(true);
  });
});
