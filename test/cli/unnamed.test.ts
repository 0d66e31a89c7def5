// Commands to which no model or output is named: what they find in the current folder, what they say, what they refuse.
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it, vi } from "vitest";
import { nameOutput } from "../../src/cli/unnamed/names.ts";
import { nfc, ok, refused } from "../support/cli.ts";
import { SHORT } from "../support/cli-train.ts";
import { startFakeHub } from "../support/fake-hub.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { writeIds } from "../support/training.ts";

const path = temporaryFolder("unnamed");
const home = process.cwd();
const VOCABULARY = JSON.parse(readFileSync(join(MODEL, "config.json"), "utf8")).vocab_size;
const DISTILL = ["distill", "--data", "text.txt", ...SHORT, "--cache", path("cache")];
let count = 0;

/** Each test works in a fresh current folder with a model in a folder of its own, and text. */
beforeEach(() => {
  mkdirSync(path(`work${count}`));
  process.chdir(path(`work${count++}`));
  cpSync(MODEL, "tiny", { recursive: true });
  cpSync(TEXT, "text.txt");
});
afterAll(() => process.chdir(home));

/** Converts the model to a name, quickly. */
const convert = (model = "tiny", ...flags: string[]) =>
  ok("convert", model, "--tie", "mean", "--threads", "1", ...flags);

/** The lines of stderr that begin with "note: ". */
const notes = (stderr: string) => stderr.split("\n").filter((line) => line.startsWith("note: "));

/** Sets the time of a model's weights, in seconds. */
const date = (model: string, time: number) => utimesSync(join(model, "model.safetensors"), time, time);

describe("the three commands, one after another", () => {
  it("run in a folder of model and text, and say first what they chose", async () => {
    expect(notes((await convert("tiny/")).stderr)[0]).toBe("note: converts tiny/, writes tiny-nfc");
    const distilled = await ok(...DISTILL, "--json");
    expect(distilled.stderr.split("\n")[0]).toBe(
      "note: trains tiny-nfc, its teacher is its source tiny/, writes tiny-nfc-distilled",
    );
    expect(JSON.parse(distilled.stdout)).toMatchObject({ output: "tiny-nfc-distilled" });
    const exported = await ok("export", "--onnx", "--json");
    expect(exported.stderr.split("\n")[0]).toBe(
      "note: exports tiny-nfc-distilled, the last model made here, writes tiny-nfc-distilled-onnx",
    );
    expect(JSON.parse(exported.stdout)).toMatchObject({ output: "tiny-nfc-distilled-onnx" });
    expect(existsSync("tiny-nfc-distilled-onnx/onnx/model.onnx")).toBe(true);
    // A second time, the outputs are there.
    for (const line of [["convert", "tiny"], DISTILL, ["export", "--onnx"]]) {
      expect(await refused(line)).toMatch(
        /^tiny-nfc\S*: the output folder exists already .*replace this one with --force/,
      );
      await ok(...line, "--force");
    }
  });

  it("run on a model that is cut, not tied", async () => {
    await ok("convert", "tiny", "--variant", "dense", "--layers", "1", "--threads", "1");
    expect(notes((await ok(...DISTILL)).stderr)[0]).toBe(
      "note: trains tiny-nfc, its teacher is its source tiny, writes tiny-nfc-distilled",
    );
  });

  it("run on a bare weights file, whose heads the student knows for its teacher", async () => {
    renameSync("tiny/model.safetensors", "gpt2.safetensors");
    rmSync("tiny", { recursive: true });
    writeIds("ids.bin", 3000, VOCABULARY);
    await convert("gpt2.safetensors", "--n-head", "4", "--trim-vocab", String(VOCABULARY - 1));
    writeIds("ids.bin", 3000, VOCABULARY - 1);
    const { stderr } = await ok("distill", "--data", "ids.bin", ...SHORT);
    expect(notes(stderr)[0]).toBe(
      "note: trains gpt2-nfc, its teacher is its source gpt2.safetensors, writes gpt2-nfc-distilled",
    );
    await ok("export", "--onnx");
    expect(existsSync("gpt2-nfc-distilled-onnx")).toBe(true);
  });

  it("run on a shard index", async () => {
    await ok("export", "tiny", "--safetensors", "--max-shard-size", "200kB", "-o", "sharded");
    await convert("sharded/model.safetensors.index.json");
    expect(notes((await ok(...DISTILL)).stderr)[0]).toContain("its source sharded/model.safetensors.index.json");
    expect(notes((await ok("export")).stderr)[0]).toContain("exports sharded-nfc-distilled");
  });

  it("run on a model of the Hub", async () => {
    const names = ["config.json", "model.safetensors", "tokenizer.json"];
    const files = Object.fromEntries(names.map((name) => [name, readFileSync(join(MODEL, name))]));
    const hub = await startFakeHub({ name: "some/tiny", files });
    vi.stubEnv("HF_ENDPOINT", hub.url);
    vi.stubEnv("HF_HOME", path("hub"));
    vi.stubEnv("HF_HUB_CACHE", path("hub", "cache"));
    await convert("hf://some/tiny@main");
    await hub.close();
    const { stderr } = await ok(...DISTILL, "--offline");
    expect(notes(stderr)[0]).toBe(
      "note: trains tiny-nfc, its teacher is its source hf://some/tiny@main, writes tiny-nfc-distilled",
    );
    vi.unstubAllEnvs();
  });

  it("print nothing of it with --quiet", async () => {
    for (const line of [["convert", "tiny", "--tie", "mean"], DISTILL, ["export"]])
      expect((await ok(...line, "--quiet")).stderr).not.toMatch(/writes/);
  });
});

