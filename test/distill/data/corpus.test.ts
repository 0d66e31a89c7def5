// The files that arguments name: files, folders and globs, in an order that does not depend on the system.
import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { describe, expect, it } from "vitest";
import { findCorpusFiles } from "../../../src/distill/data/corpus.ts";
import { failureOf } from "../../support/failure.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("corpus");
const names = ["b.txt", "a.jsonl", "deep/er/c.ndjson", "deep/d.txt", "deep/notes.md", "ids/1.bin", "ids/2.bin"];
for (const name of [...names, "only/picture.png", "odd[1].txt"]) {
  mkdirSync(join(at(name), ".."), { recursive: true });
  writeFileSync(at(name), name.endsWith(".bin") ? Uint8Array.of(7, 0) : "x");
}

/** Their names below the folder. */
async function found(...patterns: string[]): Promise<string[]> {
  return (await findCorpusFiles(patterns.map((pattern) => at(pattern)))).map((path) =>
    relative(at(), path).split(sep).join("/"),
  );
}

describe("the files of a corpus", () => {
  it("a corpus is the named files in the order of the arguments", async () => {
    expect(await found("b.txt", "a.jsonl")).toEqual(["b.txt", "a.jsonl"]);
  });

  it("a named file may have any ending", async () => {
    expect(await found("deep/notes.md")).toEqual(["deep/notes.md"]);
  });

  it("a folder stands for its text or id files, sorted, from every depth", async () => {
    expect(await found("deep")).toEqual(["deep/d.txt", "deep/er/c.ndjson"]);
    expect(await found("ids")).toEqual(["ids/1.bin", "ids/2.bin"]);
  });

  it("a glob stands for the files it matches, sorted", async () => {
    expect(await found("**/*.{txt,jsonl}")).toEqual(["a.jsonl", "b.txt", "deep/d.txt", "odd[1].txt"]);
    expect(await found("deep/*")).toEqual(["deep/d.txt", "deep/notes.md"]);
  });

  it("a file comes once, however often it is named", async () => {
    expect(await found("deep/d.txt", "deep", "**/d.txt", "deep/../b.txt", "b.txt")).toEqual([
      "deep/d.txt",
      "deep/er/c.ndjson",
      "b.txt",
    ]);
  });

  it("a file may have the characters of a glob in its name", async () => {
    expect(await found("odd[1].txt")).toEqual(["odd[1].txt"]);
  });

  it("a file is named as its argument was, relative or absolute", async () => {
    const folder = relative(process.cwd(), at("deep"));
    expect(await findCorpusFiles([`${folder}/*.txt`])).toEqual([`${folder.split(sep).join("/")}/d.txt`]);
    expect(await findCorpusFiles([folder])).toEqual([join(folder, "d.txt"), join(folder, "er/c.ndjson")]);
    expect(await findCorpusFiles([`${at("deep")}/*.txt`])).toEqual([at("deep/d.txt")]);
  });
});

describe("folders of other files", () => {
  const write = (name: string, content: string | Uint8Array = "x") => {
    mkdirSync(join(at(name), ".."), { recursive: true });
    writeFileSync(at(name), content);
  };

  it("packed files of a folder are taken, JSON and .npy where there is nothing else, descriptions never", async () => {
    write("packed/a.txt.gz");
    write("packed/b.json");
    expect(await found("packed")).toEqual(["packed/a.txt.gz"]);
    write("json/train.json", '[{"text":"a"}]');
    write("json/dataset_info.json", "{}");
    expect(await found("json")).toEqual(["json/train.json"]);
  });

  it("a data set that is not read is not passed over", async () => {
    write("dataset/README.txt");
    write("dataset/data-00000-of-00001.arrow");
    const { code, message } = await failureOf(() => found("dataset"));
    expect(code).toBe("unsupported");
    expect(message).toBe(`${at("dataset")}: holds data-00000-of-00001.arrow, a data set that is not read`);
  });

  it("training and validation ids of one folder are not trained on together", async () => {
    for (const name of ["train", "val"]) write(`nano/${name}.bin`, Uint8Array.of(7, 0));
    const { code, hint } = await failureOf(() => found("nano"));
    expect(code).toBe("usage");
    expect(hint).toBe(`name them: --data ${at("nano/train.bin")} --valid ${at("nano/val.bin")}`);
  });

  it("an address is to be downloaded", async () => {
    const { hint } = await failureOf(() => findCorpusFiles(["https://example.org/data.txt"]));
    expect(hint).toBe("download it first, and name the file");
  });
});

describe("arguments that are no corpus", () => {
  it.each([
    ["missing.txt", "no such file or folder"],
    ["b.txt/inside.txt", "no such file or folder"],
    ["*.csv", "no file matches this glob"],
    ["only", "no .txt, .jsonl, .ndjson or .bin file in this folder"],
  ])("an argument that names no corpus is refused: %s", async (pattern, fact) => {
    const { code, message } = await failureOf(() => found("b.txt", pattern));
    expect(code).toBe("not-found");
    expect(message).toBe(`${at(pattern)}: ${fact}`);
  });

  it("text and token ids together are refused", async () => {
    const { code, message } = await failureOf(() => found("b.txt", "ids"));
    expect(code).toBe("usage");
    expect(message).toBe(`${at("ids/1.bin")} holds token ids, ${at("b.txt")} text: a corpus is one or the other`);
  });
});
