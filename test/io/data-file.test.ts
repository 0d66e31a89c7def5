// Data files told by their content: gzip, encodings, JSON under any name, and what each other format is called.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { detectDataKind } from "../../src/io/data-file.ts";
import { readTextLines, readTextPieces, type TextOptions } from "../../src/io/text.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const at = temporaryFolder("data-file");

function file(name: string, content: string | Uint8Array): string {
  mkdirSync(dirname(at(name)), { recursive: true });
  writeFileSync(at(name), content);
  return at(name);
}

async function read(path: string, options?: TextOptions): Promise<string> {
  let text = "";
  for await (const piece of readTextPieces([path], options)) text += piece;
  return text;
}

const bytes = (text: string) => Buffer.from(text, "latin1");
const LINES = '{"text":"one"}\n{"text":"two"}\n';
const ARRAY = '[{"text":"one"},\n {"text":"two"}]';
const PRETTY = '{\n "text": "one"\n}\n{\n "text": "two"\n}\n';

describe("JSON in data files", () => {
  it.each([
    ["lines.json", LINES],
    ["lines.jsonl", LINES],
    ["lines.txt", LINES],
    ["lines.bin", LINES],
    ["lines", LINES],
    ["array.json", ARRAY],
    ["array.jsonl", ARRAY],
    ["array.txt", ARRAY],
    ["strings.json", '["one", "two"]'],
    ["strings.txt", '["one", "two"]'],
    ["string-lines.jsonl", '"one"\n"two"\n'],
    ["pretty.json", PRETTY],
    ["pretty.txt", PRETTY],
    ["marked.json", `\uFEFF${ARRAY}`],
    ["spaced.json", `\n  ${ARRAY}\n\n`],
    ["crlf.txt", LINES.replaceAll("\n", "\r\n")],
    ["wide.json", Buffer.from(`\uFEFF${LINES}`, "utf16le")],
    ["packed.json.gz", gzipSync(LINES)],
    ["packed", gzipSync(ARRAY)],
  ])("the records of %s are its documents", async (name, content) => {
    expect(await read(file(name, content))).toBe("one\n\ntwo");
  });

  it("a device is refused at once", async () => {
    const error = await failureOf(() => detectDataKind("/dev/zero"));
    expect(error.message).toBe("/dev/zero: is a pipe or a device, and a text is read more than once");
  });

  it("a record longer than the first bytes of a file shows what the file is", async () => {
    const long = "word ".repeat(30_000);
    for (const [name, content] of [
      ["long.txt", `{"text": ${JSON.stringify(long)}}\n{"text": "two"}\n`],
      ["long-array.txt", `[{"text": ${JSON.stringify(long)}}, {"text": "two"}]`],
    ] as const)
      expect(await read(file(name, content))).toBe(`${long}\n\ntwo`);
  });

  it("a field is taken from arrays as from lines", async () => {
    expect(await read(file("field.json", '[{"content":"one"}]'), { field: "content" })).toBe("one");
  });

  it.each([
    ["prose.txt", "[1] A note\n[2] Another"],
    ["link.txt", "[[Category:Trees]]\ntext"],
    ["quote.txt", '["Hello," she said]'],
    ["code.txt", '{ "a": 1 }\nis an object'],
    ["brace.txt", "{note} text"],
    ["object.txt", "{'python': 1}\n{'python': 2}\n"],
    ["array-and-more.txt", '["a", "b"] is a list'],
    ["numbers.txt", "[1, 2, 3]"],
    ["page.html", "<!DOCTYPE html><p>text"],
    ["log.txt", "version https://git is a line"],
    ["orchard.txt", "ORCHARD and GGUF and PAR1"],
  ])("the text of %s is plain text", async (name, content) => {
    expect(await read(file(name, content))).toBe(content);
  });

  it.each([
    ["field-lines.json", '{"body":"a","id":1}\n', 'line 1 has no string in the field "text"', 'strings are in "body"'],
    [
      "field-array.json",
      '[{"text":"a"},{"body":"b"}]',
      'element 2 (line 1) has no string in the field "text"',
      '"body"',
    ],
    ["wrapped.json", '{\n"version": 1,\n"data": [{"text": "a"}]}', "line 1 has no string", "jq -c '.data[]'"],
    ["columns.json", '{"text": ["a", "b"]}', "line 1 has no string", "jq -c '.text[]'"],
    ["numbers.json", "[1, 2]", "element 1 (line 1) has no string", "--field"],
    ["comma.json", '["a",]', "element 2 (line 1) is not JSON", ""],
    ["broken.json", '["a",\n{"text": }]', "element 2 (line 2) is not JSON", ""],
    ["open.json", '["a",\n"b"', "the array does not end", "fetch"],
    ["more.json", '["a"]\n["b"]', "line 2: more follows the array", "fetch"],
    ["prose.json", "not JSON at all", "line 1 is not JSON", ""],
    ["cut.json", '{"text": "a"}\n{"text": "b', "line 2 is not JSON", ""],
    ["__proto__.json", '[{"a": 1}]', "element 1 (line 1) has no string", "--field"],
  ])("a fault of %s is named", async (name, content, fact, hint) => {
    const error = await failureOf(() => read(file(name, content)));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain(`${at(name)}: ${fact}`);
    expect(error.hint ?? "").toContain(hint);
  });

  it("an array is read in pieces: its records come before its end is reached", async () => {
    const path = file("stream.json", `[${'{"text":"word word"},'.repeat(200_000)}broken]`);
    const pieces: string[] = [];
    const error = await failureOf(async () => {
      for await (const piece of readTextPieces([path])) pieces.push(piece);
    });
    expect(error.message).toContain("element 200001");
    expect(pieces.length).toBeGreaterThan(3);
  });
});

