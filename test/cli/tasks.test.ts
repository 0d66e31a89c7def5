// nfc finetune --task, nfc eval --task and nfc glue: what they print, write and refuse.
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import type { GlueCell } from "../../src/tasks/glue/cells.ts";
import { interrupted, nfc } from "../support/cli.ts";
import { converted, MODEL } from "../support/fixture.ts";
import { writeSst2 } from "../support/task-data.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("tasks-cli");
const data = writeSst2(path("glue/SST-2"));
const QUICK = ["--epochs", "6", "--lr", "0.003", "--batch-size", "16", "--length", "24", "--threads", "1"];

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await nfc(args);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}

beforeAll(async () => {
  await ok("finetune", MODEL, "--task", "sst2", "--data", data, "-o", path("tuned"), ...QUICK);
});

describe("nfc finetune --task", () => {
  it("nfc finetune --task prints the score with its interval", async () => {
    const stdout = await ok("finetune", MODEL, "--task", "SST-2", "--data", data, "-o", path("again"), ...QUICK);
    expect(stdout).toMatch(/^model +metric +score +95 % interval +loss$/m);
    expect(stdout).toMatch(/accuracy +\d+\.\d\d % +\d+\.\d\d % to \d+\.\d\d % +\d\.\d{4}/);
    expect(stdout).toMatch(/160 examples, 60 steps planned; scored on 40 examples/);
  });

  it("nfc finetune --task --json gives the result as an object", async () => {
    const args = ["--task", "sst2", "--data", data, "-o", path("json"), ...QUICK, "--json"];
    const result = JSON.parse(await ok("finetune", MODEL, ...args));
    expect(result).toMatchObject({ task: "sst2", examples: 160, steps: 60, resumedFrom: null, dev: { examples: 40 } });
  });

  it.each([
    [["--steps", "3"], "--steps is for training on text; leave it out with --task"],
    [["--task", "nli"], 'no task "nli"; known are mrpc, cola'],
    [["--data", "a", "b"], "--data is one folder with --task"],
    [["--kd", "0.5"], "there is no teacher"],
    [["--warmup", "2"], "--warmup 2 is above 1; with --task it is a share"],
    [["--split-dev", "0.5"], "train.tsv is there: nothing has to be split"],
  ])("nfc finetune --task refuses %j", async (flags, line) => {
    const base = ["finetune", MODEL, "--task", "sst2", "--data", data, "-o", path("refused")];
    const { code, stderr } = await nfc([...base, ...flags]);
    expect(code).toBe(2);
    expect(stderr).toContain(line);
    expect(existsSync(path("refused"))).toBe(false);
  });

  it("--skip-invalid leaves out lines that cannot be parsed, in nfc eval as well", async () => {
    const torn = writeSst2(path("torn/SST-2"));
    for (const file of ["train.tsv", "dev.tsv"])
      writeFileSync(`${torn}/${file}`, `${readFileSync(`${torn}/${file}`, "utf8")}torn\n`);
    const args = ["--task", "sst2", "--data", torn, "--length", "24"];
    const train = ["finetune", MODEL, ...args, "-o", path("skipping"), "--epochs", "1", "--threads", "1"];
    expect((await nfc(train)).stderr).toContain("dev.tsv: line 42: 1 columns, not 2; mend the line");
    const tuned = await nfc([...train, "--skip-invalid"]);
    expect(tuned.code).toBe(0);
    expect(tuned.stderr).toContain("dev.tsv: 1 line left out: 42\n");
    expect(tuned.stderr).toContain("train.tsv: 1 line left out: 162\n");
    const scored = await nfc(["eval", path("skipping"), ...args, "--skip-invalid"]);
    expect(scored.stderr).toContain(`note: ${torn}/dev.tsv: 1 line left out: 42\n`);
  });

  it("a folder without the task's files is refused", async () => {
    const { code, stderr } = await nfc(["finetune", MODEL, "--task", "rte", "--data", path(""), "-o", path("refused")]);
    expect(code).toBe(2);
    expect(stderr).toContain("dev.tsv: no such file");
  });

  it("the run stops where the loss is far worse than guessing", async () => {
    const args = ["--task", "sst2", "--data", data, "-o", path("lost"), ...QUICK, "--lr", "100"];
    const { code, stderr } = await nfc(["finetune", MODEL, ...args]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/the run has diverged \(loss .*start over with a lower --lr/);
    expect(existsSync(path("lost"))).toBe(false);
  });

  it("--split-dev is suggested where there is no training file", async () => {
    const alone = writeSst2(path("alone/SST-2"));
    rmSync(`${alone}/train.tsv`);
    const { stderr } = await nfc(["finetune", MODEL, "--task", "sst2", "--data", alone, "-o", path("refused")]);
    expect(stderr).toContain("train.tsv: no such file; give --split-dev 0.2 to hold a part of dev.tsv out");
  });

  it("--warmup is a share of the steps with --task, and a number of steps without", async () => {
    const args = ["--task", "sst2", "--data", data, "-o", path("warm"), ...QUICK, "--warmup", "0.5"];
    expect((await nfc(["finetune", MODEL, ...args])).code).toBe(0);
    const rates = readFileSync(path("warm/metrics.jsonl"), "utf8").matchAll(/"lr":([\d.e-]+)/g);
    const [first, ...rest] = Array.from(rates, ([, lr]) => Number(lr));
    expect(first).toBeCloseTo(0.003 / 30, 6);
    expect(rest.indexOf(Math.max(...rest))).toBeGreaterThanOrEqual(27);
    const text = await nfc(["finetune", MODEL, "--data", "x.txt", "-o", path("refused"), "--warmup", "0.5"]);
    expect(text).toMatchObject({
      code: 2,
      stderr: "nfc: --warmup 0.5 is no number of steps; with --task it is a share\n",
    });
  });

  it("the flags of --task are refused without it", async () => {
    const { code, stderr } = await nfc(["finetune", MODEL, "--data", "x.txt", "-o", path("refused"), "--epochs", "2"]);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: "nfc: --epochs is for --task; leave it out, or name a task\n",
    });
  });
});

