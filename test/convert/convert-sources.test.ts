// Converting checkpoints of every dtype, layout and number of files, and writing other dtypes and shards.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { tieLayer } from "../../src/convert/attention/tie.ts";
import { readProjections } from "../../src/convert/attention/tied-attention.ts";
import { decodeFloats, encodeFloats, type FloatDtype } from "../../src/formats/dtype.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { failureOf } from "../support/failure.ts";
import { bytesOf, columns, converted, opened } from "../support/fixture.ts";
import { tinyHfConfig, tinyTensors, type WriteTinyOptions, writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("convert-sources");
let count = 0;
const fresh = (name: string) => path(`${name}-${count++}`);

const BYTES: Record<FloatDtype, number> = { F64: 8, F32: 4, F16: 2, BF16: 2 };
const DTYPES = ["F64", "F32", "F16", "BF16"] as const;

/** Every tensor of `model` in `dtype` (its source's unless given): S from the tie, the rest from the source's values. */
async function expectConverted(model: Checkpoint, source: Checkpoint, dtype?: FloatDtype): Promise<void> {
  const { n_embd: C, n_head } = source.config;
  for (const { name, layer } of listParameters(model.config)) {
    const stored = model.tensors.get(name)?.dtype as FloatDtype;
    if (name.includes(".attn.noise_")) {
      expect(stored).toBe(dtype ?? "F32");
      continue;
    }
    const original = source.tensors.get(name)?.dtype as FloatDtype;
    expect(stored, name).toBe(dtype ?? original);
    const before = await bytesOf(source, name);
    const kept = stored === original ? before : Buffer.from(encodeFloats(decodeFloats(before, original), stored));
    const after = await bytesOf(model, name);
    if (!name.includes(".attn.c_attn.")) {
      expect(after.equals(kept), name).toBe(true);
      continue;
    }
    const rows = name.endsWith(".bias") ? 1 : C;
    const width = C * BYTES[stored];
    const projections = await readProjections(source, layer as number);
    const tie = tieLayer({ n_embd: C, n_head, ...projections, inputs: null, strategy: "spectral" });
    const s = encodeFloats((rows === 1 ? tie.bias : tie.weight) as Float32Array, stored);
    expect(Buffer.concat(columns(after, rows, 0, width)).equals(s), `s of ${name}`).toBe(true);
    const v = Buffer.concat(columns(kept, rows, 2 * width, width));
    expect(Buffer.concat(columns(after, rows, width, width)).equals(v), `v of ${name}`).toBe(true);
  }
}

const SOURCES: [string, WriteTinyOptions][] = [
  ["half floats", { dtype: "F16" }],
  ["brain floats", { dtype: "BF16" }],
  ["double floats", { dtype: "F64" }],
  ["mixed dtypes", { dtype: (name) => (name.includes("ln_") ? "F32" : "BF16") }],
  ["shards", { shards: 3 }],
  ["nanoGPT", { base: "transformer.", layout: "linear", head: "copy" }],
  ["nanoGPT without biases", { base: "transformer.", layout: "linear", bias: false }],
  [
    "nanoGPT compiled, in brain floats",
    { prefix: "_orig_mod.", base: "transformer.", layout: "linear", dtype: "BF16" },
  ],
  ["transformers' names with masks", { base: "transformer.", masks: true }],
  ["an untied head", { head: "own" }],
  ["an MLP of odd width", { inner: 37, layout: "linear" }],
];

describe.each(SOURCES)("converting a source of %s", (_, options) => {
  it("a converted source has S from the tie and everything else as the source has it", async () => {
    const source = await writeCheckpoint(fresh("source"), options);
    const output = fresh("out");
    await converted({ output, variant: "noise-distance", strategy: "spectral" }, source);
    await opened(source, (before) => opened(output, (after) => expectConverted(after, before)));
  });
});

describe.each(DTYPES)("converting with --dtype %s", (dtype) => {
  it.each(DTYPES)("--dtype stores every tensor of a %s source in the dtype it names", async (stored) => {
    const source = await writeCheckpoint(fresh("source"), { dtype: stored });
    const output = fresh("out");
    await converted({ output, variant: "noise-per-head", strategy: "spectral", dtype }, source);
    await opened(source, (before) => opened(output, (after) => expectConverted(after, before, dtype)));
    const { dtype: named } = JSON.parse(readFileSync(`${output}/config.json`, "utf8"));
    expect(named).toBe({ F64: "float64", F32: "float32", F16: "float16", BF16: "bfloat16" }[dtype]);
  });
});

describe("what config.json keeps", () => {
  const configOf = async (raw: Record<string, unknown>, dtype?: FloatDtype) => {
    const source = await writeCheckpoint(fresh("source"), { config: { ...tinyHfConfig(), ...raw } });
    const output = fresh("out");
    await converted({ output, ...(dtype && { dtype }) }, source);
    return JSON.parse(readFileSync(`${output}/config.json`, "utf8")) as Record<string, unknown>;
  };

  it("config.json keeps keys that nfc does not know", async () => {
    expect(await configOf({ resid_pdrop: 0.1, custom: { a: 1 } })).toMatchObject({
      resid_pdrop: 0.1,
      custom: { a: 1 },
    });
  });

  it("config.json has the new name of the dtype in place of the older one", async () => {
    const config = await configOf({ torch_dtype: "float32" }, "F16");
    expect(config).toMatchObject({ dtype: "float16" });
    expect(config).not.toHaveProperty("torch_dtype");
  });

  it("config.json drops what the source says about ONNX files, which are not copied", async () => {
    const stale = { "transformers.js_config": { use_external_data_format: { "model.onnx": 1 } } };
    expect(await configOf(stale)).not.toHaveProperty("transformers.js_config");
  });
});

describe("sharded outputs", () => {
  const LIMIT = 100_000;

  it("shards hold the same tensors as one file, and none is larger than asked for unless it is one tensor", async () => {
    const [one, many] = [fresh("one"), fresh("many")];
    await converted({ output: one, maxShardSize: 2 ** 30 });
    expect(readdirSync(one)).toContain("model.safetensors");
    const { files } = await converted({ output: many, maxShardSize: LIMIT });
    expect(files.length).toBeGreaterThan(3);
    expect(readdirSync(many)).toContain("model.safetensors.index.json");
    expect(readdirSync(many)).not.toContain("model.safetensors");
    for (const { name, bytes } of files) expect(statSync(`${many}/${name}`).size).toBe(bytes);
    await opened(one, (whole) =>
      opened(many, async (sharded) => {
        expect(sharded.reader.files).toHaveLength(files.length - 1); // without the index
        for (const name of whole.tensors.keys())
          expect((await bytesOf(sharded, name)).equals(await bytesOf(whole, name)), name).toBe(true);
      }),
    );
  });
});

describe("numbers that do not fit", () => {
  const written = async (value: number, dtype: FloatDtype) => {
    const tensors = tinyTensors().map((tensor) =>
      tensor.name === "h.1.mlp.c_fc.bias"
        ? { ...tensor, bytes: new Uint8Array(Float32Array.from({ length: 32 }, () => value).buffer) }
        : tensor,
    );
    const source = await writeCheckpoint(fresh("source"), { tensors });
    const output = fresh("out");
    return converted({ output, dtype }, source);
  };

  it("numbers beyond 65504 are refused for F16 by tensor name", async () => {
    const error = await failureOf(() => written(70_000, "F16"));
    expect(error.message).toMatch(/h\.1\.mlp\.c_fc\.bias: 70000 does not fit F16$/);
    expect(error.hint).toBe("take bf16 or f32");
    expect(error.code).toBe("unsupported");
  });

  it("numbers that fit the dtype are stored in it", async () => {
    await expect(written(65_504, "F16")).resolves.toBeDefined();
    await expect(written(70_000, "BF16")).resolves.toBeDefined();
  });

  it("infinite numbers of the source stay infinite", async () => {
    await expect(written(Number.NEGATIVE_INFINITY, "F16")).resolves.toBeDefined();
  });
});
