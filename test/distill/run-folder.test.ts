// The folder of a run: refusals, damage, a disk that is full, and what a kill leaves behind.
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { RunFolder, textStateSchema } from "../../src/distill/run-folder.ts";
import { ParameterStore } from "../../src/distill/step/parameter-store.ts";
import { writeChecksums } from "../../src/io/checksums.ts";
import { identifySelf } from "../../src/io/process.ts";
import { withWriteFault } from "../io/faults.ts";
import { failureOf } from "../support/failure.ts";
import { digest } from "../support/fixture.ts";
import { RUN_STATE as STATE } from "../support/run-state.ts";
import { slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("run-folder");
let count = 0;

const SPECS = [
  { name: "a", shape: [3, 5], trained: true },
  { name: "frozen", shape: [4], trained: false },
  { name: "b", shape: [7], trained: true },
];

function filled(first: number): ParameterStore {
  const store = new ParameterStore(SPECS);
  let next = first;
  for (const name of store.trained) {
    const { value, moment1, moment2 } = store.slot(name);
    for (const array of [value, moment1, moment2]) for (let i = 0; i < array.length; i++) array[i] = next++ / 7;
  }
  return store;
}

async function begun(): Promise<RunFolder> {
  const run = new RunFolder(path(`out${count++}`), textStateSchema);
  await run.create({ lr: 0.1, task: "finetune", teacher: null });
  return run;
}

function arraysOf(store: ParameterStore): Float32Array[] {
  return store.trained.flatMap((name) => {
    const { value, moment1, moment2 } = store.slot(name);
    return [value.slice(), moment1.slice(), moment2.slice()];
  });
}

describe("the folder of a run", () => {
  it("the run lies beside its output and gives back settings, state and arrays", async () => {
    const run = await begun();
    expect(run.path).toMatch(/out\d+\.run$/);
    expect(new RunFolder(`${run.path.slice(0, -4)}/`, textStateSchema).path).toBe(run.path);
    expect(await run.identity()).toEqual({ lr: 0.1, task: "finetune", teacher: null });
    const bytes = await run.append({ step: 1, note: "ä" });
    const state = { ...STATE, metricsBytes: bytes };
    const store = filled(1);
    store.value("frozen").fill(5);
    await run.save(store, state);
    await run.append({ step: 2 });
    const other = new ParameterStore(SPECS);
    expect(await run.load(other)).toEqual(state);
    expect(arraysOf(other)).toEqual(arraysOf(store));
    expect([...other.value("frozen")]).toEqual([0, 0, 0, 0]);
    expect(readFileSync(run.metrics, "utf8")).toBe('{"step":1,"note":"ä"}\n');
    await run.remove();
    expect(existsSync(run.path)).toBe(false);
  });

  it("the run belongs to one process at a time, and one held by a killed process is free", async () => {
    const run = await begun();
    await run.claim();
    expect(await failureOf(() => run.claim())).toMatchObject({
      code: "exists",
      message: expect.stringContaining(`process ${process.pid}`),
    });
    await run.create({ lr: 0.2 });
    expect((await failureOf(() => run.claim())).code).toBe("exists");
    await run.release();
    const gone = { ...identifySelf(), pid: 2 ** 22 + 1, host: "here", id: "" }; // beyond the largest number of a process
    writeFileSync(join(run.path, "lock"), `${JSON.stringify(gone)}\n`);
    await run.claim();
    await run.remove();
    await run.release();
    expect(existsSync(run.path)).toBe(false);
  });

  it("the run does not take weights of another step for the best ones", async () => {
    const run = await begun();
    await run.saveBest(filled(1), { step: 8, perplexity: 3 });
    const error = await failureOf(() => run.loadBest(filled(1), { step: 4 }));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain("step 8, not 4");
    expect(error.hint).toContain("the run cannot go on");
  });

  it("the run keeps best values apart from the checkpoint", async () => {
    const run = await begun();
    const [best, later] = [filled(1), filled(50)];
    await run.saveBest(best, { step: 2, perplexity: 3 });
    await run.save(later, STATE);
    const moments = later.slot("a").moment1.slice();
    await run.loadBest(later, { step: 2 });
    expect(later.value("a")).toEqual(best.value("a"));
    expect(later.slot("a").moment1).toEqual(moments);
  });

  it("a run without a checkpoint begins anew, and its metrics are removed", async () => {
    const run = await begun();
    await run.append({ step: 1 });
    expect(await run.load(filled(1))).toBe(null);
    expect(readFileSync(run.metrics, "utf8")).toBe("");
  });

  it("a run puts back a checkpoint that a killed process had moved away", async () => {
    const run = await begun();
    const store = filled(3);
    await run.save(store, STATE);
    const dead = `.checkpoint.nfc-old-${2 ** 22 + 1}-0123456789ab`;
    renameSync(join(run.path, "checkpoint"), join(run.path, dead));
    mkdirSync(join(run.path, `.checkpoint.nfc-tmp-${2 ** 22 + 1}-0123456789ab`));
    const other = new ParameterStore(SPECS);
    expect(await run.load(other)).toEqual(STATE);
    expect(arraysOf(other)).toEqual(arraysOf(store));
    expect(readdirSync(run.path).sort()).toEqual(["checkpoint", "metrics.jsonl", "run.json"]);
  });
});

describe("a folder in the place of the run", () => {
  it("a folder with an unfinished run is refused unless it may be replaced", async () => {
    const run = await begun();
    const { code, message, hint } = await failureOf(() => run.refuseOccupied(false));
    expect(code).toBe("exists");
    expect(message).toContain(run.path);
    expect(hint).toMatch(/--resume.*--force/);
    await run.refuseOccupied(true);
  });

  it("a folder with anything else is refused whatever the flags, and stays", async () => {
    const run = new RunFolder(path("mine"), textStateSchema);
    mkdirSync(run.path);
    writeFileSync(join(run.path, "thesis.txt"), "precious");
    for (const force of [false, true]) {
      const { code, message } = await failureOf(() => run.refuseOccupied(force));
      expect(code).toBe("exists");
      expect(message).toContain("thesis.txt");
    }
    const file = new RunFolder(path("file"), textStateSchema);
    writeFileSync(file.path, "precious");
    await failureOf(() => file.refuseOccupied(true));
  });

  it("a folder with the rest of a run that was being removed counts as none", async () => {
    const run = await begun();
    await run.save(filled(1), STATE);
    rmSync(join(run.path, "run.json"));
    expect((await failureOf(() => run.identity())).code).toBe("not-found");
    await run.refuseOccupied(false);
    await run.create({ lr: 1 });
    expect(readdirSync(run.path).sort()).toEqual(["metrics.jsonl", "run.json"]);
  });
});

describe("the sentences of refusals", () => {
  const claim = (run: RunFolder) => run.claim();
  const strange = (run: RunFolder) => writeFileSync(join(run.path, "thesis.txt"), "precious");
  const saveBest = (run: RunFolder) => run.saveBest(filled(1), { step: 8, perplexity: 3 });
  const loseIdentity = (run: RunFolder) => rmSync(join(run.path, "run.json"));

  it.each<[string, (run: RunFolder) => unknown, (run: RunFolder) => unknown]>([
    [": process PID is at work in it", claim, claim],
    ["/best: holds the weights of step 8, not 4", saveBest, (run) => run.loadBest(filled(1), { step: 4 })],
    [": an unfinished run is there", () => {}, (run) => run.refuseOccupied(false)],
    [": holds thesis.txt, which is no part of a training run", strange, (run) => run.refuseOccupied(true)],
    [": there is no run to go on with", loseIdentity, (run) => run.identity()],
  ])("the folder of a run is refused with the sentence: %s", async (sentence, prepare, action) => {
    const run = await begun();
    await prepare(run);
    const { message } = await failureOf(async () => action(run));
    expect(message).toBe(`${run.path}${sentence.replace("PID", `${process.pid}`)}`);
  });
});

describe("damaged runs", () => {
  const cut = (name: string, bytes: number) => (run: RunFolder) => truncateSync(join(run.path, name), bytes);
  const content = (name: string, text: string) => (run: RunFolder) => writeFileSync(join(run.path, name), text);
  const missing = (name: string) => (run: RunFolder) => rmSync(join(run.path, name));

  it.each([
    ["run.json cut short", cut("run.json", 20), "run.json"],
    ["run.json empty", content("run.json", ""), "run.json"],
    ["run.json of another format", content("run.json", '{"format":"nfc-run/0","settings":{}}'), "run.json: format"],
    ["state.json cut short", cut("checkpoint/state.json", 9), "state.json"],
    ["state.json without a step", content("checkpoint/state.json", "{}"), "state.json: damaged"],
    ["checksums missing", missing("checkpoint/checksums.json"), "checksums.json: no such file"],
    ["state.json missing", missing("checkpoint/state.json"), "state.json: no such file"],
    ["weights cut short", cut("checkpoint/model.safetensors", 300), "model.safetensors"],
    ["weights empty", cut("checkpoint/model.safetensors", 0), "model.safetensors"],
    ["weights missing", missing("checkpoint/model.safetensors"), "model.safetensors: no such file"],
    ["metrics missing", missing("metrics.jsonl"), "metrics.jsonl: no such file"],
    ["metrics cut short", cut("metrics.jsonl", 3), "metrics.jsonl: 3 bytes"],
  ])("a damaged run is refused with the file's name: %s", async (_, damage, sign) => {
    const run = await begun();
    const metricsBytes = await run.append({ step: 1 });
    await run.save(filled(1), { ...STATE, metricsBytes });
    damage(run);
    const failure = await failureOf(async () => {
      await run.identity();
      return run.load(filled(2));
    });
    expect(failure.message).toContain(run.path);
    expect(failure.message).toContain(sign);
    expect(failure.hint).toBe(`the run cannot go on: remove ${run.path} and start it again`);
  });

  /** What the run says when it is opened with each bit of a file changed in turn; every eighth one of a long file. */
  async function flipBits(run: RunFolder, name: string, open: () => Promise<unknown>): Promise<string[]> {
    const file = join(run.path, name);
    const whole = readFileSync(file);
    const messages: string[] = [];
    for (let bit = 0; bit < 8 * whole.byteLength; bit += whole.byteLength > 600 ? 9 : 1) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      writeFileSync(file, damaged);
      messages.push((await failureOf(open)).message);
    }
    writeFileSync(file, whole);
    return messages;
  }

  for (const name of ["state.json", "model.safetensors", "checksums.json"])
    it(
      `a run is refused when any bit of the ${name} of its checkpoint or best weights has changed`,
      slowUnless(name === "state.json"),
      async () => {
        const run = await begun();
        await run.save(filled(1), STATE);
        await run.saveBest(filled(1), { step: 4, perplexity: 3 });
        const store = filled(2);
        const load = () => run.load(store);
        const loadBest = () => run.loadBest(store, { step: 4 });
        for (const message of await flipBits(run, `checkpoint/${name}`, load))
          expect(message).toMatch(/\/checkpoint\/\w+\.\w+: |metrics\.jsonl: damaged/);
        for (const message of await flipBits(run, `best/${name}`, loadBest))
          expect(message).toMatch(/\/best\/\w+\.\w+: /);
        await load();
        await loadBest();
        expect(arraysOf(store)[0]).toEqual(arraysOf(filled(1))[0]);
      },
    );

  it("a run is refused when any bit of its settings or of the metrics up to its checkpoint has changed", async () => {
    const run = await begun();
    const metricsBytes = await run.append({ step: 1, loss: 2.5 });
    await run.save(filled(1), { ...STATE, metricsBytes });
    for (const message of await flipBits(run, "run.json", () => run.identity()))
      expect(message).toContain("/run.json: ");
    for (const message of await flipBits(run, "metrics.jsonl", () => run.load(filled(2))))
      expect(message).toMatch(/\/metrics\.jsonl: damaged: its sha256/);
    await run.identity();
    await run.load(filled(2));
  });

  it.each([
    ["a value", "value" as const, Number.NaN],
    ["a first moment", "moment1" as const, Number.POSITIVE_INFINITY],
    ["a second moment", "moment2" as const, -1],
  ])("a run is refused for %s that no training gives", async (_, part, value) => {
    const run = await begun();
    const store = filled(1);
    store.slot("b")[part][3] = value;
    await run.save(store, STATE);
    expect((await failureOf(() => run.load(filled(2)))).message).toBe(
      `${run.path}/checkpoint/model.safetensors: ${part}/b[3] is ${value}, from which no run can go on`,
    );
  });

  it.each([
    ["step", -1],
    ["step", 2.5],
    ["step", null],
    ["tokens", 1e300],
    ["metricsBytes", "0"],
    ["before", -4],
    ["best", { step: 1 }],
  ])("a run is refused for the state %s: %j", async (key, value) => {
    const run = await begun();
    await run.save(filled(1), STATE);
    const folder = join(run.path, "checkpoint");
    writeFileSync(join(folder, "state.json"), JSON.stringify({ ...STATE, [key]: value }));
    await writeChecksums(folder, ["state.json", "model.safetensors"]);
    expect((await failureOf(() => run.load(filled(2)))).message).toContain(`/checkpoint/state.json: ${key}`);
  });

  it("a run keeps what somebody put into its folder while it went on", async () => {
    const run = await begun();
    await run.claim();
    await run.save(filled(1), STATE);
    writeFileSync(join(run.path, "thesis.txt"), "precious");
    await run.remove();
    await run.release();
    expect(readdirSync(run.path)).toEqual(["thesis.txt"]);
  });

  it("a run is not started over where somebody put something into its checkpoint", async () => {
    const run = await begun();
    await run.save(filled(1), STATE);
    writeFileSync(join(run.path, "checkpoint/notes.md"), "precious");
    expect((await failureOf(() => run.refuseOccupied(true))).message).toBe(
      `${run.path}: holds checkpoint/notes.md, which is no part of a training run`,
    );
  });

  it("a run whose arrays are missing or of another size is refused", async () => {
    const run = await begun();
    await run.save(filled(1), STATE);
    const wider = new ParameterStore([...SPECS.slice(0, 2), { name: "b", shape: [8], trained: true }]);
    expect((await failureOf(() => run.load(wider))).message).toMatch(
      /model\.safetensors: value\/b has 7 values, not 8$/,
    );
    const more = new ParameterStore([...SPECS, { name: "c", shape: [1], trained: true }]);
    expect((await failureOf(() => run.load(more))).message).toMatch(/model\.safetensors.*value\/c/);
  });
});

