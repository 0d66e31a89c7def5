// Corpora of token ids: text through the cache, .bin in place, and what every damaged or missing input says.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Tokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { type CorpusOptions, TokenCorpus } from "../../../src/distill/data/token-cache.ts";
import { withWriteFault } from "../../io/faults.ts";
import { failureOf } from "../../support/failure.ts";
import { SLOW } from "../../support/slow.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("token-cache");

/** An id for each byte, `shift` more than its value. */
function bytesTokenizer(shift = 0): Tokenizer {
  const encode = (text: string) => Array.from(Buffer.from(text), (byte) => byte + shift);
  return {
    name: "bytes",
    fingerprint: `bytes ${shift}`,
    size: 256 + shift,
    encode,
    async *stream(texts) {
      for await (const text of texts) yield encode(text);
    },
    decode: (ids) => Buffer.from(ids.map((id) => id - shift)).toString(),
  };
}

let folders = 0;
/** A folder that no other test has, and files in it; one without content is named, but does not exist. */
function corpus(texts: Record<string, string | Uint8Array | null>): { files: string[]; cache: string } {
  const folder = at(`${folders++}`);
  mkdirSync(folder);
  const files = Object.entries(texts).map(([name, content]) => {
    if (content !== null) writeFileSync(join(folder, name), content);
    return join(folder, name);
  });
  return { files, cache: join(folder, "cache") };
}

function uint16(...ids: number[]): Uint8Array {
  return new Uint8Array(Uint16Array.from(ids).buffer);
}

async function opened(
  files: readonly string[],
  options: Partial<CorpusOptions> & { tokenizer?: Tokenizer | null } = {},
) {
  const { tokenizer = bytesTokenizer(), ...rest } = options;
  const data = await TokenCorpus.open(files, tokenizer, { vocabulary: 256, ...rest });
  try {
    const ids = [...(await data.read(0, data.tokens))];
    return { ids, fingerprint: data.fingerprint, fromCache: data.fromCache };
  } finally {
    await data.close();
  }
}

/** The only cache file. */
function cacheFile(cache: string): string {
  const names = readdirSync(cache);
  expect(names).toHaveLength(1);
  return join(cache, names[0] as string);
}

afterEach(() => vi.unstubAllEnvs());

