// Sharded checkpoints: reading through an index, and every way in which index and shards can disagree.
import { mkdir, mkdtemp, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ErrorCode } from "../../../src/errors.ts";
import { openSafetensors } from "../../../src/formats/safetensors/reader.ts";
import { gather, temporaryFolders, writeTensors } from "../../io/support.ts";
import { failureOf } from "../../support/failure.ts";

const temporaryFolder = temporaryFolders();
const A = "model-00001-of-00002.safetensors";
const B = "model-00002-of-00002.safetensors";
const INDEX = "model.safetensors.index.json";

/** One float32 number a tensor: a shard that holds `names`, numbered from `first`. */
async function writeShard(path: string, names: string[], first: number, metadata?: unknown): Promise<void> {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  names.forEach((name, i) => {
    header[name] = { dtype: "F32", shape: [1], data_offsets: [i * 4, i * 4 + 4] };
  });
  await writeTensors(path, header, Buffer.from(Float32Array.from(names, (_, i) => first + i).buffer));
}

/** A folder with shards A (x, y) and B (z), and the given index; by default the right one. */
async function sharded(index: unknown = { metadata: { total_size: 12 }, weight_map: { x: A, y: A, z: B } }) {
  const folder = await temporaryFolder();
  await writeShard(join(folder, A), ["x", "y"], 1, { format: "pt", origin: "first" });
  await writeShard(join(folder, B), ["z"], 3, { format: "pt", origin: "second", extra: "e" });
  const path = join(folder, INDEX);
  await writeFile(path, typeof index === "string" ? index : JSON.stringify(index));
  return { folder, path };
}

describe("a sharded checkpoint", () => {
  it("a sharded checkpoint reads like one file", async () => {
    const { folder, path } = await sharded();
    const reader = await openSafetensors(path);
    expect([...reader.tensors.keys()]).toEqual(["x", "y", "z"]);
    expect(reader.files).toEqual([join(folder, A), join(folder, B)]);
    expect(reader.tensors.get("z")?.file).toBe(join(folder, B));
    const values = await Promise.all(["x", "y", "z"].map((name) => reader.readF32(name)));
    expect(values.map(([value]) => value)).toEqual([1, 2, 3]);
    expect((await gather(reader.chunks("z"))).readFloatLE()).toBe(3);
    expect(reader.warnings).toEqual([]);
    await reader.close();
  });

  it("a sharded checkpoint has the metadata of all shards, and the first shard decides", async () => {
    const reader = await openSafetensors((await sharded()).path);
    expect({ ...reader.metadata }).toEqual({ format: "pt", origin: "first", extra: "e" });
    await reader.close();
  });

  it("shards may lie in a folder below the index", async () => {
    const { folder, path } = await sharded({ weight_map: { x: `shards/${A}`, y: `./shards/${A}`, z: B } });
    await mkdir(join(folder, "shards"));
    await rename(join(folder, A), join(folder, "shards", A));
    const reader = await openSafetensors(path);
    expect(reader.files).toEqual([join(folder, "shards", A), join(folder, B)]);
    await reader.close();
  });

  it("shards may be symbolic links, as in the Hugging Face cache", async () => {
    const { folder, path } = await sharded();
    const blobs = await mkdtemp(join(tmpdir(), "nfc-io-blobs-"));
    await rename(join(folder, A), join(blobs, "d1ce"));
    await symlink(join(blobs, "d1ce"), join(folder, A));
    const reader = await openSafetensors(path);
    expect((await reader.readF32("x"))[0]).toBe(1);
    await reader.close();
    await rm(blobs, { recursive: true });
  });

  it("shard names may have a dot", async () => {
    const { folder, path } = await sharded({ weight_map: { x: "a..b.safetensors", y: "a..b.safetensors", z: B } });
    await rename(join(folder, A), join(folder, "a..b.safetensors"));
    await (await openSafetensors(path)).close();
  });

  it("a wrong total_size leads to a warning", async () => {
    const { path } = await sharded({ metadata: { total_size: 13 }, weight_map: { x: A, y: A, z: B } });
    const reader = await openSafetensors(path);
    expect(reader.warnings).toEqual([`${path}: metadata.total_size is 13, but the tensors have 12 bytes`]);
    await reader.close();
  });

  it("an index without metadata is read without a warning", async () => {
    for (const metadata of [undefined, null, {}]) {
      const reader = await openSafetensors((await sharded({ metadata, weight_map: { x: A, y: A, z: B } })).path);
      expect(reader.warnings).toEqual([]);
      await reader.close();
    }
  });
});