describe("gzip", () => {
  it("text is read as it is unpacked, several members too", async () => {
    expect(await read(file("a.txt.gz", Buffer.concat([gzipSync("one "), gzipSync("two")])))).toBe("one two");
    const lines: string[] = [];
    for await (const { text } of readTextLines(file("a.tsv.gz", gzipSync("a\tb\nc\td")))) lines.push(text);
    expect(lines).toEqual(["a\tb", "c\td"]);
  });

  it("progress counts the bytes on disk", async () => {
    const packed = gzipSync("text ".repeat(100_000));
    let seen = 0;
    await read(file("count.gz", packed), { onBytes: (count) => (seen += count) });
    expect(seen).toBe(packed.byteLength);
  });

  it.each([
    ["cut.gz", gzipSync("text ".repeat(1000)).subarray(0, -12), "the gzip data ends too early"],
    [
      "damaged.gz",
      Buffer.concat([gzipSync("text").subarray(0, 10), Buffer.alloc(20, 0xff)]),
      "the gzip data is damaged",
    ],
    ["twice.gz", gzipSync(gzipSync("text")), "is a gzip archive inside another"],
    ["tar.gz", gzipSync(makeTar()), "is a tar archive, not text"],
    ["table.csv.gz", gzipSync("a,b\n"), "is a table (CSV), not text"],
  ])("%s is refused", async (name, content, fact) => {
    expect((await failureOf(() => read(file(name, content)))).message).toContain(`${at(name)}: ${fact}`);
  });

  it("a file that unpacks to far more than text does is refused on the way", async () => {
    const bomb = gzipSync(Buffer.alloc(80 * 2 ** 20, "a"));
    const error = await failureOf(() => detectAndRead(file("bomb.txt.gz", bomb)));
    expect(error.message).toContain("unpacks to more than 250 times its size");
  });
});

/** Reads a text without keeping it. */
async function detectAndRead(path: string): Promise<void> {
  for await (const _ of readTextLines(path)) expect(_.text.length).toBeLessThan(0);
}

function makeTar(): Uint8Array {
  const tar = Buffer.alloc(1024);
  tar.write("a.txt");
  tar.write("ustar", 257);
  return tar;
}

describe("encodings", () => {
  it("UTF-16 is known by its mark, in both orders", async () => {
    const little = Buffer.from("\uFEFFgrüße\n", "utf16le");
    expect(await read(file("le.txt", little))).toBe("grüße\n");
    expect(await read(file("be.txt", Buffer.from(little).swap16()))).toBe("grüße\n");
  });

  it("UTF-16 without a mark, and any zero byte, is no text", async () => {
    const error = await failureOf(() => read(file("unmarked.txt", Buffer.from("text", "utf16le"))));
    expect(error.message).toBe(`${at("unmarked.txt")}: is not text: byte 1 is zero`);
  });
});

