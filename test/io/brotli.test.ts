// Sizes after brotli: those of zlib in one piece, for files of several pieces as well, and memory that stays flat.
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { brotliCompressSync, constants } from "node:zlib";
import { describe, expect, it } from "vitest";
import { measureCompressed, sumCompressed } from "../../src/io/brotli.ts";
import { PIECE_BYTES } from "../../src/io/positional-file.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("brotli");

function write(name: string, bytes: Uint8Array): { file: string; brotli: number } {
  writeFileSync(path(name), bytes);
  const { BROTLI_PARAM_QUALITY, BROTLI_PARAM_SIZE_HINT } = constants;
  const params = { [BROTLI_PARAM_QUALITY]: 5, [BROTLI_PARAM_SIZE_HINT]: bytes.length };
  return { file: path(name), brotli: brotliCompressSync(bytes, { params }).length };
}

describe("sizes after brotli", () => {
  it("files of one piece are as zlib compresses them, and several are told apart", async () => {
    const text = write("text", Buffer.from("The quick brown fox. ".repeat(5000)));
    const noise = write("noise", randomBytes(50_000));
    const none = write("none", new Uint8Array(0));
    const sizes = await measureCompressed([text.file, noise.file, none.file, text.file]);
    for (const { file, brotli } of [text, noise, none]) expect(sizes.get(file)?.brotli).toBe(brotli);
    expect(sumCompressed([text.file, noise.file], sizes)).toEqual({
      bytes: 105_000 + 50_000,
      brotli: text.brotli + noise.brotli,
    });
  });

  it("the pieces of a long file are compressed in their order: its second half is found in its first", async () => {
    const half = randomBytes(PIECE_BYTES / 4);
    const filler = Buffer.alloc(PIECE_BYTES, "ab");
    const { file, brotli } = write("long", Buffer.concat([half, filler, half]));
    const size = (await measureCompressed([file])).get(file);
    expect(size?.bytes).toBe(1.5 * PIECE_BYTES);
    // zlib sees the whole at once, and may cut it elsewhere.
    expect(Math.abs((size?.brotli ?? 0) - brotli)).toBeLessThan(brotli / 100);
  });

  it("a file that is not there, and an aborted signal, end it", async () => {
    expect(await failureOf(() => measureCompressed([path("missing")]))).toMatchObject({ code: "not-found" });
    const { file } = write("some", randomBytes(1000));
    expect(await failureOf(() => measureCompressed([file], AbortSignal.abort()))).toMatchObject({ code: "aborted" });
  });
});
