// Windows from all over a text: of words, of token ids, and of texts that are short.
import { mkdir, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { sampleWindows } from "../../src/checkpoint/token-sample.ts";
import { loadTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { failureOf } from "../support/failure.ts";
import { MODEL, opened } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const at = temporaryFolder("token-sample");
const LENGTH = 24;

async function write(name: string, content: string | Uint8Array): Promise<string> {
  await mkdir(at(), { recursive: true });
  await writeFile(at(name), content);
  return at(name);
}

/** The samples of files of the fixture's vocabulary, as text. */
const sample = (paths: string[], count: number) =>
  opened(MODEL, async (checkpoint) => {
    const windows = await sampleWindows(paths, checkpoint, { length: LENGTH, count });
    const tokenizer = await loadTokenizer(checkpoint.folder, checkpoint.config);
    return { windows, texts: windows.map((ids) => tokenizer.decode([...ids])) };
  });

/** 2,000 numbered sentences; a window's first number tells where it begins. */
const numbered = (from = 0) => Array.from({ length: 2000 }, (_, i) => `The ${from + i} went home.`).join("\n");
const firstNumber = (text: string) => Number(/\d+/.exec(text)?.[0]);

describe("windows from all over a text", () => {
  it("windows of a long text begin at even distances, with a word, and are as long as asked for", async () => {
    const path = await write("long.txt", numbered());
    const { windows, texts } = await sample([path], 8 * LENGTH);
    expect(windows.map((ids) => ids.length)).toEqual(Array(8).fill(LENGTH));
    expect(texts.map(firstNumber).map((number) => Math.round(number / 250))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const text of texts.slice(1)) expect(text).toMatch(/^\s/);
  });

  it("windows are spread over all files, and over the records of JSON", async () => {
    const paths = [await write("a.txt", numbered()), await write("b.txt", numbered(2000))];
    const { texts } = await sample(paths, 8 * LENGTH);
    expect(texts.map(firstNumber).map((number) => Math.round(number / 500))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const lines = numbered()
      .split("\n")
      .map((text) => JSON.stringify({ text }));
    const records = await sample([await write("long.jsonl", lines.join("\n"))], 8 * LENGTH);
    expect(records.texts.map(firstNumber).map((number) => Math.round(number / 250))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("windows of a short text follow one another from its beginning", async () => {
    const path = await write("short.txt", "one two three four five six seven eight nine ten ".repeat(6));
    const [few, many] = [await sample([path], 2 * LENGTH), await sample([path], 1000 * LENGTH)];
    expect(many.texts.join("").startsWith("one two three")).toBe(true);
    expect(many.windows.length).toBeGreaterThan(2);
    expect(few.windows[0]).toEqual(many.windows[0]);
  });

  it("windows of token ids are spread as those of text are", async () => {
    const ids = Uint16Array.from({ length: 4000 }, (_, i) => Math.floor(i / 20));
    const path = await write("ids.bin", new Uint8Array(ids.buffer));
    const { windows } = await sample([path], 4 * LENGTH);
    expect(windows.map((window) => window[0])).toEqual([0, 50, 100, 150]);
    expect(windows.map((window) => window.length)).toEqual(Array(4).fill(LENGTH));
  });

  it("a text without white space is sampled as others are", async () => {
    const { windows, texts } = await sample([await write("joined.txt", numbered().replace(/\s/g, "_"))], 8 * LENGTH);
    expect(windows.map((ids) => ids.length)).toEqual(Array(8).fill(LENGTH));
    // A window may begin in the middle of a number.
    const numbers = texts.map((text) => Number(/_(\d+)_/.exec(text)?.[1]));
    expect(numbers.map((number) => Math.round(number / 250))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const astral = await sample([await write("astral.txt", "𝔘𝔫𝔦😀".repeat(4000))], 8 * LENGTH);
    expect(astral.windows).toHaveLength(8);
    expect(astral.texts.slice(0, -1).every((text) => !text.startsWith("\ufffd"))).toBe(true);
  });

  it("as many windows are taken as the text has, where its tokens are longer than usual", async () => {
    const wide = `${"word".padEnd(9)} `.repeat(3000); // a long token of spaces is few tokens for its characters
    const { windows } = await sample([await write("wide.txt", wide)], 64 * LENGTH);
    expect(windows).toHaveLength(64);
  });

  it("an empty text is refused by name", async () => {
    const path = await write("empty.txt", "");
    expect((await failureOf(() => sample([path], LENGTH))).message).toBe(`${path}: the text has under two tokens`);
  });
});
