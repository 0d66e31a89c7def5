// Files that are no safetensors: refused by name, pickles with a command that converts them.
import { execFileSync } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/checkpoint/checkpoint.ts";
import { describePickleConversion, findPickles, refuseOtherFormat } from "../../src/checkpoint/foreign-formats.ts";
import { readTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { failureOf } from "../support/failure.ts";
import { encodeSafetensors, tinyTensors, writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("foreign");
const ZIP = [0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0, 0, 0];
const PICKLE_2 = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20];
const PICKLE_4 = [0x80, 4, 0x95, 16, 0, 0, 0, 0, 0, 0, 0, 0x7d];

async function refusal(name: string, content: Uint8Array | string) {
  await writeFile(path(name), content);
  return failureOf(() => openCheckpoint(path(name)));
}

describe("pickles", () => {
  it.each([
    ["a zip of torch.save", "pytorch_model.bin", ZIP],
    ["a zip under another name", "weights.safetensors", ZIP],
    ["a zip without extension", "weights", ZIP],
    ["a bare pickle of protocol 2", "old.pt", PICKLE_2],
    ["a bare pickle of protocol 4", "model.dat", PICKLE_4],
    ["a file that is called like one", "ckpt.ckpt", [1, 2, 3]],
  ])("a PyTorch pickle is refused: %s", async (_, name, bytes) => {
    const error = await refusal(name, Uint8Array.from(bytes));
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain(`${path(name)}: is a PyTorch pickle`);
    expect(error.hint).toContain("weights_only=True");
    expect(error.hint).toContain(path(name));
  });

  it("a pickle is told from a safetensors file whose header length begins like one", async () => {
    const tensors = tinyTensors();
    for (let padding = 0; padding < 256; padding++) {
      const bytes = encodeSafetensors(tensors, { format: "pt", padding: "x".repeat(padding) });
      if (bytes[0] !== 0x80 || bytes[1] === undefined || bytes[1] < 2 || bytes[1] > 16) continue;
      bytes[1] = Math.min(bytes[1], 5); // only the first bytes are looked at here
      await writeFile(path("length.safetensors"), bytes);
      await expect(refuseOtherFormat(path("length.safetensors"))).resolves.toBeUndefined();
      return;
    }
    throw new Error("no header length began with 0x80");
  });

  it("a pickle named as an index of shards is refused with all shards in the recipe", async () => {
    await mkdir(path("shards"));
    const shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    for (const shard of shards) await writeFile(path("shards", shard), "");
    const error = await refusal("shards/pytorch_model.bin.index.json", "{}");
    expect(error.message).toContain("pytorch_model.bin.index.json: holds 2 PyTorch pickles");
    for (const shard of shards) expect(error.hint).toContain(path("shards", shard));
  });

  it("a pickle named as an index without its shards is refused all the same", async () => {
    await mkdir(path("alone"));
    const error = await refusal("alone/pytorch_model.bin.index.json", "{}");
    expect(error.message).toContain("is a PyTorch pickle");
  });
});

describe("the recipe for pickles", () => {
  it("pickleRecipe is one shell line, with quotes where a path needs them", () => {
    const recipe = describePickleConversion(["/models/it's mine/ckpt.pt"]);
    expect(recipe).not.toMatch(/[\r\n]/);
    expect(recipe.endsWith(` '/models/it'\\''s mine' '/models/it'\\''s mine/ckpt.pt'`)).toBe(true);
  });

  it("the recipe's shell line reaches a program as the script and its paths", () => {
    const print = "process.stdout.write(JSON.stringify(process.argv.slice(1)))";
    const line = describePickleConversion(["a b/$x.pt"]).replace(
      /^python3 -c/,
      `"${process.execPath}" -e '${print}' --`,
    );
    const seen: string[] = JSON.parse(execFileSync("sh", ["-c", line], { encoding: "utf8" }));
    expect(seen.slice(1)).toEqual(["a b", "a b/$x.pt"]);
    expect(seen[0]).toContain("d.get('model',d.get('state_dict',d)).items()");
    expect(seen[0]).toContain(".clone().contiguous()");
    expect(seen[0]).toContain("model_args");
  });
});

describe("finding pickles", () => {
  it("findPickles prefers pytorch_model.bin, then its shards, then the first there is", () => {
    expect(findPickles("m", ["ckpt.pt", "pytorch_model.bin"])).toEqual(["m/pytorch_model.bin"]);
    const shards = ["pytorch_model-00002-of-00002.bin", "pytorch_model-00001-of-00002.bin"];
    expect(findPickles("m", ["x.pt", ...shards])).toEqual([`m/${shards[1]}`, `m/${shards[0]}`]);
    expect(findPickles("m", ["ckpt.pt", "config.json"])).toEqual(["m/ckpt.pt"]);
  });

  it("findPickles passes over what trainers leave beside the weights", () => {
    expect(findPickles("m", ["training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"])).toEqual([]);
  });
});

describe("other formats", () => {
  it.each([
    ["model.onnx", "an ONNX model"],
    ["model.gguf", "a GGUF (llama.cpp) model"],
    ["tf_model.h5", "a TensorFlow checkpoint"],
    ["flax_model.msgpack", "a Flax checkpoint"],
    ["weights.npz", "a NumPy archive"],
  ])("another format is refused by its name: %s", async (name, what) => {
    const error = await refusal(name, "\x08\x07\x12\x07something");
    expect(error.code).toBe("unsupported");
    expect(error.message).toBe(`${path(name)}: is ${what}, not safetensors`);
    expect(error.hint).toBeTruthy();
  });

  it("a GGUF file is recognized by its first bytes", async () => {
    expect((await refusal("model", "GGUF\x03\0\0\0\0\0")).message).toContain("GGUF");
  });

  it.each<[string, Uint8Array | string, string, string]>([
    [
      "gpt2_124M.bin",
      Uint8Array.from([0xc6, 0xd7, 0x34, 0x01, 3, 0, 0, 0, 0, 0]),
      "a checkpoint of llm.c",
      "export_hf.py",
    ],
    [
      "state",
      Uint8Array.from([0x8f, 0xd8, 0x34, 0x01, 1, 0, 0, 0, 0, 0]),
      "an optimizer state of llm.c",
      "export_hf.py",
    ],
    ["shard.bin", Uint8Array.from([0x88, 0xd8, 0x34, 0x01, 1, 0, 0, 0, 0, 0]), "a file of token ids (llm.c)", "--data"],
    ["train.bin", Uint8Array.from([9, 0, 8, 0, 7, 0, 6, 0, 5, 0]), "neither a PyTorch pickle nor", "--data"],
    ["model.safetensors", "<!DOCTYPE html><html>", "a page of HTML", "Fetch"],
    ["reviews.csv", "text,label\nfine,1\n", "text, not", "--data"],
    ["notes", "abc", "text, not", "--data"],
    ["weights.npy", Buffer.from("\x93NUMPY\x01\0v\0{", "latin1"), "a NumPy array", "safetensors.numpy"],
    ["weights.gz", Uint8Array.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]), "a gzip archive", "gunzip"],
    ["weights.safetensors", Uint8Array.from([0x28, 0xb5, 0x2f, 0xfd, 4, 0]), "a zstd archive", "zstd -d"],
    ["model.ckpt.data-00000-of-00001", "x", "a part of a TensorFlow checkpoint", "convert"],
    ["model.zip", Uint8Array.from(ZIP), "a zip archive", "unzip"],
    ["weights", Buffer.from("\x89HDF\r\n\x1a\n\0\0", "latin1"), "a TensorFlow checkpoint (HDF5)", "from_tf"],
    ["old", Buffer.from("lmgg\x01\0\0\0\0\0", "latin1"), "a GGML", "safetensors"],
  ])("another format is refused by its first bytes: %s", async (name, content, what, hint) => {
    const error = await refusal(name, content);
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain(`${path(name)}: is ${what}`);
    expect(error.hint).toContain(hint);
  });

  it.each(["config.json", "tokenizer.json", "model.safetensors.index.json", "nfc.json"])(
    "a Git LFS pointer in place of %s is refused by name",
    async (name) => {
      const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 1000000\n`;
      const folder = await writeCheckpoint(path("pointers", name));
      await writeFile(path("pointers", name, name), pointer);
      if (name.includes("index")) await rm(path("pointers", name, "model.safetensors"));
      const error = await failureOf(async () => {
        const checkpoint = await openCheckpoint(folder);
        await checkpoint.close();
        await readTokenizer(folder);
      });
      expect(error.message).toBe(`${path("pointers", name, name)}: is a Git LFS pointer, not the file itself`);
      expect(error.hint).toContain("git lfs pull");
    },
  );

  it.each(["git-lfs", "hawser"])("a Git LFS pointer of %s is recognized by its first bytes", async (host) => {
    const error = await refusal("model.safetensors", `version https://${host}.github.com/spec/v1\noid sha256:0\n`);
    expect(error.message).toContain("is a Git LFS pointer");
    expect(error.hint).toContain("git lfs pull");
  });

  it("a file that nobody knows is left to the safetensors reader, which says what is wrong", async () => {
    const error = await refusal("empty.safetensors", "");
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain(path("empty.safetensors"));
  });
});