describe("nfc eval --task", () => {
  it("nfc eval --task prints metrics and the confusion matrix", async () => {
    const stdout = await ok("eval", path("tuned"), "--task", "sst2", "--data", data, "--length", "24");
    expect(stdout).toMatch(/accuracy +\d+\.\d\d %/);
    expect(stdout).toMatch(/^actual \\ predicted +negative +positive$/m);
    expect(stdout).toMatch(/^negative +\d+ +\d+$/m);
    expect(stdout).toContain("40 examples of dev.tsv");
  });

  it.each([
    [["--task", "sst2"], "--task needs --data"],
    [["--task", "sst2", "--data", "x", "--text", "y"], "--text: for text, which --task does not score"],
    [["--task", "sst2", "--data", "x", "--noise", "sample", "--stride", "4"], "--stride, --noise: for text"],
    [["--data", "x"], "nothing to score; give --text FILE, or --task NAME --data FOLDER"],
    [["--text", "x", "--skip-invalid"], "--data and --skip-invalid are for --task"],
    [[], "nothing to score"],
    [
      ["--task", "mnli", "--data", data],
      "classifies as negative, positive, MNLI is entailment, neutral, contradiction",
    ],
    [["--task", "rte", "--data", data], "classifies as negative, positive, RTE is entailment, not_entailment"],
    [["--task", "sst2", "--data", data, "--length", "65"], "texts of 65 tokens, but the model has 64 positions"],
  ])("nfc eval --task refuses %j", async (flags, line) => {
    const { code, stderr } = await nfc(["eval", path("tuned"), ...flags]);
    expect(code).toBe(2);
    expect(stderr).toContain(line);
  });

  it("texts are read up to the length that the classifier was trained with", async () => {
    const args = ["eval", path("tuned"), "--task", "sst2", "--data", data, "--json", "--quiet"];
    expect(JSON.parse(await ok(...args)).length).toBe(24);
    expect(JSON.parse(await ok(...args, "--length", "9")).length).toBe(9);
  });

  it("classes without names are taken for the task's with a note, and names cannot control the terminal", async () => {
    const [unnamed, evil] = [path("unnamed"), path("evil")];
    for (const [folder, labels] of [
      [unnamed, ["LABEL_0", "LABEL_1"]],
      [evil, ["neg\u001b[31m", "a\nFAKE LINE"]],
    ] as const) {
      cpSync(path("tuned"), folder, { recursive: true });
      const config = JSON.parse(readFileSync(`${folder}/config.json`, "utf8"));
      const names = { id2label: { ...labels }, label2id: Object.fromEntries(labels.map((label, id) => [label, id])) };
      writeFileSync(`${folder}/config.json`, JSON.stringify({ ...config, ...names }));
    }
    const { code, stdout, stderr } = await nfc(["eval", unnamed, "--task", "sst2", "--data", data, "--length", "24"]);
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining("accuracy") });
    expect(stderr).toContain("its classes have no names; they are taken for negative, positive");
    const refused = await nfc(["eval", evil, "--task", "sst2", "--data", data]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain("neg\\u{1b}[31m, a\\u{a}FAKE LINE");
  });

  it("nfc eval refuses a language model for a task, and text for a classifier", async () => {
    const task = await nfc(["eval", MODEL, "--task", "sst2", "--data", data]);
    expect(task.stderr).toBe(
      `nfc: ${MODEL}: is a language model, it has no score.weight; make a classifier of it first: nfc finetune --task\n`,
    );
    writeFileSync(path("text.txt"), "Anna keeps her lantern.");
    for (const args of [
      ["eval", path("tuned"), "--text", path("text.txt")],
      ["generate", path("tuned"), "--prompt", "Anna"],
      ["finetune", path("tuned"), "--data", path("text.txt"), "-o", path("refused")],
    ])
      expect((await nfc(args)).stderr).toContain("is a classifier (negative, positive), not a language model");
  });
});

