// One export: which options go together, what the folder holds, and that a failed one leaves the disk as it was.
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Checkpoint, openCheckpoint } from "../../src/checkpoint/checkpoint.ts";
import { type ExportOptions, exportModel } from "../../src/export/export-model.ts";
import { nameModelFile } from "../../src/model/precision.ts";
import { exported, modelOf, TEXTLESS as PRECISIONS } from "../support/exported.ts";
import { failureOf } from "../support/failure.ts";
import { converted, digest, MODEL, opened } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("export-model");
let count = 0;
const MEAN = { kind: "mean" } as const;

/** A folder of its own for a test; `out` in it is not there yet. */
function workplace(): { parent: string; out: string } {
  const parent = path(`w${count++}`);
  mkdirSync(parent);
  return { parent, out: join(parent, "out") };
}

/** The refusal of an export into a new folder, which must leave nothing. */
async function refused(options: Partial<ExportOptions>, model = MODEL) {
  const { parent, out } = workplace();
  const error = await failureOf(() =>
    opened(model, (checkpoint) => exportModel(checkpoint, { output: out, threads: 1, ...options })),
  );
  expect(readdirSync(parent)).toEqual([]);
  return error;
}

describe("options of exportModel that do not go together", () => {
  const onnx = { weights: "inline", noise: MEAN } as const;
  const NOTHING = {};
  const GPT2_ALONE = { gpt2: true, onnx };
  const GPT2_AND_ONNX = { gpt2: true, safetensors: {}, onnx };

  it("an export without any format is refused", async () => {
    const error = await refused(NOTHING);
    expect(error.code).toBe("usage");
    expect(error.hint).toContain("--onnx");
  });

  it.each([
    ["without safetensors", GPT2_ALONE, "safetensors"],
    ["beside ONNX", GPT2_AND_ONNX, "--onnx"],
  ])("--gpt2 %s is refused", async (_, options, fact) => {
    const error = await refused(options);
    expect(error.code).toBe("usage");
    expect(error.message).toContain("--gpt2");
    expect(error.message).toContain(fact);
  });

  it("shared weights beside safetensors are refused", async () => {
    const error = await refused({ onnx: { weights: "shared", noise: MEAN }, safetensors: {} });
    expect(error).toMatchObject({ code: "usage", hint: "leave out --safetensors, --dtype and --max-shard-size" });
  });

  it.each([
    ["nothing to export", NOTHING],
    ["--gpt2 expands safetensors only", GPT2_ALONE],
    ["--gpt2 and --onnx do not go together: ONNX stays compact", GPT2_AND_ONNX],
  ])("the refusal of options is one exact sentence: %s", async (sentence, options) => {
    expect((await refused(options)).message).toBe(sentence);
  });
});