describe("a corpus of text", () => {
  it("a text is tokenized once and then comes from the cache", async () => {
    const { files, cache } = corpus({ "a.txt": "one two", "b.txt": "three" });
    const first = await opened(files, { cache });
    expect(Buffer.from(first.ids).toString()).toBe("one two\n\nthree");
    expect(first.fromCache).toBe(false);
    expect(await opened(files, { cache })).toEqual({ ...first, fromCache: true });
    expect(statSync(cacheFile(cache)).size).toBe(2 * first.ids.length + 20);
  });

  it("a text is tokenized by as many threads as are given, by all cores unless some are", async () => {
    const asked: (number | undefined)[] = [];
    const { stream, ...rest } = bytesTokenizer();
    const tokenizer: Tokenizer = {
      ...rest,
      stream: (texts, threads) => {
        asked.push(threads);
        return stream(texts);
      },
    };
    for (const threads of [3, undefined]) {
      const { files, cache } = corpus({ "a.txt": "one" });
      await opened(files, { cache, tokenizer, threads });
    }
    expect(asked).toEqual([3, availableParallelism()]);
  });

  it("a text longer than a piece arrives whole", async () => {
    const text = "Ein längerer Satz.\nUnd noch einer.\n".repeat(20_000);
    const { files, cache } = corpus({ "a.txt": text });
    const data = await TokenCorpus.open(files, bytesTokenizer(), { vocabulary: 256, cache });
    expect(data.tokens).toBe(Buffer.byteLength(text));
    expect(Buffer.from(await data.read(0, data.tokens)).equals(Buffer.from(text))).toBe(true);
    expect(Buffer.from(await data.read(400_000, 60))).toEqual(Buffer.from(text).subarray(400_000, 400_060));
    await data.close();
  });

  it("a text has uint32 ids with a vocabulary of more than 65,536", async () => {
    const { files, cache } = corpus({ "a.txt": "ab" });
    const tokenizer = bytesTokenizer(70_000);
    expect((await opened(files, { cache, tokenizer, vocabulary: 70_256 })).ids).toEqual([70_097, 70_098]);
    expect(statSync(cacheFile(cache)).size).toBe(2 * 4 + 20);
    expect((await opened(files, { cache, tokenizer, vocabulary: 70_256 })).fromCache).toBe(true);
  });

  it("a text comes from a field of .jsonl lines", async () => {
    const { files, cache } = corpus({ "a.jsonl": '{"text":"a","body":"x"}\n{"text":"b","body":"y"}' });
    expect(Buffer.from((await opened(files, { cache })).ids).toString()).toBe("a\n\nb");
    const other = await opened(files, { cache, field: "body" });
    expect(Buffer.from(other.ids).toString()).toBe("x\n\ny");
    expect(other.fromCache).toBe(false);
    expect((await failureOf(() => opened(files, { cache, field: "none" }))).message).toContain("line 1");
  });

  it("a text has another fingerprint with other content, another tokenizer, or as .txt instead of .jsonl", async () => {
    const line = '"a"'; // of a .jsonl the string, of a .txt the text with its quotes
    const { files, cache } = corpus({ "a.txt": line, "a.jsonl": line, "b.txt": "b" });
    const [text = "", json = "", other = ""] = files;
    const prints = [
      await opened([text], { cache }),
      await opened([text], { cache, tokenizer: bytesTokenizer(1) }),
      await opened([json], { cache }),
      await opened([other], { cache }),
      await opened([text, other], { cache }),
      await opened([other, text], { cache }),
    ].map(({ fingerprint }) => fingerprint);
    expect(new Set(prints).size).toBe(prints.length);
    for (const print of prints) expect(print).toMatch(/^[0-9a-f]{64}$/);
  });

  it("a text keeps its fingerprint and its cache when the file moves", async () => {
    const { files, cache } = corpus({ "a.txt": "same", "b.txt": "same" });
    const [a = "", b = ""] = files;
    const first = await opened([a], { cache });
    expect(await opened([b], { cache })).toEqual({ ...first, fromCache: true });
  });

  it("the bytes of a text are reported as it is tokenized", async () => {
    const { files, cache } = corpus({ "a.txt": "one two", "b.txt": "three" });
    const events: string[] = [];
    await opened(files, {
      cache,
      onProgress: ({ phase, done, total, unit }) => events.push(`${phase} ${done}/${total} ${unit}`),
    });
    expect(events).toEqual([
      "hashing the corpus 0/12 bytes",
      "hashing the corpus 7/12 bytes",
      "hashing the corpus 12/12 bytes",
      "tokenising 7/12 bytes",
      "tokenising 12/12 bytes",
    ]);
  });
});

describe("a corpus of token ids of other kinds", () => {
  const ids = Array.from({ length: 40 }, (_, i) => (i * 31) % 256);
  const shard = (): Uint8Array => {
    const header = new Int32Array(256);
    header.set([20240520, 1, ids.length]);
    return Buffer.concat([new Uint8Array(header.buffer), uint16(...ids)]);
  };

  it("a shard of llm.c and uint32 ids are read in place", async () => {
    const uint32 = new Uint8Array(Uint32Array.from(ids).buffer);
    const { files, cache } = corpus({ "a.bin": shard(), "b.bin": uint32, "c.bin": uint16(...ids) });
    expect((await opened(files, { cache, tokenizer: null })).ids).toEqual([...ids, ...ids, ...ids]);
    expect(existsSync(cache)).toBe(false);
  });

  it("packed ids go through the cache once", async () => {
    const { files, cache } = corpus({ "a.bin.gz": gzipSync(shard()) });
    const first = await opened(files, { cache, tokenizer: null });
    expect(first.ids).toEqual(ids);
    const written = statSync(cacheFile(cache)).mtimeMs;
    expect(await opened(files, { cache, tokenizer: null })).toEqual(first);
    expect(statSync(cacheFile(cache)).mtimeMs).toBe(written);
  });

  it("a header that does not fit the file is refused, and other files are closed", async () => {
    const { files, cache } = corpus({ "a.bin": uint16(...ids), "b.bin": shard().subarray(0, -2) });
    const { message } = await failureOf(() => opened(files, { cache, tokenizer: null }));
    expect(message).toContain("b.bin: the header says 40 token ids, the file has room for 39");
  });
});