describe("nfc glue", () => {
  const models = () => `${MODEL},${path("tied")}`;
  const glue = (...flags: string[]) => [
    "glue",
    "--models",
    models(),
    "--tasks",
    "sst2",
    "--data",
    path("glue"),
    "-o",
    path("cells"),
    ...QUICK,
    ...flags,
  ];

  beforeAll(async () => {
    await converted({ output: path("tied"), variant: "symmetric" });
  });

  it("an interrupted nfc glue keeps its cells, goes on, and prints the table beside the paper's", async () => {
    const { code, stderr } = await interrupted(glue("--seeds", "2"), "tied, fine-tuning");
    expect(code).toBe(130);
    expect(stderr).toContain(
      `nfc: interrupted; what is finished is kept in ${path("cells")}; the same command goes on`,
    );
    const kept = readdirSync(path("cells")).filter((name) => name.endsWith(".json"));
    expect(kept).toEqual(["tiny-gpt2.sst2.0.json", "tiny-gpt2.sst2.1.json"]);
    const before = readFileSync(path("cells/tiny-gpt2.sst2.0.json"), "utf8");
    const stdout = await ok(...glue("--seeds", "2"));
    expect(readFileSync(path("cells/tiny-gpt2.sst2.0.json"), "utf8")).toBe(before);
    expect(readdirSync(path("cells"))).toHaveLength(4);
    expect(stdout).toMatch(/^tiny-gpt2 +128,768 +\d+\.\d\d ± \d+\.\d\d$/m);
    expect(stdout).toMatch(/^tied +120,448 +\d+\.\d\d ± \d+\.\d\d$/m);
    expect(stdout).toMatch(/^SymAttn \(paper\) +87\.04$/m);
  });

  it("nfc glue gives finished cells as Markdown and as an object", async () => {
    // Both cells are there: nothing is trained.
    expect(await ok(...glue("--format", "markdown"))).toMatch(
      /^\| `tied` \| 120,448 \| \d+\.\d\d \\\[\d+\.\d\d, \d+\.\d\d\\\] \|$/m,
    );
    const { rows, paper } = JSON.parse(await ok(...glue("--json", "--quiet")));
    expect(rows).toMatchObject([
      { model: "tiny-gpt2" },
      { model: "tied", variant: "symmetric", entries: [{ task: "sst2" }] },
    ]);
    expect(paper[0].scores.mrpc).toBe(0.7475);
  });

  it.each([
    [["--lr", "0.001"], "was made otherwise: lr (0.003 → 0.001); give another --output, or --force"],
    [["--models", `${MODEL},${path("nowhere")}`], "nowhere: no such file or folder"],
    [["--models", `${MODEL},${MODEL}`], "two models are called tiny-gpt2; rename one of the folders"],
    [["--tasks", "sst2,rte"], "RTE/dev.tsv: no such file"],
    [["--tasks", ","], "nothing to do"],
  ])("nfc glue refuses %j", async (flags, line) => {
    const { code, stderr } = await nfc(glue(...flags));
    expect(code).toBe(2);
    expect(stderr).toContain(line);
  });

  it("a model that does not fit is refused before the first cell is made", async () => {
    const other = path("other-labels");
    cpSync(path("tuned"), other, { recursive: true });
    const config = JSON.parse(readFileSync(`${other}/config.json`, "utf8"));
    const names = { id2label: { 0: "no", 1: "yes" }, label2id: { no: 0, yes: 1 } };
    writeFileSync(`${other}/config.json`, JSON.stringify({ ...config, ...names }));
    const fresh = path("fresh-cells");
    const { code, stderr } = await nfc([...glue(), "--models", `${MODEL},${other}`, "-o", fresh]);
    expect({ code, stderr: stderr.trim() }).toEqual({
      code: 2,
      stderr: `nfc: ${other}: classifies as no, yes, not as negative, positive; start from the language model that it was made from`,
    });
    expect(existsSync(fresh)).toBe(false);
  });

  it("the remains of a killed run beside a finished cell are removed", async () => {
    cpSync(path("tuned"), path("cells/tied.sst2.0"), { recursive: true });
    await ok(...glue());
    expect(existsSync(path("cells/tied.sst2.0"))).toBe(false);
  });

  it("the name of a model is escaped in Markdown", async () => {
    const evil = path("x|<b>y");
    cpSync(MODEL, evil, { recursive: true });
    const flags = ["--models", evil, "--format", "markdown", "-o", path("evil-cells"), "--epochs", "1"];
    expect(await ok(...glue(), ...flags)).toMatch(/^\| <code>x&#124;&#60;b&#62;y<\/code> \| 128,768 \| [^|]+ \|$/m);
  });

  it("a cell made from other data is refused", async () => {
    const [file, dev] = [`${data}/train.tsv`, `${data}/dev.tsv`];
    const [train, own] = [readFileSync(file, "utf8"), readFileSync(dev, "utf8")];
    writeFileSync(file, train.replace("\t1\n", "\t0\n"));
    const { code, stderr } = await nfc(glue());
    writeFileSync(file, train);
    expect(code).toBe(2);
    expect(stderr).toContain("tiny-gpt2.sst2.0.json: was made otherwise: data (");
    writeFileSync(dev, own.slice(0, own.trimEnd().lastIndexOf("\n") + 1));
    expect((await nfc(glue())).stderr).toContain("development data (");
    writeFileSync(dev, own);
  });

  it("--skip-invalid leaves out lines that cannot be parsed, and names them", async () => {
    const file = `${data}/train.tsv`;
    const train = readFileSync(file, "utf8");
    const first = `${file}: line 162: 1 columns, not 2`;
    writeFileSync(file, `${train}torn\nboth\t7\n`);
    const refused = await nfc(glue());
    const { code, stderr } = await nfc(glue("--skip-invalid"));
    writeFileSync(file, train);
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(refused.stderr).toContain(first);
    // The examples are the same without them: the cells are still good.
    expect({ code, stderr }).toEqual({ code: 0, stderr: `note: ${file}: 2 lines left out: 162, 163\n` });
  });

  it("nfc report shows the scores of its two models, found by their weights", async () => {
    const { stdout } = await nfc(["report", MODEL, path("tied"), "--glue", path("cells"), "--json"]);
    const { tasks } = JSON.parse(stdout);
    expect(tasks).toHaveLength(1);
    const { rows } = JSON.parse(await ok(...glue("--seeds", "2", "--json")));
    for (const [i, side] of ["before", "after"].entries()) {
      const { mean, spread } = rows[i].entries[0];
      expect(tasks[0]).toMatchObject({ task: "sst2", metric: "accuracy", [side]: { mean, spread, seeds: 2 } });
    }
    await converted({ output: path("other"), variant: "symmetric", strategy: "query" });
    const refused = await nfc(["report", path("other"), path("other"), "--glue", path("cells")]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain(`cells: has no score of ${path("other")}`);
  });

  it.each<[string, string, (cell: GlueCell) => object, string]>([
    ["a file that is no cell", "table.json", () => ({}), ""],
    ["a cell of the same weights under another name", "again.sst2.0.json", (cell) => cell, ""],
    ["a damaged cell", "again.sst2.0.json", () => ({}), "again.sst2.0.json: format: "],
    [
      "a cell of other settings",
      "again.sst2.0.json",
      (cell) => ({ ...cell, model: "again", identity: { ...cell.identity, lr: 1 } }),
      "differ: lr (",
    ],
  ])("nfc report --glue handles %s", async (_, name, change, fault) => {
    const cell = JSON.parse(readFileSync(path("cells/tied.sst2.0.json"), "utf8")) as GlueCell;
    writeFileSync(path(`cells/${name}`), JSON.stringify(change(cell)));
    const { code, stdout, stderr } = await nfc(["report", MODEL, path("tied"), "--glue", path("cells"), "--json"]);
    rmSync(path(`cells/${name}`));
    expect({ code, stderr }).toMatchObject(fault ? { code: 2, stderr: expect.stringContaining(fault) } : { code: 0 });
    if (code === 0) expect(JSON.parse(stdout).tasks[0].after.seeds).toBe(2);
  });

  it("a damaged cell is made again with --force", async () => {
    const file = path("cells/tied.sst2.0.json");
    const kept = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, "");
    expect((await nfc(glue())).stderr).toContain("not valid JSON");
    await ok(...glue("--force"));
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(kept);
  });

  it("a file that is no cell is refused", async () => {
    const file = path("cells/tied.sst2.0.json");
    renameSync(file, `${file}.kept`);
    writeFileSync(file, "{}");
    const { code, stderr } = await nfc(glue());
    renameSync(`${file}.kept`, file);
    expect(code).toBe(2);
    expect(stderr).toContain("delete the file, or give --force: the cell is then made again");
  });
});
