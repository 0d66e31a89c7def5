// Text as a stream: pieces of one size, .jsonl by field, and one line for each kind of bad input.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readTextPieces, type TextOptions } from "../../src/io/text.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "nfc-text-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  await writeFile(join(folder, name), content);
  return join(folder, name);
}

async function pieces(paths: readonly string[], options?: TextOptions): Promise<string[]> {
  const result: string[] = [];
  for await (const piece of readTextPieces(paths, options)) result.push(piece);
  return result;
}

describe("reading text files", () => {
  test("a short file is one piece", async () => {
    expect(await pieces([await file("a.txt", "one\ntwo")])).toEqual(["one\ntwo"]);
  });

  test("files are joined by a blank line", async () => {
    expect((await pieces([await file("a.txt", "one"), await file("b.txt", "two")])).join("")).toBe("one\n\ntwo");
  });

  test.each([
    ["with lines", "some words in a line\n\n  indented\n"],
    ["without line breaks", "x "],
  ])("a long file %s comes in pieces of one size, and nothing is lost", async (_, unit) => {
    const text = unit.repeat(1_200_000 / unit.length);
    const read = await pieces([await file("long.txt", text)]);
    expect(read.join("")).toBe(text);
    expect(Math.max(...read.map((piece) => piece.length))).toBeLessThanOrEqual(65_536);
  });

  test("a character split between two reads survives", async () => {
    const text = `${"a".repeat(65_535)}é\n`;
    expect((await pieces([await file("split.txt", text)])).join("")).toBe(text);
  });

  test("a file that is not UTF-8 is refused", async () => {
    const path = await file("latin1.txt", Uint8Array.of(0x61, 0xe9, 0x62));
    await expect(pieces([path])).rejects.toMatchObject({
      code: "invalid-file",
      message: expect.stringMatching(/latin1\.txt: not UTF-8 \(near byte 0\)$/),
    });
  });

  test("a truncated last character is refused", async () => {
    const path = await file("cut.txt", Uint8Array.of(0x61, 0xc3));
    await expect(pieces([path])).rejects.toThrow("not UTF-8");
  });

  test("a missing file is reported", async () => {
    await expect(pieces([join(folder, "none.txt")])).rejects.toMatchObject({ code: "not-found" });
  });

  test("a read ends when its signal has fired", async () => {
    const path = await file("a.txt", "one");
    await expect(pieces([path], { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "aborted" });
  });

  test("bytes are counted as they are read", async () => {
    let bytes = 0;
    const path = await file("count.txt", "é!");
    await pieces([path], { onBytes: (n) => (bytes += n) });
    expect(bytes).toBe(3);
  });
});

describe("reading .jsonl files", () => {
  test("the field of each line is read, joined by blank lines, and empty lines are skipped", async () => {
    const path = await file("a.jsonl", '{"text":"one"}\n\n{"text":"two\\n"}\n{"text":"three"}');
    expect((await pieces([path])).join("")).toBe("one\n\ntwo\n\n\nthree");
  });

  test("another field is read when asked", async () => {
    const path = await file("b.jsonl", '{"content":"one"}\n');
    expect(await pieces([path], { field: "content" })).toEqual(["one"]);
  });

  test("a line without the field is refused by number", async () => {
    const path = await file("c.jsonl", '{"text":"one"}\n{"content":"two"}\n');
    await expect(pieces([path])).rejects.toMatchObject({
      message: expect.stringMatching(/c\.jsonl: line 2 has no string in the field "text"$/),
      hint: expect.stringContaining("--field"),
    });
  });

  test("a line that is not JSON is refused by number", async () => {
    const path = await file("d.jsonl", '{"text":"one"}\n\n{"text":\n');
    await expect(pieces([path])).rejects.toThrow(/d\.jsonl: line 3 is not JSON$/);
  });
});
