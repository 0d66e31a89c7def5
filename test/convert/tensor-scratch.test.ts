// The scratch file: tensors by name, in any order, on a path that was free.
import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { TensorScratch } from "../../src/convert/tensor-scratch.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const at = temporaryFolder("tensor-scratch");

describe("the scratch file", () => {
  test("the scratch file gives each tensor back in any order, the last one of a name, and is removed", async () => {
    const path = at("scratch");
    const scratch = await TensorScratch.create(path);
    await Promise.all([scratch.put("b", Float32Array.of(1, 2, 3)), scratch.put("a", Float32Array.of(4))]);
    await scratch.put("c", Float32Array.of(5, 6).subarray(1));
    await scratch.put("a", Float32Array.of(7, 8));
    expect(await Promise.all(["a", "b", "c"].map((name) => scratch.read(name)))).toEqual([
      Float32Array.of(7, 8),
      Float32Array.of(1, 2, 3),
      Float32Array.of(6),
    ]);
    await scratch.remove();
    expect(existsSync(path)).toBe(false);
  });

  test("the scratch file refuses to read a tensor that was never put", async () => {
    const scratch = await TensorScratch.create(at("empty"));
    await expect(scratch.read("a")).rejects.toThrow("a is not in the scratch file");
    await scratch.remove();
  });

  test("the scratch file is not written over a file that exists", async () => {
    const scratch = await TensorScratch.create(at("taken"));
    expect((await failureOf(() => TensorScratch.create(at("taken")))).message).toContain(at("taken"));
    await scratch.remove();
  });

  test("a scratch file in a folder that does not exist is an error that names the folder", async () => {
    expect((await failureOf(() => TensorScratch.create(at("no", "where")))).message).toContain(at("no", "where"));
  });
});
