// A measured perplexity in nfc.json: added, replaced for the same text, kept with the source's, and never forced.
import { createHash } from "node:crypto";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import type { NfcRecord } from "../../../src/checkpoint/nfc-record.ts";
import type { Evaluation } from "../../../src/inference/score/evaluate.ts";
import { recordPerplexity } from "../../../src/inference/score/record-perplexity.ts";
import { converted, digest, MODEL, opened } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("record-perplexity");
let count = 0;

async function model(): Promise<string> {
  const output = path(`m${count++}`);
  await converted({ output });
  return output;
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

function text(name: string): string {
  writeFileSync(path(name), `of ${name}`);
  return path(name);
}

function result(perplexity: number, tokens = 1000, against?: number): Evaluation {
  const score = (value: number) => ({ perplexity: value, nll: Math.log(value) });
  return {
    ...score(perplexity),
    tokens,
    windows: 1,
    length: 64,
    stride: 64,
    tokensPerSecond: 1,
    ...(against !== undefined && { against: { ...score(against), kl: 0, agreement: 1 } }),
  };
}

async function noted(
  folder: string,
  texts: string[],
  evaluation: Evaluation,
  against?: string,
): Promise<string | null> {
  const other = against === undefined ? undefined : await openCheckpoint(against);
  const written = await opened(folder, (checkpoint) => recordPerplexity(checkpoint, texts, evaluation, other));
  await other?.close();
  return written;
}

const recordOf = (folder: string): NfcRecord => JSON.parse(readFileSync(`${folder}/nfc.json`, "utf8"));

describe("recordPerplexity", () => {
  it("recording a perplexity adds an entry to nfc.json and changes nothing else in the folder", async () => {
    const folder = await model();
    const [record, before] = [recordOf(folder), digest(folder)];
    expect(await noted(folder, [text("a.txt")], result(12.5))).toBe(`${folder}/nfc.json`);
    const entry = { file: "a.txt", sha256: sha256("of a.txt"), tokens: 1000, length: 64, stride: 64, perplexity: 12.5 };
    expect(recordOf(folder)).toEqual({ ...record, perplexity: [entry] });
    const after = digest(folder);
    expect({ ...after, "nfc.json": "" }).toEqual({ ...before, "nfc.json": "" });
  });

  it("recording a perplexity replaces the entry of the same text and length, and keeps others", async () => {
    const folder = await model();
    await noted(folder, [text("a.txt")], result(12.5));
    await noted(folder, [text("b.txt")], result(3));
    await noted(folder, [text("a.txt")], result(11));
    await noted(folder, [text("a.txt")], result(14, 700));
    const entries = recordOf(folder).perplexity?.map(({ file, tokens, perplexity }) => [file, tokens, perplexity]);
    expect(entries).toEqual([
      ["b.txt", 1000, 3],
      ["a.txt", 1000, 11],
      ["a.txt", 700, 14],
    ]);
  });

  it("results that are noted at once are all kept", async () => {
    const folder = await model();
    const names = Array.from({ length: 12 }, (_, n) => `${n}.txt`);
    await Promise.all(names.map((name, n) => noted(folder, [text(name)], result(n + 2))));
    expect(
      recordOf(folder)
        .perplexity?.map(({ file }) => file)
        .sort(),
    ).toEqual([...names].sort());
    expect(Object.keys(digest(folder))).not.toContain(".nfc.json.nfc-lock");
  });

  it("entries of different strides are kept apart", async () => {
    const folder = await model();
    await noted(folder, [text("a.txt")], result(12.5));
    await noted(folder, [text("a.txt")], { ...result(11), stride: 16 });
    expect(recordOf(folder).perplexity?.map(({ stride, perplexity }) => [stride, perplexity])).toEqual([
      [64, 12.5],
      [16, 11],
    ]);
  });

  it("entries of different texts are kept apart by content, not by name, and several texts are one entry", async () => {
    const folder = await model();
    await noted(folder, [text("a.txt"), text("b.txt")], result(2));
    expect(recordOf(folder).perplexity).toEqual([
      {
        file: "a.txt, b.txt",
        sha256: sha256([sha256("of a.txt"), sha256("of b.txt")].join("\n")),
        tokens: 1000,
        length: 64,
        stride: 64,
        perplexity: 2,
      },
    ]);
  });

  it("bits a byte are noted of text, and left out where ids were given", async () => {
    const folder = await model();
    await noted(folder, [text("a.txt")], { ...result(12.5), bitsPerByte: 1.75 });
    await noted(folder, [text("b.bin")], result(12.5));
    expect(recordOf(folder).perplexity?.map((entry) => entry.bitsPerByte)).toEqual([1.75, undefined]);
  });

  it("the source's perplexity is noted when it was compared with the source, and kept later", async () => {
    const folder = await model();
    await noted(folder, [text("a.txt")], result(12.5, 1000, 9), MODEL);
    expect(recordOf(folder).perplexity?.[0]).toMatchObject({ perplexity: 12.5, source: 9 });
    await noted(folder, [text("a.txt")], result(12));
    expect(recordOf(folder).perplexity?.[0]).toMatchObject({ perplexity: 12, source: 9 });
  });

  it("the perplexity of another model is not taken for the source's", async () => {
    const folder = await model();
    const other = await writeCheckpoint(path("other"), { vocab: 384 });
    await noted(folder, [text("a.txt")], result(12.5, 1000, 9), other);
    expect(recordOf(folder).perplexity?.[0]).not.toHaveProperty("source");
  });

  it("a record with an added perplexity opens again", async () => {
    const folder = await model();
    await noted(folder, [text("a.txt")], result(12.5, 1000, 9), MODEL);
    expect(await opened(folder, ({ record }) => record)).toEqual(recordOf(folder));
  });

  it("a model without a record is left alone", async () => {
    const folder = await writeCheckpoint(path("plain"));
    const before = digest(folder);
    expect(await noted(folder, [text("a.txt")], result(2))).toBeNull();
    expect(digest(folder)).toEqual(before);
  });

  it("a perplexity of almost no text is left out, as it says nothing of the model", async () => {
    const folder = await model();
    const before = digest(folder);
    expect(await noted(folder, [text("a.txt")], result(3, 255))).toBeNull();
    expect(digest(folder)).toEqual(before);
    expect(await noted(folder, [text("a.txt")], result(3, 256))).toBe(`${folder}/nfc.json`);
  });

  it("a perplexity too large for a number, which JSON cannot hold, is left out", async () => {
    const folder = await model();
    const before = digest(folder);
    expect(await noted(folder, [text("a.txt")], result(Number.POSITIVE_INFINITY))).toBeNull();
    expect(digest(folder)).toEqual(before);
  });

  it.skipIf(process.getuid?.() === 0)(
    "a read-only model is left alone (skipped for root, who may write anywhere)",
    async () => {
      const folder = await model();
      chmodSync(`${folder}/nfc.json`, 0o444);
      expect(await noted(folder, [text("a.txt")], result(2))).toBeNull();
      chmodSync(`${folder}/nfc.json`, 0o644);
      chmodSync(folder, 0o555);
      expect(await noted(folder, [text("a.txt")], result(2))).toBeNull();
      chmodSync(folder, 0o755);
    },
  );
});
