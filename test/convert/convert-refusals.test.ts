// What convert refuses, and that a refusal, a fault or an interruption leaves the disk as it was.
import {
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, it } from "vitest";
import type { ConvertOptions } from "../../src/convert/convert-options.ts";
import type { NfcError } from "../../src/errors.ts";
import { failureOf } from "../support/failure.ts";
import { converted, digest, MODEL, opened, TEXT } from "../support/fixture.ts";
import { tinyTensors, writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("convert-refusals");
let count = 0;

/** A folder of its own for a test; `out` in it is not there yet. */
function workplace(): { parent: string; out: string } {
  const parent = path(`w${count++}`);
  mkdirSync(parent);
  return { parent, out: join(parent, "out") };
}

/** The refusal of a conversion into a new folder, which must leave nothing. */
async function refused(options: Partial<ConvertOptions>, source = MODEL) {
  const { parent, out } = workplace();
  const error = await failureOf(() => converted({ output: out, ...options }, source));
  expect(readdirSync(parent)).toEqual([]);
  return error;
}

describe("sources and calibration text that do not fit", () => {
  const calibrated = (calibration: string[], source = MODEL) =>
    refused({ strategy: "calibrated", calibration }, source);
  const written = (name: string, content: string | Uint8Array) => {
    writeFileSync(path(name), content);
    return [path(name)];
  };

  it.each<[string, string, string, string, () => Promise<NfcError>]>([
    [
      "a source that is tied already",
      "unsupported",
      `${path("tied")}: already tied (variant symmetric)`,
      "convert the dense checkpoint that it came from",
      async () => {
        await converted({ output: path("tied") });
        return refused({}, path("tied"));
      },
    ],
    [
      "a source too short for distance buckets",
      "unsupported",
      `${path("short")}: n_positions 16 is too short for noise-distance, which needs 17`,
      "take --variant symmetric",
      async () => refused({ variant: "noise-distance" }, await writeCheckpoint(path("short"), { positions: 16 })),
    ],
    [
      "a number in Q that is not finite",
      "invalid-file",
      "h.1.attn: head 1: Q or K is not finite",
      "the checkpoint is damaged",
      async () => {
        const tensors = tinyTensors();
        const bytes = tensors.find(({ name }) => name === "h.1.attn.c_attn.weight")?.bytes as Uint8Array;
        new DataView(bytes.buffer, bytes.byteOffset).setFloat32(4 * 5, Number.NaN, true); // head 1 of width 4
        return refused({ strategy: "spectral" }, await writeCheckpoint(path("nan"), { tensors }));
      },
    ],
    [
      "the calibrated tie without calibration text",
      "usage",
      "the strategy calibrated needs calibration text",
      "give --calibration FILE, or take --tie spectral",
      () => refused({ strategy: "calibrated" }),
    ],
    [
      "calibration text that does not exist",
      "not-found",
      `${path("nowhere.txt")}: no such file or folder`,
      "check the path",
      () => calibrated([path("nowhere.txt")]),
    ],
    [
      "calibration text of one token",
      "invalid-file",
      `${path("one.txt")}: the text has under two tokens`,
      "give a longer text",
      () => calibrated(written("one.txt", "!")),
    ],
    [
      "calibration text that is not UTF-8",
      "invalid-file",
      `${path("binary.txt")}: not UTF-8 (near byte 0)`,
      "convert it, for example with iconv -t utf-8",
      () => calibrated(written("binary.txt", Uint8Array.of(0xff, 0xfe, 0x80))),
    ],
    [
      "calibrating a model without a tokenizer",
      "not-found",
      `${path("bare")}: no tokenizer.json, and its vocabulary of 11 is not GPT-2's`,
      "put the model's tokenizer.json beside its weights",
      async () => calibrated([TEXT], await writeCheckpoint(path("bare"))),
    ],
    [
      "calibrating with a tokenizer that is not the model's",
      "mismatch",
      `${path("other")}/tokenizer.json: the text has the token "David" with id 320, and the model has only 300 tokens`,
      "take the token out of the text, or give the model a row for it (resize_token_embeddings in transformers)",
      async () => {
        const source = await writeCheckpoint(path("other"), { vocab: 300, positions: 32 });
        copyFileSync(join(MODEL, "tokenizer.json"), join(source, "tokenizer.json"));
        return calibrated([TEXT], source);
      },
    ],
  ])("%s is refused", async (_, code, sentence, hint, refusal) => {
    const error = await refusal();
    expect([error.code, error.message, error.hint]).toEqual([code, sentence, hint]);
  });

  it("an empty list of calibration files is refused as none", async () => {
    expect((await calibrated([])).code).toBe("usage");
  });

  it("calibration text that does not exist is refused when only the distance means need it", async () => {
    const error = await refused({ variant: "noise-distance", calibration: [path("nowhere.txt")] });
    expect(error.code).toBe("not-found");
  });
});

describe("existing outputs", () => {
  async function existing() {
    const place = workplace();
    await converted({ output: place.out, variant: "noise-shared" });
    return { ...place, before: digest(place.out) };
  }

  it("an existing output is refused without force and stays untouched", async () => {
    const { parent, out, before } = await existing();
    const error = await failureOf(() => converted({ output: out }));
    expect(error.code).toBe("exists");
    expect(error.message).toBe(`${out}: the output folder exists already and is not empty`);
    expect(error.hint).toContain("--force");
    expect(digest(out)).toEqual(before);
    expect(readdirSync(parent)).toEqual(["out"]);
  });

  it("an existing output is replaced with force, and nothing else is left beside it", async () => {
    const { parent, out } = await existing();
    await converted({ output: out, force: true });
    expect(await opened(out, ({ config }) => config.variant)).toBe("symmetric");
    expect(readdirSync(parent)).toEqual(["out"]);
  });

  it("an existing output stays untouched when the new conversion fails", async () => {
    const { parent, out, before } = await existing();
    writeFileSync(path("short.txt"), "!");
    const options = { strategy: "calibrated", calibration: [path("short.txt")], force: true } as const;
    await failureOf(() => converted({ output: out, ...options }));
    expect(digest(out)).toEqual(before);
    expect(readdirSync(parent)).toEqual(["out"]);
  });

  it("an output that is a file is refused with and without force", async () => {
    const { out } = workplace();
    writeFileSync(out, "mine");
    for (const force of [false, true])
      expect((await failureOf(() => converted({ output: out, force }))).message).toContain(out);
  });
});

describe("outputs that would replace their own source", () => {
  /** The fixture's model in a folder of its own. */
  async function source(folder: string): Promise<string> {
    await writeCheckpoint(folder);
    return folder;
  }

  async function expectRefused(output: string, model: string, lost: string, options: Partial<ConvertOptions> = {}) {
    for (const force of [false, true]) {
      const error = await failureOf(() => converted({ output, force, ...options }, model));
      expect(error.code).toBe("usage");
      expect(error.message).toBe(`${output}: holds ${lost}, from which this output is made`);
      expect(error.hint).toBe("choose another output folder");
      expect(existsSync(lost)).toBe(true);
    }
  }

  it("an output that is the source's folder is refused", async () => {
    const model = await source(workplace().out);
    const before = digest(model);
    await expectRefused(model, model, join(model, "model.safetensors"));
    expect(digest(model)).toEqual(before);
  });

  it("an output that is the source's folder by another name is refused", async () => {
    const model = await source(workplace().out);
    const lost = join(model, "model.safetensors");
    await expectRefused(relative(process.cwd(), model), model, lost);
    await expectRefused(join(model, "..", "out"), model, lost);
    symlinkSync(model, `${model}-link`);
    await expectRefused(`${model}-link`, model, lost);
    await expectRefused(model, `${model}-link`, join(`${model}-link`, "model.safetensors"));
  });

  it("an output that is the folder of a source file is refused", async () => {
    const model = await source(workplace().out);
    await expectRefused(model, join(model, "model.safetensors"), join(model, "model.safetensors"));
  });

  it("an output that contains the source's folder is refused", async () => {
    const { out } = workplace();
    const model = await source(join(out, "deep", "model"));
    writeFileSync(join(out, "config.json"), "{}"); // or force would not replace it anyway
    await expectRefused(out, model, join(model, "model.safetensors"));
  });

  it("an output that holds a shard of the source through a link is refused", async () => {
    const { parent, out } = workplace();
    const model = join(parent, "links");
    await writeCheckpoint(out, { shards: 2 });
    mkdirSync(model);
    for (const name of readdirSync(out))
      if (/-of-/.test(name)) symlinkSync(join(out, name), join(model, name));
      else copyFileSync(join(out, name), join(model, name));
    await expectRefused(out, model, join(model, "model-00001-of-00002.safetensors"));
  });

  it("an output that holds the calibration text is refused", async () => {
    const { out } = workplace();
    await source(out);
    copyFileSync(TEXT, join(out, "text.txt"));
    await expectRefused(out, MODEL, join(out, "text.txt"), {
      strategy: "calibrated",
      calibration: [join(out, "text.txt")],
    });
  });

  it("an output below or beside its source is accepted", async () => {
    const model = await source(workplace().out);
    await converted({ output: join(model, "nf") }, model);
    await converted({ output: `${model}-nf` }, model);
    await opened(model, ({ config }) => expect(config.variant).toBe("dense"));
  });
});

describe("interruptions", () => {
  it.each(["tying", "writing"])(
    "an interruption while %s ends the conversion as aborted and leaves nothing behind",
    async (phase) => {
      const abort = new AbortController();
      const onProgress = (event: { phase: string; done: number }) => {
        if (event.phase === phase && event.done > 0) abort.abort();
      };
      const error = await refused({ strategy: "spectral", signal: abort.signal, onProgress });
      expect(abort.signal.aborted).toBe(true);
      expect(error.code).toBe("aborted");
    },
  );

  it("an interruption before the start leaves nothing behind", async () => {
    expect((await refused({ signal: AbortSignal.abort() })).code).toBe("aborted");
  });

  it("an interruption while the calibration text is read leaves nothing behind", async () => {
    const abort = new AbortController();
    setImmediate(() => abort.abort());
    const options = { strategy: "calibrated", calibration: [TEXT], signal: abort.signal } as const;
    expect((await refused(options)).code).toBe("aborted");
  });

  it("an interruption leaves an existing output untouched, even with force", async () => {
    const { parent, out } = workplace();
    await converted({ output: out, variant: "noise-shared" });
    const before = digest(out);
    const abort = new AbortController();
    const onProgress = (event: { phase: string }) => event.phase === "writing" && abort.abort();
    const error = await failureOf(() => converted({ output: out, force: true, signal: abort.signal, onProgress }));
    expect(error.code).toBe("aborted");
    expect(digest(out)).toEqual(before);
    expect(readdirSync(parent)).toEqual(["out"]);
  });
});

describe.skipIf(!existsSync("/proc/self/fd"))("open files (needs /proc)", () => {
  it("all files are closed after a conversion fails and after it succeeds", async () => {
    // The tests of other threads open files too, and threads have sockets: only this test's own files count.
    const openFiles = () =>
      readdirSync("/proc/self/fd").flatMap((fd) => {
        const link = `/proc/self/fd/${fd}`;
        const file = existsSync(link) ? readlinkSync(link) : "";
        return file.startsWith(path()) ? [file] : [];
      });
    const [model, text] = [path("own-model"), path("tiny.txt")];
    cpSync(MODEL, model, { recursive: true });
    writeFileSync(text, "!");
    for (let i = 0; i < 3; i++) {
      await refused({ strategy: "calibrated", calibration: [text] }, model);
      await converted({ output: workplace().out }, model);
    }
    expect(openFiles()).toEqual([]);
    const kept = openSync(text, "r");
    expect(openFiles()).toEqual([text]);
    closeSync(kept);
  });
});
