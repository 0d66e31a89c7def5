// Files of token ids: nanoGPT's, llm.c's and NumPy's, of any width, packed or not, and headers that are wrong.
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { openIdFile, streamIds } from "../../../src/formats/ids/stream.ts";
import { failureOf } from "../../support/failure.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("ids");
const IDS = Array.from({ length: 40 }, (_, i) => (i * 37) % 100);

function file(name: string, content: Uint8Array): string {
  writeFileSync(at(name), content);
  return at(name);
}

async function read(path: string, vocabulary = 100): Promise<number[]> {
  const ids: number[] = [];
  for await (const piece of streamIds(path, vocabulary)) ids.push(...piece);
  return ids;
}

const raw = (array: { buffer: ArrayBufferLike }) => new Uint8Array(array.buffer);
const uint16 = (ids: readonly number[]) => raw(Uint16Array.from(ids));
const uint32 = (ids: readonly number[]) => raw(Uint32Array.from(ids));
const int64 = (ids: readonly number[]) => raw(BigInt64Array.from(ids, BigInt));

/** A shard of llm.c: 256 int32, then ids. */
function shard(magic: number, version: number, count: number, body: Uint8Array): Uint8Array {
  const header = new Int32Array(256);
  header.set([magic, version, count]);
  return Buffer.concat([raw(header), body]);
}

function numpy(descr: string, shape: string, body: Uint8Array, order = "False"): Uint8Array {
  const fields = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (${shape}), }`;
  const text = `${fields.padEnd(117)}\n`;
  const head = Buffer.from("\x93NUMPY\x01\x00\x00\x00", "latin1");
  head.writeUInt16LE(text.length, 8);
  return Buffer.concat([head, Buffer.from(text), body]);
}

const swapped = Buffer.from(uint16(IDS)).swap16();

describe("files of token ids", () => {
  it.each<[string, Uint8Array, boolean]>([
    ["uint16.bin", uint16(IDS), true],
    ["uint32.bin", uint32(IDS), true],
    ["int64.bin", int64(IDS), false],
    ["llmc.bin", shard(20240520, 1, 40, uint16(IDS)), true],
    ["llama.bin", shard(20240801, 7, 40, uint32(IDS)), true],
    ["u2.npy", numpy("<u2", "40,", uint16(IDS)), true],
    ["i4.npy", numpy("<i4", "40,", uint32(IDS)), true],
    ["i8.npy", numpy("<i8", "40,", int64(IDS)), false],
    ["u1.npy", numpy("|u1", "40,", Uint8Array.from(IDS)), false],
    ["big.npy", numpy(">u2", "40,", swapped), false],
    ["rows.npy", numpy("<u2", "4, 10", uint16(IDS)), true],
    ["packed.bin.gz", gzipSync(uint16(IDS)), false],
    ["packed32.bin.gz", gzipSync(uint32(IDS)), false],
    ["packed-llmc.bin.gz", gzipSync(shard(20240520, 1, 40, uint16(IDS))), false],
  ])("the ids of %s are read", async (name, content, inPlace) => {
    const path = file(name, content);
    expect(await read(path)).toEqual(IDS);
    const opened = await openIdFile(path, 100);
    expect(opened !== null).toBe(inPlace);
    if (!opened) return;
    expect(opened.count).toBe(40);
    const body = await opened.file.read(opened.offset, opened.count * opened.width);
    await opened.file.close();
    expect([...(opened.width === 2 ? new Uint16Array(body.buffer) : new Uint32Array(body.buffer))]).toEqual(IDS);
  });

  it("uint32 ids of a vocabulary above 65,536 are known by being in it", async () => {
    const ids = IDS.map((id) => id * 1200);
    expect(await read(file("large.bin", uint32(ids)), 128_256)).toEqual(ids);
    expect(await read(file("small.bin", uint16(IDS.map((id) => id * 600))), 128_256)).toEqual(
      IDS.map((id) => id * 600),
    );
  });

  it("a file whose beginning is all zeros shows its type further on", async () => {
    const ids = [...Array.from({ length: 40_000 }, () => 0), ...IDS];
    expect(await read(file("zeros.bin", uint32(ids)))).toEqual(ids);
    expect(await read(file("zeros16.bin", uint16(ids)))).toEqual(ids);
  });

  it("many ids arrive whole across the pieces of a file", async () => {
    const ids = Array.from({ length: 100_001 }, (_, i) => i % 97);
    expect(await read(file("long.npy", numpy("<i8", "100001,", int64(ids))))).toEqual(ids);
  });
});

describe("files that are no ids", () => {
  it.each<[string, Uint8Array, string]>([
    ["odd.bin", Uint8Array.of(1, 0, 2), "3 bytes are no whole number of uint16 token ids"],
    ["short.bin", uint32([5, 6, 7]), "too short to tell uint16 ids from uint32 ids"],
    ["count.bin", shard(20240520, 1, 41, uint16(IDS)), "the header says 41 token ids, the file has room for 40"],
    ["longer.bin", shard(20240520, 1, 39, uint16(IDS)), "the header says 39 token ids, the file has room for 40"],
    ["negative.bin", shard(20240520, 1, -1, uint16(IDS)), "the header of this llm.c data file is cut or damaged"],
    ["cut.bin", shard(20240520, 1, 40, uint16(IDS)).subarray(0, 500), "the header of this llm.c data file is cut"],
    ["version.bin", shard(20240520, 2, 40, uint16(IDS)), "llm.c data of version 2, 1 is read"],
    ["llama1.bin", shard(20240801, 1, 40, uint32(IDS)), "llm.c data of version 1, 7 is read"],
    ["float.npy", numpy("<f4", "40,", uint32(IDS)), 'is an array of "<f4" (40), not a row of token ids'],
    ["columns.npy", numpy("<u2", "4, 10", uint16(IDS), "True"), "(4 x 10), not a row of token ids"],
    ["scalar.npy", numpy("<u2", "", uint16([1])), "not a row of token ids"],
    ["object.npy", numpy("|O", "3,", uint16(IDS)), "its NumPy header is damaged or holds no plain numbers"],
    ["size.npy", numpy("<u2", "41,", uint16(IDS)), "the header says 41 token ids, the file has room for 40"],
    ["cut.npy", numpy("<u2", "40,", uint16(IDS)).subarray(0, 30), "its NumPy header is damaged"],
    ["minus.npy", numpy("<i4", "2,", raw(Int32Array.of(1, -2))), "token -2 at position 1, the model has 100 tokens"],
    ["past.bin", uint16([...IDS, 100]), "token 100 at position 40, the model has 100 tokens"],
  ])("%s is refused", async (name, content, fact) => {
    const error = await failureOf(() => read(file(name, content)));
    expect(error.message).toContain(`${at(name)}: `);
    expect(error.message).toContain(fact);
  });
});