describe("the cache of token ids", () => {
  it.each<[string, (path: string) => void]>([
    ["cut", (path) => truncateSync(path, statSync(path).size - 2)],
    ["cut to nothing", (path) => truncateSync(path, 0)],
    ["longer", (path) => writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(2)]))],
    ["zeros", (path) => writeFileSync(path, Buffer.alloc(statSync(path).size))],
    ["without its middle", (path) => writeFileSync(path, readFileSync(path).subarray(4))],
  ])("a damaged cache is written again: %s", async (_, damage) => {
    const { files, cache } = corpus({ "a.txt": "one two three" });
    const first = await opened(files, { cache });
    damage(cacheFile(cache));
    expect(await opened(files, { cache })).toEqual(first);
    expect((await opened(files, { cache })).fromCache).toBe(true);
  });

  it("the cache is made again when any single bit of it has changed", SLOW, async () => {
    const { files, cache } = corpus({ "a.txt": "ab" });
    const first = await opened(files, { cache });
    const whole = readFileSync(cacheFile(cache));
    for (let bit = 0; bit < 8 * whole.byteLength; bit++) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      writeFileSync(cacheFile(cache), damaged);
      expect({ bit, ...(await opened(files, { cache })) }).toEqual({ bit, ...first });
      expect(readFileSync(cacheFile(cache)).equals(whole)).toBe(true);
    }
  });

  it("the cache loses what a killed process left in it", async () => {
    const { files, cache } = corpus({ "a.txt": "one two three" });
    const first = await opened(files, { cache });
    const path = cacheFile(cache);
    const left = join(cache, `.${basename(path)}.nfc-tmp-${2 ** 31 - 2}-0123456789ab`);
    renameSync(path, left);
    expect(await opened(files, { cache })).toEqual(first);
    expect(cacheFile(cache)).toBe(path);
  });

  it("the cache is in $NFC_CACHE, else in $XDG_CACHE_HOME/nfc", async () => {
    const { files } = corpus({ "a.txt": "text" });
    const [own, xdg] = [at("own"), at("xdg")];
    vi.stubEnv("XDG_CACHE_HOME", xdg);
    vi.stubEnv("NFC_CACHE", "");
    await opened(files);
    expect(readdirSync(join(xdg, "nfc/tokens"))).toHaveLength(1);
    vi.stubEnv("NFC_CACHE", own);
    await opened(files);
    expect(readdirSync(join(own, "tokens"))).toHaveLength(1);
  });

  it("the cache may be written by several callers at once", async () => {
    const { files, cache } = corpus({ "a.txt": "word ".repeat(100_000) });
    const all = await Promise.all(Array.from({ length: 4 }, () => opened(files, { cache })));
    for (const { ids } of all) expect(Buffer.from(ids).equals(readFileSync(files[0] as string))).toBe(true);
    cacheFile(cache);
  });

  it("the cache is not left half written by an abort or by a fault of the text", async () => {
    const { files, cache } = corpus({ "a.txt": "line\n".repeat(200_000), "b.txt": new Uint8Array([0x61, 0xff]) });
    const [good = ""] = files;
    const abort = new AbortController();
    const onProgress = ({ phase, done }: { phase: string; done: number }) => {
      if (phase === "tokenising" && done > 500_000) abort.abort();
    };
    const { code } = await failureOf(() => opened([good], { cache, signal: abort.signal, onProgress }));
    expect(code).toBe("aborted");
    expect(readdirSync(cache)).toEqual([]);
    expect((await failureOf(() => opened(files, { cache }))).message).toMatch(/b\.txt: not UTF-8/);
    expect(readdirSync(cache)).toEqual([]);
    expect((await opened([good], { cache })).fromCache).toBe(false);
  });

  it("a cache that cannot be written is named, with --cache as the way out, whichever call fails", async () => {
    const { files, cache } = corpus({ "a.txt": "text" });
    const { calls } = await withWriteFault(0, "", () => opened(files, { cache }));
    expect(calls).toBeGreaterThanOrEqual(8);
    let failures = 0;
    for (let failing = 1; failing <= calls; failing++) {
      rmSync(cache, { recursive: true, force: true });
      const { error } = await withWriteFault(failing, "ENOSPC", () => opened(files, { cache }));
      if (!String(error).includes(cache)) continue; // reading the text failed
      failures += 1;
      expect(error).toMatchObject({ code: "io", hint: expect.stringContaining("--cache") });
      expect(String(error)).toMatch(/cache(\/[0-9a-f]{64}\.u16)?: disk full$/);
    }
    // mkdir; open, two writes, sync; rename; open and sync of the folder; open of the cache file
    expect(failures).toBe(9);
    expect((await opened(files, { cache })).ids).toHaveLength(4);
  });

  it("a cache below a file is an error of the cache, not of the text", async () => {
    const { files } = corpus({ "a.txt": "text" });
    const { code, hint } = await failureOf(() => opened(files, { cache: join(files[0] as string, "cache") }));
    expect(code).toBe("io");
    expect(hint).toContain("--cache");
  });
});

