// Reading JSON files: the value, or a fault that names the file.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { parseJsonWith, readJsonFile } from "../../src/io/json.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolders } from "./support.ts";

const temporaryFolder = temporaryFolders();

async function jsonFile(content: string | Uint8Array): Promise<string> {
  const path = join(await temporaryFolder(), "config.json");
  await writeFile(path, content);
  return path;
}

describe("reading JSON files", () => {
  it("a JSON file is read", async () => {
    expect(await readJsonFile(await jsonFile('{"a": [1, "é"]}'))).toEqual({ a: [1, "é"] });
  });

  it("a JSON file may start with a byte order mark", async () => {
    expect(await readJsonFile(await jsonFile("\ufeff[]"))).toEqual([]);
  });

  it("a file that is not JSON is refused on one line", async () => {
    const path = await jsonFile('{\n  "a": 1,\n}\n');
    const fault = await failureOf(() => readJsonFile(path));
    expect(fault.code).toBe("invalid-file");
    expect(fault.message).toMatch(`${path}: not valid JSON: `);
  });

  it("an empty file is refused", async () => {
    const path = await jsonFile("");
    expect((await failureOf(() => readJsonFile(path))).message).toBe(
      `${path}: not valid JSON: Unexpected end of JSON input`,
    );
  });

  it("a file that is not UTF-8 is refused", async () => {
    const path = await jsonFile(Uint8Array.of(0x22, 0xff, 0x22));
    expect((await failureOf(() => readJsonFile(path))).message).toBe(`${path}: not valid UTF-8`);
  });

  it("a file that is too large is refused", async () => {
    const path = await jsonFile('"12345678"');
    const fault = await failureOf(() => readJsonFile(path, { maxBytes: 9 }));
    expect(fault.code).toBe("invalid-file");
    expect(fault.message).toBe(`${path}: 10 bytes, more than the 9 that are allowed here`);
    expect(await readJsonFile(path, { maxBytes: 10 })).toBe("12345678");
  });

  it("a file that is nested deeper than what is read by recursion is refused", async () => {
    const nested = (depth: number) => `{"a":"[[\\"]","b":${"[".repeat(depth - 1)}${"]".repeat(depth - 1)}}`;
    const path = await jsonFile(nested(129));
    expect(await failureOf(() => readJsonFile(path))).toMatchObject({
      ...{ code: "invalid-file", message: `${path}: nested deeper than 128 levels` },
    });
    expect(await readJsonFile(await jsonFile(nested(128)))).toHaveProperty("a", '[["]');
    expect(await readJsonFile(await jsonFile(`[${"[],".repeat(500)}1]`))).toHaveLength(501);
  });

  it("a missing file is reported", async () => {
    const path = join(await temporaryFolder(), "config.json");
    const fault = await failureOf(() => readJsonFile(path));
    expect(fault).toMatchObject({ code: "not-found", message: `${path}: no such file or folder` });
  });
});

describe("values held against a schema", () => {
  const schema = z.strictObject({ list: z.record(z.string(), z.number()).optional() });

  it("keys with line breaks and control characters are named on one line", async () => {
    const error = await failureOf(() => parseJsonWith(schema, { list: { "a\nb\u001b": "" } }, "x.json"));
    expect(error.message).toMatch(/^x\.json: list\.a\\u\{a\}b\\u\{1b\}: /);
  });

  it("long keys are shortened", async () => {
    const error = await failureOf(() => parseJsonWith(schema, { ["k".repeat(70_000)]: 1 }, "x.json"));
    expect(error.message.length).toBeLessThan(500);
  });
});