describe("formats of other tools", () => {
  it.each([
    ["data.parquet", bytes("PAR1\x15\x00\x15"), "a Parquet file", "pandas.read_parquet"],
    ["data.arrow", bytes("ARROW1\0\0"), "an Arrow file", "datasets"],
    ["stream.arrow", bytes("\xff\xff\xff\xff\x10\0\0\0"), "an Arrow file", "datasets"],
    ["data.zst", bytes("\x28\xb5\x2f\xfd\x04\0"), "a zstd archive", "zstd -d"],
    ["data.xz", bytes("\xfd7zXZ\0\0"), "an xz archive", "xz -d"],
    ["data.bz2", bytes("BZh91AY&SY\x01\x02"), "a bzip2 archive", "bunzip2"],
    ["data.zip", bytes("PK\x03\x04\x14\0"), "a zip archive", "unzip"],
    ["data.tar", makeTar(), "a tar archive", "tar -xf"],
    ["data.7z", bytes("7z\xbc\xaf\x27\x1c\0"), "a 7z archive", "7z"],
    ["paper.pdf", bytes("%PDF-1.7\n%text"), "a PDF document", "plain text"],
    ["paper.txt", bytes("%PDF-1.7\n%text"), "a PDF document", "plain text"],
    ["weights.bin", bytes(`${int32(20240326)}${int32(3)}`), "a checkpoint of llm.c", "text"],
    ["hellaswag.bin", bytes(`${int32(20240522)}${int32(1)}`), "an evaluation file of llm.c", "text"],
    ["model.gguf", bytes("GGUF\x03\0\0\0"), "a GGUF", "text"],
    ["model.ggml", bytes("lmgg\x01\0\0\0"), "a GGML", "text"],
    ["model.h5", bytes("\x89HDF\r\n\x1a\n\0"), "a TensorFlow checkpoint (HDF5)", "text"],
    ["meta.pkl", bytes("\x80\x04\x95\x10\0\0\0\0\0\0\0}"), "a Python pickle", "uint16"],
    ["arrays.npz", zipOf("ids.npy"), "a NumPy archive", "numpy.save"],
    ["model.pt", zipOf("archive/data.pkl"), "a Python pickle", "uint16"],
    ["report.docx", zipOf("[Content_Types].xml"), "an Office document", "plain text"],
    ["model.onnx", bytes("\x08\x07\x12\0"), "an ONNX model", "text"],
    ["model.safetensors", bytes(`\x10\0\0\0\0\0\0\0{"a":1}`), "a safetensors file", "text"],
    ["pointer.bin", makePointer(), "a Git LFS pointer", "git lfs pull"],
    ["pointer.jsonl", makePointer(), "a Git LFS pointer", "git lfs pull"],
    ["table.csv", "text,label\na,1\n", "a table (CSV)", "pandas.read_csv"],
    ["table.TSV", "text\tlabel\na\t1\n", "a table (TSV)", "sep='\\t'"],
    ["corpus.txt", "<!doctype html>\n<html>404", "a page of HTML", "fetch"],
    ["corpus.json", "\n<html><body>404", "a page of HTML", "fetch"],
    ["zeros.txt", Buffer.alloc(100), "not text: byte 0 is zero", "text file"],
  ])("%s is refused by what it is", async (name, content, what, hint) => {
    const error = await failureOf(() => read(file(`formats/${name}`, content)));
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain(`${at("formats", name)}: is ${what}`);
    expect(error.hint).toContain(hint);
  });

  it("token ids are no text", async () => {
    const error = await failureOf(() => read(file("ids.bin", Uint8Array.of(1, 0, 2, 0))));
    expect(error.message).toBe(`${at("ids.bin")}: holds token ids, not text`);
  });

  it("any bytes are text, ids or refused in one line", async () => {
    const starts = [
      "",
      "[",
      '[{"text":"',
      '{"text":"a"}\n',
      "\x1f\x8b\x08",
      "\x93NUMPY",
      "PK\x03\x04",
      "\xff\xfe",
      "<html",
    ];
    const content = fc.tuple(fc.constantFrom(...starts), fc.uint8Array({ maxLength: 80 }));
    const names = fc.constantFrom("m.txt", "m.json", "m.jsonl", "m.bin", "m.gz", "m");
    await fc.assert(
      fc.asyncProperty(names, content, async (name, [start, rest]) => {
        const path = file(name, Buffer.concat([bytes(start), rest]));
        const attempt = async () => {
          const { kind } = await detectDataKind(path);
          if (kind !== "ids") await read(path);
          return kind;
        };
        const result = await attempt().catch((error: unknown) => failureOf(() => Promise.reject(error)));
        expect(result).toBeTruthy();
      }),
      { numRuns: 400, seed: 14 },
    );
  });
});

function int32(value: number): string {
  const buffer = Buffer.alloc(4);
  buffer.writeInt32LE(value);
  return buffer.toString("latin1");
}

function zipOf(entry: string): Uint8Array {
  const header = Buffer.alloc(30);
  header.write("PK\x03\x04", "latin1");
  header.writeUInt16LE(entry.length, 26);
  return Buffer.concat([header, Buffer.from(entry), Buffer.alloc(20)]);
}

function makePointer(): string {
  return `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 1000000\n`;
}