describe("token ids in .bin files", () => {
  it("token ids are read in place, one file after the other", async () => {
    const { files } = corpus({ "a.bin": uint16(1, 2, 3), "b.bin": uint16(), "c.bin": uint16(4, 255) });
    const data = await TokenCorpus.open(files, null, { vocabulary: 256, cache: join(tmpdir(), "never", "made") });
    expect([data.tokens, data.fromCache]).toEqual([5, false]);
    for (let start = 0; start <= 5; start++)
      for (let end = start; end <= 5; end++)
        expect([...(await data.read(start, end - start))]).toEqual([1, 2, 3, 4, 255].slice(start, end));
    await expect(data.read(3, 3)).rejects.toThrow(RangeError);
    await data.close();
  });

  it("token ids have a fingerprint of their content", async () => {
    const { files } = corpus({ "a.bin": uint16(1, 2), "b.bin": uint16(1, 2), "c.bin": uint16(2, 1) });
    const prints: string[] = [];
    for (const path of files) prints.push((await opened([path])).fingerprint);
    expect(prints[0]).toBe(prints[1]);
    expect(prints[0]).not.toBe(prints[2]);
  });
});

/** An array of big-endian ids, which cannot be read in place, as numpy.save writes it. */
const EMPTY_ARRAY = Buffer.from(
  `\x93NUMPY\x01\x00\x76\x00${"{'descr': '>u2', 'fortran_order': False, 'shape': (0,), }".padEnd(117)}\n`,
  "latin1",
);

describe("inputs that are no corpus", () => {
  type Row = [string, string, Record<string, string | Uint8Array | null>, Parameters<typeof opened>[1]?];
  it.each<Row>([
    ["invalid-file", "a.txt: no tokens in it", { "a.txt": "" }],
    ["invalid-file", "a.jsonl: no tokens in it", { "a.jsonl": "" }],
    ["invalid-file", "a.bin: no tokens in it", { "a.bin": "" }],
    ["invalid-file", "a.bin.gz: no tokens in it", { "a.bin.gz": gzipSync("") }],
    ["invalid-file", "b.bin.gz: no tokens in it", { "a.bin": uint16(1, 2), "b.bin.gz": gzipSync("") }],
    ["invalid-file", "a.npy: no tokens in it", { "a.npy": EMPTY_ARRAY }],
    ["not-found", "a.txt: no such file or folder", { "a.txt": null }],
    ["not-found", "a.bin: no such file or folder", { "a.bin": null }],
    ["usage", "a.txt and 1 more: text needs a tokenizer", { "a.txt": "text", "b.txt": "text" }, { tokenizer: null }],
    ["mismatch", "a.txt: token 126 at position 2, the model has 126 tokens", { "a.txt": "ab~c" }, { vocabulary: 126 }],
    [
      "mismatch",
      "b.bin: token 256 at position 1, the model has 256 tokens",
      { "a.bin": uint16(1, 2), "b.bin": uint16(3, 256) },
    ],
    [
      "invalid-file",
      "b.bin: 5 bytes are no whole number of uint16 token ids",
      { "a.bin": uint16(1, 2), "b.bin": new Uint8Array(5) },
    ],
  ])("a corpus is refused as %s, and nothing is cached: %s", async (code, sentence, texts, options) => {
    const { files, cache } = corpus(texts);
    const error = await failureOf(() => opened(files, { cache, ...options }));
    expect(error.code).toBe(code);
    expect(error.message).toBe(join(dirname(cache), sentence));
    expect(existsSync(cache) ? readdirSync(cache) : []).toEqual([]);
  });

  it("text and ids together are refused", async () => {
    const { files } = corpus({ "a.txt": "text", "b.bin": uint16(1) });
    expect((await failureOf(() => opened(files))).code).toBe("usage");
  });
});
