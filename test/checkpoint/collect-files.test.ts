// What of a model's folder goes with the model: tokenizers of every kind, but no code, no pickle and no broken JSON.
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { collectModelFiles } from "../../src/checkpoint/collect-files.ts";
import { writeModelFiles } from "../../src/checkpoint/model-folder.ts";
import { failureOf } from "../support/failure.ts";
import { converted, opened } from "../support/fixture.ts";
import { tinyHfConfig, writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("collect");
let count = 0;
let folder = "";
beforeEach(async () => {
  folder = await writeCheckpoint(path(`folder${count++}`));
});

const put = (name: string, content: string) => writeFileSync(join(folder, name), content);
const names = async () => [...(await collectModelFiles(folder)).files.keys()];

describe("tokenizer files", () => {
  it("a file with more keys that load code than a call can take as arguments has a note for each", async () => {
    put("tokenizer_config.json", JSON.stringify({ parts: Array.from({ length: 200_000 }, () => ({ auto_map: "a" })) }));
    expect((await collectModelFiles(folder)).notes).toHaveLength(200_000);
  });

  it.each([
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spm.model",
    "tokenizer.model",
    "vocab.txt",
    "bpe.codes",
    "dict.txt",
    "qwen.tiktoken",
    "chat_template.jinja",
  ])("%s goes with the model as it is", async (name) => {
    put(name, "\n\u0007[PAD]\r\n");
    const out = path(`out-${name}`);
    await converted({ output: out }, folder);
    expect(readFileSync(join(out, name), "utf8")).toBe("\n\u0007[PAD]\r\n");
  });

  it.each(["spiece.model", "vocab.txt"])("a folder with %s alone gets one note", async (name) => {
    put(name, "[PAD]");
    const { record } = await converted({ output: path(`noted-${name}`) }, folder);
    const notes = record.notes.filter((note) => note.includes(name));
    expect(notes).toEqual([
      expect.stringMatching(/: copied, but nfc and transformers\.js read text by a tokenizer\.json/),
    ]);
  });

  it("a tokenizer.json beside it needs no note", async () => {
    put("spiece.model", "x");
    put("tokenizer.json", "{}");
    const notes = await opened(folder, (checkpoint) => {
      mkdirSync(path("no-note"));
      return writeModelFiles(path("no-note"), checkpoint, checkpoint.config);
    });
    expect(notes).toEqual([]);
  });

  it.each([
    ["meta.pkl", "it may be a pickle, which can run code"],
    ["tokenizer.pkl", "it may be a pickle, which can run code"],
    ["vocab.bin", "it may be a pickle, which can run code"],
    ["tokenization_custom.py", "it is code"],
    ["additional_chat_templates", "only files at the top of the folder are copied"],
    ["tokenizer.json.bak", "no tokenizer of Hugging Face has a file of this name"],
    ["gpt2-vocab.json", "no tokenizer of Hugging Face has a file of this name"],
  ])("%s stays behind, and a note says why", async (name, reason) => {
    put(name, "x");
    const { files, notes } = await collectModelFiles(folder);
    expect([...files.keys()]).toEqual([]);
    expect(notes).toEqual([`${folder}/${name}: not copied: ${reason}`]);
  });

  it.each(["added_tokens.json", "tokenizer_config.json", "generation_config.json"])(
    "a byte order mark of %s stays behind: other programs do not read JSON with it",
    async (name) => {
      put(name, '\ufeff{"a": 1}\n');
      const content = (await collectModelFiles(folder)).files.get(name) as Uint8Array;
      expect(Buffer.from(content).toString()).toBe('{"a": 1}\n');
    },
  );

  it("files of other kinds stay behind without a word", async () => {
    for (const name of ["README.md", "modeling_x.py", "training_args.bin", "optimizer.pt", "handler.py"])
      put(name, "x");
    expect(await collectModelFiles(folder)).toEqual({ files: new Map(), notes: [] });
  });
});

describe("broken files", () => {
  it.each(["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"])(
    "%s that is not JSON is refused by name, and nothing is written",
    async (name) => {
      put(name, '{"a":');
      const output = path(`broken-${name}`);
      const error = await failureOf(() => converted({ output }, folder));
      expect(error.message).toContain(`${folder}/${name}: not valid JSON`);
      expect(readdirSync(path()).filter((entry) => entry.includes(`broken-${name}`))).toEqual([]);
    },
  );

  it.each(["tokenizer_config.json", "generation_config.json"])("%s that is no object is refused", async (name) => {
    put(name, "[1]");
    expect((await failureOf(names)).message).toContain(`${folder}/${name}: is [1], not a JSON object`);
  });

  it("a link to a file of the system is not copied", async () => {
    writeFileSync(path("secret"), "secret");
    symlinkSync(path("secret"), join(folder, "merges.txt"));
    const error = await failureOf(() => converted({ output: path("leak") }, folder));
    expect(error.message).toContain(`${folder}/merges.txt: a link to ${path("secret")}, which lies outside`);
  });
});

describe("code in configurations", () => {
  const code = { auto_map: { AutoTokenizer: ["someone/repo--tok.Evil", null] }, keep: 1 };

  it("auto_map and its kin are dropped from every file that is written, with a note each", async () => {
    await writeCheckpoint(folder, {
      config: { ...tinyHfConfig(), ...code, custom_pipelines: { "text-generation": { impl: "pipe.Evil" } } },
    });
    put("tokenizer_config.json", JSON.stringify({ ...code, tokenizer_class: "GPT2Tokenizer" }));
    put("generation_config.json", JSON.stringify({ eos_token_id: [1, 2], custom_generate: "someone/repo" }));
    const output = path("clean");
    const { record } = await converted({ output }, folder);
    const read = (name: string) => JSON.parse(readFileSync(join(output, name), "utf8"));
    for (const key of ["auto_map", "custom_pipelines"]) expect(read("config.json")).not.toHaveProperty(key);
    expect(read("config.json").keep).toBe(1);
    expect(read("tokenizer_config.json")).toEqual({ tokenizer_class: "GPT2Tokenizer", keep: 1 });
    expect(read("generation_config.json")).toEqual({ eos_token_id: [1, 2] });
    const notes = record.notes.filter((note) => note.includes("makes other programs load code"));
    expect(notes.map((note) => note.replace(/ .*/, ""))).toEqual([
      `${folder}/config.json:`,
      `${folder}/config.json:`,
      `${folder}/generation_config.json:`,
      `${folder}/tokenizer_config.json:`,
    ]);
  });

  it("a token of the name auto_map stays in vocabularies, and clean files stay as they are to the byte", async () => {
    put("vocab.json", '{ "auto_map":0 }');
    put("added_tokens.json", '{"custom_generate": 1 }');
    put("tokenizer_config.json", '{ "model_max_length": 1000000000000000019884624838656 }\n');
    const { files, notes } = await collectModelFiles(folder);
    expect(notes).toEqual([]);
    for (const [name, content] of files)
      expect(Buffer.from(content).toString()).toBe(readFileSync(join(folder, name), "utf8"));
  });
});