describe("the folder of an ONNX export", () => {
  it("the folder has all that transformers.js needs, and the record", async () => {
    const { out } = workplace();
    await exported(MODEL, out);
    expect(Object.keys(digest(out))).toEqual([
      "README.md",
      "config.json",
      "genai_config.json",
      "generation_config.json",
      "nfc.json",
      "onnx/model.onnx",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
  });

  it("the record of an export continues the model's: its tie, its source, and this step", async () => {
    const model = await modelOf("noise-distance", path("recorded"));
    const { out } = workplace();
    const command = ["nfc", "export"];
    await exported(model, out, { command, weights: "shared", noise: { kind: "generated", seed: 3 } });
    const [before, after] = await Promise.all([model, out].map((folder) => opened(folder, ({ record }) => record)));
    expect(after).toEqual({
      ...before,
      history: [{ step: "export", onnx: "shared", precisions: ["fp32"], noise: "sample", command }],
      exports: [expect.objectContaining({ precision: "fp32", file: "onnx/model.onnx" })],
    });
  });

  it("an export written again is the same to the byte", async () => {
    const [first, second] = [workplace().out, workplace().out];
    for (const output of [first, second]) await exported(MODEL, output, { weights: "shared" });
    expect(digest(second)).toEqual(digest(first));
  });

  it("copies of read-only tokenizer files are writable", async () => {
    const source = await writeCheckpoint(path("read-only"));
    writeFileSync(join(source, "vocab.json"), "{}");
    chmodSync(join(source, "vocab.json"), 0o444);
    chmodSync(join(source, "config.json"), 0o444);
    const { out } = workplace();
    await exported(source, out);
    for (const name of ["vocab.json", "config.json"]) expect(statSync(join(out, name)).mode & 0o200).toBe(0o200);
  });

  it("an export may hold safetensors as well", async () => {
    const { out } = workplace();
    const { files } = await exported(MODEL, out, { safetensors: { dtype: "F16" } });
    expect(files).toEqual(["model.safetensors", "onnx/model.onnx"]);
    await opened(out, ({ tensors }) => expect(tensors.get("wte.weight")?.dtype).toBe("F16"));
    expect(JSON.parse(readFileSync(join(out, "config.json"), "utf8"))).toMatchObject({ dtype: "float16" });
  });
});

describe("an export whose check fails", () => {
  /** The fixture, but its tensor `name` streams bytes that its values do not have. */
  async function withLies(name: string, lie: (bytes: Buffer) => void, use: (checkpoint: Checkpoint) => Promise<void>) {
    const checkpoint = await openCheckpoint(MODEL);
    async function* chunks(wanted: string) {
      for await (const chunk of checkpoint.chunks(wanted)) {
        const copy = Buffer.from(chunk);
        if (wanted === name) lie(copy);
        yield copy;
      }
    }
    await use({ ...checkpoint, chunks });
    await checkpoint.close();
  }

  it.each(["inline", "external", "shared"] as const)(
    "an export with wrong %s weights leaves no output",
    async (weights) => {
      const { parent, out } = workplace();
      const wrong = (bytes: Buffer) => bytes.writeFloatLE(bytes.readFloatLE(0) + 3, 0);
      await withLies("h.1.mlp.c_fc.weight", wrong, async (checkpoint) => {
        const options = { output: out, threads: 1, onnx: { weights, noise: MEAN } };
        const error = await failureOf(() => exportModel(checkpoint, options));
        expect(error.code).toBe("mismatch");
        // The path is that of the output, not of the temporary folder that is gone.
        expect(error.message).toMatch(new RegExp(`^${out}/onnx/model.onnx: its logits differ from the model's by`));
      });
      expect(readdirSync(parent)).toEqual([]);
    },
  );

  it.each(PRECISIONS)("an export with a wrong norm in %s leaves no output", async (precision) => {
    const { parent, out } = workplace();
    const wrong = (bytes: Buffer) => bytes.writeFloatLE(bytes.readFloatLE(4 * 5) + 3, 4 * 5);
    await withLies("h.1.ln_2.weight", wrong, async (checkpoint) => {
      const onnx = { weights: "inline", noise: MEAN, precisions: [precision] } as const;
      const error = await failureOf(() => exportModel(checkpoint, { output: out, threads: 1, onnx }));
      expect(error.code).toBe("mismatch");
      expect(error.message).toMatch(
        new RegExp(`^${out}/onnx/${nameModelFile(precision)}: its logits differ from the model's`),
      );
    });
    expect(readdirSync(parent)).toEqual([]);
  });

  it("an export with logits that are not finite leaves no output", async () => {
    const { parent, out } = workplace();
    await withLies(
      "h.0.ln_1.weight",
      (bytes) => bytes.writeFloatLE(Number.NaN, 0),
      async (checkpoint) => {
        const options = { output: out, threads: 1, onnx: { weights: "inline", noise: MEAN } } as const;
        expect((await failureOf(() => exportModel(checkpoint, options))).code).toBe("mismatch");
      },
    );
    expect(readdirSync(parent)).toEqual([]);
  });

  it("a failed check leaves an existing output untouched, with force too", async () => {
    const { parent, out } = workplace();
    await exported(MODEL, out);
    const before = digest(out);
    const wrong = (bytes: Buffer) => bytes.fill(0);
    await withLies("h.0.mlp.c_proj.weight", wrong, async (checkpoint) => {
      const options = { output: out, force: true, threads: 1, onnx: { weights: "inline", noise: MEAN } } as const;
      expect((await failureOf(() => exportModel(checkpoint, options))).code).toBe("mismatch");
    });
    expect(digest(out)).toEqual(before);
    expect(readdirSync(parent)).toEqual(["out"]);
  });
});

describe("an existing output", () => {
  it("an existing output is refused without force, and stays untouched", async () => {
    const { parent, out } = workplace();
    await exported(MODEL, out);
    const before = digest(out);
    const error = await failureOf(() => exported(MODEL, out, { weights: "external" }));
    expect(error.code).toBe("exists");
    expect(error.hint).toContain("--force");
    expect(digest(out)).toEqual(before);
    expect(readdirSync(parent)).toEqual(["out"]);
  });

  it("an existing output is replaced as a whole with force", async () => {
    const { parent, out } = workplace();
    await exported(MODEL, out, { weights: "shared" });
    await exported(MODEL, out, { force: true });
    expect(existsSync(join(out, "model.safetensors"))).toBe(false);
    expect(readdirSync(join(out, "onnx"))).toEqual(["model.onnx"]);
    expect(readdirSync(parent)).toEqual(["out"]);
  });
});

describe("an output in the place of its own source", () => {
  it.each([false, true])("an output that holds its own source is refused with force %s", async (force) => {
    const { out } = workplace();
    const model = await writeCheckpoint(join(out, "model"));
    writeFileSync(join(out, "config.json"), "{}");
    for (const output of [model, out, join(out, "nf", "..")]) {
      const error = await failureOf(() => exported(model, output, { force }));
      expect(error.code).toBe("usage");
      expect(error.message).toBe(`${output}: holds ${model}/model.safetensors, from which this output is made`);
    }
    await opened(model, ({ config }) => expect(config.n_layer).toBe(2));
  });

  it("an output is refused when the source is a link to its own weights", async () => {
    const { out } = workplace();
    await exported(MODEL, out, { weights: "shared" });
    const before = digest(out);
    const error = await failureOf(() => exported(out, out, { force: true }));
    expect(error.code).toBe("usage");
    expect(error.message).toContain(`${out}/model.safetensors`);
    expect(digest(out)).toEqual(before);
  });
});

describe("an interrupted export", () => {
  const abortedAt = async (phase: string, options: Partial<ExportOptions>) => {
    const abort = new AbortController();
    const onProgress = (event: { phase: string }) => event.phase === phase && abort.abort();
    const error = await refused({ signal: abort.signal, onProgress, ...options });
    expect(abort.signal.aborted).toBe(true);
    return error.code;
  };

  it.each(["inline", "external", "shared"] as const)(
    "an interruption while %s weights are written leaves nothing",
    async (weights) => {
      expect(await abortedAt("fp32: writing", { onnx: { weights, noise: MEAN } })).toBe("aborted");
    },
  );

  it("an interruption while the file is checked leaves nothing", async () => {
    expect(await abortedAt("fp32: verifying", { onnx: { weights: "inline", noise: MEAN } })).toBe("aborted");
  });

  it("an interruption while noise is checked leaves nothing", async () => {
    const model = path("noisy");
    await converted({ output: model, variant: "noise-shared" });
    const { parent, out } = workplace();
    const abort = new AbortController();
    const onProgress = (event: { phase: string }) => event.phase === "fp32: verifying" && abort.abort();
    const noise = { kind: "generated", seed: 1 } as const;
    const error = await failureOf(() => exported(model, out, { noise, signal: abort.signal, onProgress }));
    expect(error.code).toBe("aborted");
    expect(readdirSync(parent)).toEqual([]);
  });

  it("an interruption while safetensors are written leaves nothing", async () => {
    expect(await abortedAt("writing safetensors", { safetensors: {} })).toBe("aborted");
  });

  it("an interruption before the start leaves nothing", async () => {
    expect((await refused({ signal: AbortSignal.abort(), safetensors: {} })).code).toBe("aborted");
  });
});