describe("a disk that is full at any one call", () => {
  it("a full disk leaves the old checkpoint or, once it is safe, the new one", async () => {
    const run = await begun();
    const [old, next] = [filled(1), filled(500)];
    await run.save(old, STATE);
    const { calls, error } = await withWriteFault(0, "", () => run.save(old, STATE));
    expect(error).toBe(undefined);
    expect(calls).toBeGreaterThan(8);
    for (let failing = 1; failing <= calls; failing++) {
      await run.save(old, STATE);
      const before = digest(join(run.path, "checkpoint"));
      const { error } = await withWriteFault(failing, "ENOSPC", () => run.save(next, { ...STATE, step: 5 }));
      const loaded = new ParameterStore(SPECS);
      const state = await run.load(loaded);
      expect(arraysOf(loaded)).toEqual(arraysOf(state?.step === 5 ? next : old));
      if (state?.step === 4) {
        expect(error).toMatchObject({ code: "io" });
        expect(digest(join(run.path, "checkpoint"))).toEqual(before);
      } else if (error) expect((error as Error).message).toContain("the replaced output could not be removed");
      expect(readdirSync(run.path).sort()).toEqual(["checkpoint", "metrics.jsonl", "run.json"]);
    }
  });

  it("a full disk while metrics are written leaves a piece of a line, which the next start cuts off", async () => {
    const run = await begun();
    const metricsBytes = await run.append({ step: 1 });
    await run.save(filled(1), { ...STATE, metricsBytes });
    appendFileSync(run.metrics, '{"step":2,"lo');
    await run.load(filled(1));
    expect(readFileSync(run.metrics, "utf8")).toBe('{"step":1}\n');
  });
});
