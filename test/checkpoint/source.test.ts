// Which file a user means, given a path: file, index or folder.
import { mkdir, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { resolveLocal, selectWeights } from "../../src/checkpoint/source.ts";
import { failureOf } from "../support/failure.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("source");

/** A folder with empty files of these names. */
async function folderOf(name: string, ...files: string[]): Promise<string> {
  await mkdir(path(name), { recursive: true });
  for (const file of files) await writeFile(path(name, file), "");
  return path(name);
}
const refusalOf = async (name: string, ...files: string[]) => {
  const folder = await folderOf(name, ...files);
  return failureOf(() => resolveLocal(folder));
};

describe("the weights of a folder", () => {
  it("a folder means its model.safetensors before all", async () => {
    const folder = await folderOf("full", "model.safetensors.index.json", "other.safetensors", "pytorch_model.bin");
    await writeCheckpoint(folder);
    expect(await resolveLocal(folder)).toEqual({ weights: `${folder}/model.safetensors`, folder });
  });

  it("a folder with shards means its index", async () => {
    const folder = await writeCheckpoint(path("sharded"), { shards: 2 });
    expect((await resolveLocal(folder)).weights).toBe(`${folder}/model.safetensors.index.json`);
  });

  it("a folder means its only safetensors file, whatever the name", async () => {
    const folder = await writeCheckpoint(path("single"), { file: "gpt.fp16.safetensors" });
    await writeFile(`${folder}/.hidden.safetensors`, "");
    expect((await resolveLocal(folder)).weights).toBe(`${folder}/gpt.fp16.safetensors`);
  });

  it("a folder with several checkpoints asks for one by name", async () => {
    const error = await refusalOf("several", "b.safetensors", "a.safetensors");
    expect(error.code).toBe("usage");
    expect(error.message).toBe(`${path("several")}: holds several checkpoints: a.safetensors, b.safetensors`);
  });

  it("a folder with only pytorch_model.bin is refused with the recipe", async () => {
    const error = await refusalOf("pickled", "config.json", "pytorch_model.bin", "training_args.bin");
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain("pytorch_model.bin: is a PyTorch pickle");
    expect(error.hint).toContain(`${path("pickled")} ${path("pickled", "pytorch_model.bin")}`);
  });

  it("a folder with only nanoGPT's ckpt.pt is refused with the recipe", async () => {
    expect((await refusalOf("nano", "ckpt.pt")).hint).toContain(path("nano", "ckpt.pt"));
  });

  it("a folder with shards of a pickle is refused with a recipe for all of them", async () => {
    const shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    const error = await refusalOf("pickles", ...shards);
    expect(error.message).toContain(`${path("pickles")}: holds 2 PyTorch pickles`);
    for (const shard of shards) expect(error.hint).toContain(path("pickles", shard));
  });

  it("a folder with a pickle called model.safetensors is refused", async () => {
    const folder = await folderOf("disguised");
    await writeFile(`${folder}/model.safetensors`, Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0));
    expect((await failureOf(() => resolveLocal(folder))).message).toContain("is a PyTorch pickle");
  });

  it("a folder with only an ONNX model is refused by name", async () => {
    const error = await refusalOf("exported", "model.onnx", "config.json");
    expect(error.code).toBe("unsupported");
    expect(error.message).toBe(`${path("exported")}: holds model.onnx, but no safetensors file`);
  });

  it("a folder with only an onnx folder is refused by name", async () => {
    const folder = await folderOf("exported2");
    await mkdir(`${folder}/onnx`);
    expect((await failureOf(() => resolveLocal(folder))).message).toContain("holds onnx, but");
  });

  it("a folder with shards but no index is refused with what is missing", async () => {
    const error = await refusalOf("noindex", "model-00001-of-00002.safetensors");
    expect(error.code).toBe("not-found");
    expect(error.message).toContain("has shards but no model.safetensors.index.json");
  });

  it("an empty folder is refused with what was expected", async () => {
    const error = await refusalOf("nothing");
    expect(error.code).toBe("not-found");
    expect(error.hint).toContain("model.safetensors");
  });
});

describe("folders that hold no single checkpoint", () => {
  it("a run of the Trainer leads to its last checkpoint", async () => {
    for (const name of ["checkpoint-500", "checkpoint-1500", "checkpoint-1000"])
      await writeCheckpoint(path("run", name));
    await mkdir(path("run", "runs"));
    const error = await failureOf(() => resolveLocal(path("run")));
    expect(error.code).toBe("usage");
    expect(error.message).toBe(
      `${path("run")}: holds no weights itself, but the folders checkpoint-500, checkpoint-1000, checkpoint-1500 do`,
    );
    expect(error.hint).toBe(`name one of them, for example the last: ${path("run", "checkpoint-1500")}`);
  });

  it("a folder of the Hub's cache leads to its snapshot", async () => {
    await writeCheckpoint(path("models--a--b", "snapshots", "abc"));
    expect((await failureOf(() => resolveLocal(path("models--a--b")))).hint).toContain(
      path("models--a--b", "snapshots", "abc"),
    );
  });

  it.each([
    ["adapter", ["adapter_config.json", "adapter_model.safetensors"], "an adapter (PEFT)", "merge_and_unload"],
    ["deepspeed", ["zero_to_fp32.py", "latest"], "shards of DeepSpeed", "zero_to_fp32.py"],
    ["fsdp", ["__0_0.distcp", ".metadata"], "shards of PyTorch's distributed checkpoints", "merge-weights"],
    [
      "tensorflow",
      ["checkpoint", "model.ckpt.index", "model.ckpt.data-00000-of-00001"],
      "but no safetensors file",
      "convert it",
    ],
  ])("a folder of another kind is refused by what it is: %s", async (name, files, what, hint) => {
    const error = await refusalOf(name, ...files);
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain(what);
    expect(error.hint).toContain(hint);
  });
});

describe("a path to a single file", () => {
  it("a missing file is reported by its path", async () => {
    const error = await failureOf(() => resolveLocal(path("absent")));
    expect(error.code).toBe("not-found");
    expect(error.message).toBe(`${path("absent")}: no such file or folder`);
  });

  it("a path that looks like the name of a Hub model leads to hf://", async () => {
    const error = await failureOf(() => resolveLocal("openai-community/gpt2"));
    expect(error.hint).toBe("check the path, or for a model of the Hugging Face Hub write hf://openai-community/gpt2");
  });

  it("a path to config.json leads to its folder", async () => {
    const folder = await folderOf("configured", "config.json");
    const error = await failureOf(() => resolveLocal(`${folder}/config.json`));
    expect(error.code).toBe("usage");
    expect(error.hint).toBe(`give the model's folder: ${folder}`);
  });

  it("a path to one shard leads to the index", async () => {
    const folder = await folderOf("shard", "model-00001-of-00002.safetensors");
    const error = await failureOf(() => resolveLocal(`${folder}/model-00001-of-00002.safetensors`));
    expect(error.message).toContain("is one shard of a checkpoint");
    expect(error.hint).toContain(`${folder}/model.safetensors.index.json`);
  });
});

describe("choosing the weights among names", () => {
  it("selectWeights takes the only index of another name", () => {
    const names = ["gpt.safetensors.index.json", "gpt-00001-of-00001.safetensors"];
    expect(selectWeights(names, "m")).toBe("gpt.safetensors.index.json");
  });

  it("selectWeights is null without any weights", () => {
    expect(selectWeights(["config.json", "model-00001-of-00002.safetensors"], "m")).toBeNull();
  });
});
