// Files beside a model: what is no regular file of the folder, or of its repository in the Hub's cache, is not read.
import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/checkpoint/checkpoint.ts";
import { hasCompanion, readCompanion, readCompanionJson } from "../../src/checkpoint/companion-files.ts";
import { readTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { readEndTokens } from "../../src/inference/generate/end-tokens.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { readTrainingCurves } from "../../src/report/page/page-data.ts";
import { failureOf } from "../support/failure.ts";
import { opened } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("companion");
let count = 0;
let folder = "";
beforeEach(() => {
  folder = path(`folder${count++}`);
  mkdirSync(folder);
});

const makePipe = (file: string) => execFileSync("mkfifo", [file]);
const read = () => readCompanion(folder, "vocab.json");

describe("a file beside a model", () => {
  it("a file of the folder is read whole, and one that is not there is null", async () => {
    expect(await read()).toBeNull();
    expect(await hasCompanion(folder, "vocab.json")).toBe(false);
    writeFileSync(join(folder, "vocab.json"), '{"a":0}');
    expect((await read())?.toString()).toBe('{"a":0}');
    expect(await hasCompanion(folder, "vocab.json")).toBe(true);
    expect(await readCompanionJson(folder, "vocab.json")).toEqual({ a: 0 });
  });

  it("a link to a file of the folder is followed", async () => {
    mkdirSync(join(folder, "data"));
    writeFileSync(join(folder, "data", "v.json"), "{}");
    symlinkSync("data/v.json", join(folder, "vocab.json"));
    expect((await read())?.toString()).toBe("{}");
  });

  it.each([
    ["a file of the system", "/etc/hostname"],
    ["a device", "/dev/zero"],
    ["a file of the folder above", "../secret.json"],
    ["a folder beside it of a longer name", `../${"folder".padEnd(6)}`],
  ])("a link to %s is refused", async (_, target) => {
    writeFileSync(path("secret.json"), "secret");
    mkdirSync(path("folder"), { recursive: true });
    symlinkSync(target, join(folder, "vocab.json"));
    const error = await failureOf(read);
    expect(error.code).toBe("invalid-file");
    expect(error.message).toMatch(/vocab\.json: a link to \S+, which lies outside the model's folder$/);
    expect((await failureOf(() => hasCompanion(folder, "vocab.json"))).code).toBe("invalid-file");
  });

  it("a link to nothing is refused by name", async () => {
    symlinkSync("gone.json", join(folder, "vocab.json"));
    expect((await failureOf(read)).message).toBe(`${folder}/vocab.json: a link to a file that is not there`);
  });

  it("a folder and a pipe are refused, and the pipe does not block", async () => {
    mkdirSync(join(folder, "merges.txt"));
    expect((await failureOf(() => readCompanion(folder, "merges.txt"))).message).toContain("this is a folder");
    makePipe(join(folder, "vocab.json"));
    expect((await failureOf(read)).message).toBe(`${folder}/vocab.json: this is no regular file, a file is expected`);
    symlinkSync("vocab.json", join(folder, "tokenizer.json"));
    expect((await failureOf(() => readCompanion(folder, "tokenizer.json"))).message).toContain("no regular file");
  });

  it("a socket is refused", async () => {
    const server = createServer();
    await new Promise<void>((done) => server.listen(join(folder, "vocab.json"), done));
    expect((await failureOf(read)).message).toContain("no regular file");
    server.close();
  });

  it("a file beyond the limit is refused before it is read", async () => {
    writeFileSync(join(folder, "vocab.json"), "0123456789");
    const error = await failureOf(() => readCompanion(folder, "vocab.json", { maxBytes: 9 }));
    expect(error.message).toContain("10 bytes, more than the 9 that are allowed here");
  });

  it("what is not JSON is refused by name", async () => {
    writeFileSync(join(folder, "vocab.json"), "{");
    const error = await failureOf(() => readCompanionJson(folder, "vocab.json"));
    expect(error.message).toContain(`${folder}/vocab.json: not valid JSON`);
  });
});

describe("the Hub's cache", () => {
  const blob = "0123456789abcdef0123456789abcdef01234567";
  const snapshotOf = (name: string) => {
    const root = join(folder, `models--someone--${name}`);
    mkdirSync(join(root, "blobs"), { recursive: true });
    mkdirSync(join(root, "snapshots", "c1", "sub"), { recursive: true });
    writeFileSync(join(root, "blobs", blob), '{"of":1}');
    return join(root, "snapshots", "c1");
  };

  it("links of a snapshot to the files of its repository are followed, from a folder in it too", async () => {
    const snapshot = snapshotOf("mine");
    symlinkSync(`../../blobs/${blob}`, join(snapshot, "vocab.json"));
    symlinkSync(`../../../blobs/${blob}`, join(snapshot, "sub", "vocab.json"));
    expect(await readCompanionJson(snapshot, "vocab.json")).toEqual({ of: 1 });
    expect(await readCompanionJson(join(snapshot, "sub"), "vocab.json")).toEqual({ of: 1 });
  });

  it("links to another repository, or beside the blobs, are refused", async () => {
    snapshotOf("theirs");
    const snapshot = snapshotOf("mine");
    symlinkSync(`../../../models--someone--theirs/blobs/${blob}`, join(snapshot, "vocab.json"));
    expect((await failureOf(() => readCompanion(snapshot, "vocab.json"))).message).toContain("outside");
    unlinkSync(join(snapshot, "vocab.json"));
    writeFileSync(join(snapshot, "../../token"), "{}");
    symlinkSync("../../token", join(snapshot, "vocab.json"));
    expect((await failureOf(() => readCompanion(snapshot, "vocab.json"))).message).toContain("outside");
  });
});

describe("every reader of a model's folder", () => {
  const config = { eos_token_id: 1 } as ModelConfig;
  it.each([
    ["config.json", () => openCheckpoint(folder)],
    ["nfc.json", () => openCheckpoint(folder)],
    ["tokenizer.json", () => readTokenizer(folder)],
    ["vocab.json", () => readTokenizer(folder)],
    ["generation_config.json", () => readEndTokens({ folder, config, rawConfig: {} })],
    ["metrics.jsonl", () => opened(folder, (checkpoint) => readTrainingCurves(checkpoint))],
  ])("a pipe and a link to elsewhere are refused under the name %s", async (name, use) => {
    await writeCheckpoint(folder);
    const file = join(folder, name);
    if (name === "config.json") unlinkSync(file);
    makePipe(file);
    expect((await failureOf(use)).message).toContain(`${name}: this is no regular file`);
    unlinkSync(file);
    writeFileSync(path("elsewhere"), "{}");
    symlinkSync(path("elsewhere"), file);
    expect((await failureOf(use)).message).toContain("which lies outside the model's folder");
  });

  it("a shard index that is a link to elsewhere is refused", async () => {
    await writeCheckpoint(folder, { shards: 2 });
    const index = join(folder, "model.safetensors.index.json");
    renameSync(index, path("index.json"));
    symlinkSync(path("index.json"), index);
    expect((await failureOf(() => openCheckpoint(folder))).message).toContain("outside the model's folder");
  });
});