describe("the model that nfc distill trains", () => {
  it("needs text, and says so in one line", async () => {
    expect(await refused(["distill"])).toBe("nfc distill needs text to train on; give it with --data FILE");
    expect(await refused(["distill", "tiny", "--teacher", "tiny", "-o", "out"])).toContain("needs text to train on");
  });

  it("is told from text where it follows --data", async () => {
    await convert();
    expect(await refused(["distill", "--data", "text.txt", "tiny-nfc"])).toBe(
      "tiny-nfc is a model, no text to train on; --data takes all names that follow it: nfc distill tiny-nfc --data FILE",
    );
  });

  it("must be there", async () => {
    expect(await refused(DISTILL)).toBe(
      "no folder here was made by nfc convert; make one with nfc convert MODEL, or name it: nfc distill MODEL --data FILE",
    );
  });

  it("is refused by name where there are several, and not exports or others", async () => {
    await convert();
    await ok("export", "tiny-nfc", "--safetensors", "-o", "exported");
    cpSync("tiny-nfc", ".hidden", { recursive: true });
    cpSync("tiny-nfc/nfc.json", "tiny/nfc.json.txt");
    mkdirSync("empty");
    await ok(...DISTILL);
    await convert("tiny", "-o", "another");
    expect(await refused(DISTILL)).toBe(
      "2 folders here were made by nfc convert: another, tiny-nfc; name one of them: nfc distill another --data FILE",
    );
  });

  it("is the one whose run is unfinished, with --resume", async () => {
    await convert();
    await convert("tiny", "-o", "another");
    const line = ["distill", "another", "--data", "text.txt", ...SHORT, "--cache", path("cache")];
    expect((await nfc([...line, "--lr", "1e30", "--warmup", "0"])).code).toBe(2); // diverges
    expect(existsSync("another-distilled.run/run.json")).toBe(true);
    expect(await refused([...DISTILL, "--resume"])).toContain("another-distilled.run: this run had other settings: lr");
  });

  it("is one that was trained before it was converted, too", async () => {
    await ok("finetune", "tiny", "--data", "text.txt", "-o", "tuned", ...SHORT, "--cache", path("cache"));
    await convert("tuned");
    const { history } = JSON.parse(readFileSync("tuned-nfc/nfc.json", "utf8"));
    expect(history.map(({ step }: { step: string }) => step)).toEqual(["finetune", "convert"]);
    expect(notes((await ok(...DISTILL)).stderr)[0]).toContain("trains tuned-nfc, its teacher is its source tuned,");
  });

  it("is found beside a record that cannot be read, which is named", async () => {
    await convert();
    cpSync("tiny", "broken", { recursive: true });
    writeFileSync("broken/nfc.json", "{");
    expect(notes((await ok(...DISTILL)).stderr)[1]).toMatch(
      /^note: broken\/nfc.json: not valid JSON.*broken is passed over$/,
    );
    rmSync("tiny-nfc", { recursive: true });
    expect(await refused(DISTILL)).toMatch(/^no folder here was made by nfc convert; broken\/nfc\.json: /);
  });
});