describe("refused shard indexes", () => {
  const cases: { name: string; index: unknown; fact: string }[] = [
    {
      name: "text that is not JSON",
      index: "{",
      fact: ": the shard index is not valid JSON: expected a key in quotes at character 1",
    },
    { name: "an array", index: "[]", fact: ": the shard index is not a JSON object" },
    { name: "a missing weight_map", index: { metadata: {} }, fact: ": weight_map is missing" },
    { name: "an empty weight_map", index: { weight_map: {} }, fact: ": weight_map names no tensors" },
    { name: "a weight_map that is an array", index: { weight_map: [] }, fact: ": weight_map is not an object" },
    {
      name: "two weight_maps",
      index: `{"weight_map":{"x":"${A}"},"weight_map":{}}`,
      fact: ": weight_map stands twice",
    },
    {
      name: "a file name that is a number",
      index: { weight_map: { x: 1 } },
      fact: ': tensor "x": its file name is no string',
    },
    {
      name: "a name in two shards",
      index: `{"weight_map":{"x":"${A}","x":"${B}"}}`,
      fact: ': tensor "x": weight_map names it twice',
    },
    { name: "an empty file name", index: { weight_map: { x: "" } }, fact: ': tensor "x": "" is no file name' },
    {
      name: "a NUL in a file name",
      index: { weight_map: { x: "a\0b" } },
      fact: ': tensor "x": "a\\u0000b" is no file name',
    },
    {
      name: "an absolute path",
      index: { weight_map: { x: "/etc/passwd" } },
      fact: ': tensor "x": the shard "/etc/passwd" is an absolute path',
    },
    {
      name: "an absolute path of Windows",
      index: { weight_map: { x: "C:\\model.safetensors" } },
      fact: ': tensor "x": the shard "C:\\\\model.safetensors" is an absolute path',
    },
    {
      name: "a network path of Windows",
      index: { weight_map: { x: "\\\\host\\share" } },
      fact: ': tensor "x": the shard "\\\\\\\\host\\\\share" is an absolute path',
    },
    {
      name: "a path that leaves the folder",
      index: { weight_map: { x: `../${A}` } },
      fact: `: tensor "x": the shard "../${A}" leaves the index's folder`,
    },
    {
      name: "a path that leaves the folder on its way",
      index: { weight_map: { x: `a/../${A}` } },
      fact: `: tensor "x": the shard "a/../${A}" leaves the index's folder`,
    },
    {
      name: "a path that leaves the folder with backslashes",
      index: { weight_map: { x: "a\\..\\..\\b" } },
      fact: `: tensor "x": the shard "a\\\\..\\\\..\\\\b" leaves the index's folder`,
    },
    {
      name: "a name that its shard lacks",
      index: { weight_map: { x: A, y: A, z: B, w: B } },
      fact: `: tensor "w": it is missing from "${B}"`,
    },
    {
      name: "a name that is in another shard",
      index: { weight_map: { x: A, y: B, z: B } },
      fact: `: tensor "y": it is in "${A}", not in "${B}"`,
    },
  ];
  for (const { name, index, fact } of cases) {
    it(`a shard index is refused for ${name}`, async () => {
      const { path } = await sharded(index);
      const fault = await failureOf(() => openSafetensors(path));
      expect(fault.code).toBe("invalid-file");
      expect(fault.message).toBe(path + fact);
    });
  }

  it.each<{ what: string; spoil: (folder: string, path: string) => unknown; code: ErrorCode; sentence: string }>([
    {
      what: "a tensor that the index does not name",
      spoil: (_, path) => writeFile(path, JSON.stringify({ weight_map: { x: A, z: B } })),
      code: "invalid-file",
      sentence: `FOLDER/${A}: tensor "y": the index FOLDER/${INDEX} does not name it`,
    },
    {
      what: "a tensor that two shards hold",
      spoil: (folder) => writeShard(join(folder, B), ["x", "z"], 3),
      code: "invalid-file",
      sentence: `FOLDER/${B}: tensor "x": it is also in "${A}"`,
    },
    {
      what: "a missing shard",
      spoil: (folder) => rm(join(folder, B)),
      code: "not-found",
      sentence: `FOLDER/${B}: no such file, but it is named by FOLDER/${INDEX}`,
    },
    {
      what: "a broken shard",
      spoil: (folder) => writeFile(join(folder, B), "short"),
      code: "invalid-file",
      sentence: `FOLDER/${B}: 5 bytes are too few for a safetensors file`,
    },
    {
      what: "an index too large to be one, which stays unread,",
      spoil: (_, path) => truncate(path, 100_000_001),
      code: "invalid-file",
      sentence: `FOLDER/${INDEX}: 100000001 bytes are too many for a shard index`,
    },
    {
      what: "a missing index",
      spoil: (_, path) => rm(path),
      code: "not-found",
      sentence: `FOLDER/${INDEX}: no such file or folder`,
    },
  ])("$what is refused", async ({ spoil, code, sentence }) => {
    const { folder, path } = await sharded();
    await spoil(folder, path);
    const error = await failureOf(() => openSafetensors(path));
    expect(error.code).toBe(code);
    expect(error.message).toBe(sentence.replaceAll("FOLDER/", join(folder, "/")));
  });

  it("a missing shard leads to the download of the whole checkpoint", async () => {
    const { folder, path } = await sharded();
    await rm(join(folder, B));
    const error = await failureOf(() => openSafetensors(path));
    expect(error.hint).toBe("a shard is missing: download the whole checkpoint");
  });
});