describe("the teacher that nfc distill finds", () => {
  it("is looked for from here, from the student's place and beside it", async () => {
    mkdirSync("deep");
    process.chdir("deep");
    await convert("../tiny");
    process.chdir("..");
    const line = (student: string) => ["distill", student, ...DISTILL.slice(1)];
    expect(notes((await ok(...line("deep/tiny-nfc"))).stderr)[0]).toBe(
      "note: trains deep/tiny-nfc, its teacher is its source tiny, writes tiny-nfc-distilled",
    );
    renameSync("tiny", "deep/tiny");
    expect(notes((await ok(...line("deep/tiny-nfc"), "-o", "again")).stderr)[0]).toBe(
      "note: trains deep/tiny-nfc, its teacher is its source deep/tiny",
    );
  });

  it("is refused where it changed or is gone, and another one may be named", async () => {
    await convert();
    const weights = readFileSync("tiny/model.safetensors");
    const last = weights.length - 1;
    weights[last] = (weights[last] as number) ^ 1;
    writeFileSync("tiny/model.safetensors", weights);
    expect(await refused(DISTILL)).toBe(
      "tiny: is not as it was when tiny-nfc was made from it (sha256); convert it again, restore it, or name the teacher with --teacher",
    );
    expect(existsSync("tiny-nfc-distilled.run")).toBe(false);
    renameSync("tiny", "moved");
    expect(await refused(DISTILL)).toBe(
      "tiny-nfc: was converted from tiny, which is not there any more; put it back, or name the teacher with --teacher",
    );
    await ok(...DISTILL, "--teacher", "moved");
  });

  it("must be named for a student that was not converted", async () => {
    expect(await refused(["distill", "tiny", ...DISTILL.slice(1)])).toBe(
      "tiny: no nfc.json says which model it was converted from; name the teacher with --teacher",
    );
  });
});

describe("the model that nfc export writes", () => {
  it("is the last one made, whatever was noted in its record since", async () => {
    await convert();
    expect(notes((await ok("export", "--onnx")).stderr).slice(0, 2)).toEqual([
      "note: exports tiny-nfc, the last model made here, writes tiny-nfc-onnx",
      "note: tiny-nfc is as it was converted: nfc distill makes it better",
    ]);
    await ok(...DISTILL);
    date("tiny-nfc", 2000);
    date("tiny-nfc-distilled", 3000);
    await ok("eval", "tiny-nfc", "--text", "text.txt"); // writes its nfc.json
    expect(notes((await ok("export", "--hf")).stderr)[0]).toBe(
      "note: exports tiny-nfc-distilled, the last model made here, writes tiny-nfc-distilled-hf",
    );
    date("tiny-nfc", 4000);
    expect(notes((await ok("export", "--safetensors")).stderr).slice(0, 2)).toEqual([
      "note: exports tiny-nfc, the last model made here, writes tiny-nfc-safetensors",
      "note: tiny-nfc is as it was converted: nfc distill makes it better; older ones are: tiny-nfc-distilled",
    ]);
  });

  it("must be there, and an unfinished run is told", async () => {
    expect(await refused(["export", "--onnx"])).toBe(
      "no folder here holds a model that nfc made; name a model: nfc export MODEL --onnx",
    );
    await convert();
    await nfc([...DISTILL, "--lr", "1e30", "--warmup", "0"]);
    expect(notes((await ok("export", "--onnx")).stderr)[1]).toBe(
      "note: tiny-nfc-distilled.run holds an unfinished run: nfc distill --resume makes a better model",
    );
  });
});

it.each([
  ["gpt2.safetensors", "gpt2-nfc"],
  ["gpt2/", "gpt2-nfc"],
  ["models/gpt2//", "gpt2-nfc"],
  ["./gpt2", "gpt2-nfc"],
  ["models/gpt2.safetensors", "gpt2-nfc"],
  ["model.safetensors", "model-nfc"],
  ["./model.safetensors", "model-nfc"],
  ["../model.safetensors", "model-nfc"],
  ["models/gpt2/model.safetensors", "gpt2-nfc"],
  ["gpt2/model.safetensors.index.json", "gpt2-nfc"],
  ["gpt2/other.safetensors.index.json", "other-nfc"],
  ["hf://openai-community/gpt2", "gpt2-nfc"],
  ["hf://openai-community/gpt2@v1/x", "gpt2-nfc"],
  ["/", "model-nfc"],
])("the output of %s is named %s", (source, name) => {
  expect(nameOutput(source, "nfc")).toBe(name);
});

it("the output of the current folder has its name", () => {
  expect(nameOutput(".", "nfc")).toBe(`work${count - 1}-nfc`);
});
