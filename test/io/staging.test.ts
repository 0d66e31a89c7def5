// Output folders: nothing is visible before commit, nothing is lost, nothing of others is replaced.
import { existsSync, statSync, utimesSync } from "node:fs";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join, parse } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { NfcError } from "../../src/errors.ts";
import { identifyProcess, identifySelf, type ProcessIdentity } from "../../src/io/process.ts";
import { stageDirectory, withStagedDirectory, writeFileAtomic } from "../../src/io/staging.ts";
import { failureOf } from "../support/failure.ts";
import { SLOW } from "../support/slow.ts";
import { temporaryFolders } from "./support.ts";

const temporaryFolder = temporaryFolders();
/** A process number that no system gives out. */
const DEAD_PID = 2 ** 31 - 2;

afterEach(() => {
  vi.restoreAllMocks();
});

async function modelFolder(path: string, content: string): Promise<void> {
  await mkdir(path, { recursive: true });
  await writeFile(join(path, "config.json"), content);
}

function contentOf(folder: string): Promise<string> {
  return readFile(join(folder, "config.json"), "utf8");
}

describe("staged folders", () => {
  it("a staged folder lies beside its target and becomes it on commit, subfolders included", async () => {
    const parent = await temporaryFolder();
    const target = join(parent, "out");
    const staged = await stageDirectory(target);
    expect(dirname(staged.path)).toBe(parent);
    expect(basename(staged.path)).toMatch(
      new RegExp(`^\\.out\\.nfc-tmp-${process.pid}-\\d+-[0-9a-f]{12}-[0-9a-f]{12}$`),
    );
    await modelFolder(join(staged.path, "onnx"), "deep");
    expect(existsSync(target)).toBe(false);
    await staged.commit();
    expect(await contentOf(join(target, "onnx"))).toBe("deep");
    expect(await readdir(parent)).toEqual(["out"]);
  });

  it("a staged folder vanishes on discard", async () => {
    const parent = await temporaryFolder();
    const staged = await stageDirectory(join(parent, "out"));
    await modelFolder(staged.path, "x");
    await staged.discard();
    await staged.discard();
    expect(await readdir(parent)).toEqual([]);
  });

  it("a committed folder stays when discard comes after commit", async () => {
    const target = join(await temporaryFolder(), "out");
    const staged = await stageDirectory(target);
    await staged.commit();
    await staged.discard();
    expect(existsSync(target)).toBe(true);
  });

  it("a staged folder cannot be committed twice", async () => {
    const staged = await stageDirectory(join(await temporaryFolder(), "out"));
    await staged.commit();
    await expect(staged.commit()).rejects.toThrow("this output is committed or discarded already");
  });

  it("missing parent folders are made, and taken away again on discard", async () => {
    const top = await temporaryFolder();
    await (await stageDirectory(join(top, "a/b/out"))).discard();
    expect(await readdir(top)).toEqual([]);
    await (await stageDirectory(join(top, "a/b/out"))).commit();
    expect(await readdir(join(top, "a/b"))).toEqual(["out"]);
  });

  it("parent folders in which something else appeared are left", async () => {
    const top = await temporaryFolder();
    const staged = await stageDirectory(join(top, "a/b/out"));
    await writeFile(join(top, "a/other"), "");
    await staged.discard();
    expect(await readdir(join(top, "a"))).toEqual(["other"]);
  });

  it("a staged folder keeps its target when the current folder changes", async () => {
    const target = join(await temporaryFolder(), "out");
    const cwd = vi.spyOn(process, "cwd").mockReturnValue(dirname(target));
    const staged = await stageDirectory("out");
    cwd.mockRestore();
    await staged.commit();
    expect(existsSync(target)).toBe(true);
  });

  it("a commit replaces the folder behind a symbolic link, not the link", async () => {
    const parent = await temporaryFolder();
    await modelFolder(join(parent, "real"), "old");
    await symlink(join(parent, "real"), join(parent, "link"));
    const staged = await stageDirectory(join(parent, "link"), { force: true });
    await modelFolder(staged.path, "new");
    await staged.commit();
    expect(await contentOf(join(parent, "real"))).toBe("new");
    expect((await readdir(parent)).sort()).toEqual(["link", "real"]);
  });
});

describe("existing targets of a staged folder", () => {
  it("a target that is an empty folder is filled", async () => {
    const target = join(await temporaryFolder(), "out");
    await mkdir(target);
    const staged = await stageDirectory(target);
    await modelFolder(staged.path, "new");
    await staged.commit();
    expect(await contentOf(target)).toBe("new");
  });

  it("a target that is a folder is refused before work begins, with --force as the way out", async () => {
    const parent = await temporaryFolder();
    const target = join(parent, "out");
    await modelFolder(target, "old");
    const fault = await failureOf(() => stageDirectory(target));
    expect(fault.code).toBe("exists");
    expect(fault.message).toBe(`${target}: the output folder exists already and is not empty`);
    expect(fault.hint).toContain("--force");
    expect(await readdir(parent)).toEqual(["out"]);
  });

  it("a target that is a file is refused, with and without force", async () => {
    const target = join(await temporaryFolder(), "out");
    await writeFile(target, "text");
    expect(await failureOf(() => stageDirectory(target))).toMatchObject({
      code: "exists",
      message: `${target}: a file is there already`,
    });
    expect(await failureOf(() => stageDirectory(target, { force: true }))).toMatchObject({
      code: "usage",
      message: `${target}: this is a file, --force replaces folders only`,
    });
    expect(await readFile(target, "utf8")).toBe("text");
  });

  it("a target that is a broken link is refused", async () => {
    const target = join(await temporaryFolder(), "out");
    await symlink("nowhere", target);
    const fault = await failureOf(() => stageDirectory(target));
    expect(fault).toMatchObject({ code: "exists", message: `${target}: this is a broken symbolic link` });
  });

  it("a target below a file is refused", async () => {
    const file = join(await temporaryFolder(), "file");
    await writeFile(file, "");
    const fault = await failureOf(() => stageDirectory(join(file, "out")));
    expect(fault.message).toBe(`${join(file, "out")}: a part of this path is a file, not a folder`);
  });

  it.each([
    ["below a link to itself", "loop/out", ": too many symbolic links"],
    ["that is a link to itself", "loop", ": too many symbolic links"],
    ["below a broken link", "broken/out", ": no such file or folder"],
    ["below a device", "../../../../../../../../dev/null/out", ": a part of this path is a file, not a folder"],
    ["with a name too long", "n".repeat(300), ": the name is too long for this file system"],
    ["below a name too long", `new/${"n".repeat(300)}/out`, ": the name is too long for this file system"],
    ["with a NUL", "a\0b", "a path cannot hold a NUL character"],
  ])("a target %s is refused, and nothing is left", async (_, name, sentence) => {
    const parent = await temporaryFolder();
    await symlink("loop", join(parent, "loop"));
    await symlink("nowhere", join(parent, "broken"));
    for (const attempt of [
      () => stageDirectory(join(parent, name)),
      () => withStagedDirectory(join(parent, name), { force: true }, async () => {}),
      () => writeFileAtomic(join(parent, name), "text"),
    ]) {
      const { message } = await failureOf(attempt);
      expect(message.endsWith(sentence)).toBe(true);
      expect((await readdir(parent)).sort()).toEqual(["broken", "loop"]);
    }
  });

  it("a target that appeared while the work went on is refused at commit and left alone", async () => {
    const parent = await temporaryFolder();
    const target = join(parent, "out");
    const staged = await stageDirectory(target);
    await modelFolder(target, "somebody else's");
    expect((await failureOf(() => staged.commit())).code).toBe("exists");
    await staged.discard();
    expect(await contentOf(target)).toBe("somebody else's");
    expect(await readdir(parent)).toEqual(["out"]);
  });

  it("a target is replaced with force, all of it", async () => {
    const parent = await temporaryFolder();
    const target = join(parent, "out");
    await modelFolder(target, "old");
    await writeFile(join(target, "vocab.json"), "");
    const staged = await stageDirectory(target, { force: true });
    await modelFolder(staged.path, "new");
    expect(await contentOf(target)).toBe("old");
    await staged.commit();
    expect(await readdir(target)).toEqual(["config.json"]);
    expect(await contentOf(target)).toBe("new");
    expect(await readdir(parent)).toEqual(["out"]);
  });
});

describe("replacing a target with force", () => {
  for (const name of ["config.json", "nfc.json", "a.safetensors", "a.onnx"]) {
    it(`force replaces a folder that has ${name}`, async () => {
      const target = join(await temporaryFolder(), "out");
      await mkdir(target);
      await writeFile(join(target, name), "");
      await (await stageDirectory(target, { force: true })).commit();
      expect(await readdir(target)).toEqual([]);
    });
  }

  it.each([
    ["README.md", "README.md"], // no model card: it has no header
    ["notes.md", "notes.md"],
    ["train.py", "train.py"],
    ["LICENSE", "LICENSE"],
    [".env", ".env"],
    ["model.safetensors.bak", "model.safetensors.bak"],
    ["index.html", "index.html"],
    ["checkpoint-500/model.safetensors", "checkpoint-500"],
    ["onnx/notes.txt", "onnx/notes.txt"],
    ["onnx/old/model.onnx", "onnx/old"],
    ["nfc_distill/own.py", "nfc_distill/own.py"],
    ["deep/er/still/file", "deep"],
  ])("force keeps a folder with %s in it, and names %s", async (name, shown) => {
    const target = join(await temporaryFolder(), "out");
    await modelFolder(target, "old");
    await mkdir(join(target, dirname(name)), { recursive: true });
    await writeFile(join(target, name), "precious");
    const fault = await failureOf(() => stageDirectory(target, { force: true }));
    expect(fault.code).toBe("usage");
    expect(fault.message).toBe(
      `${target}: --force will not replace this folder: ${shown} in it was not written by a model tool`,
    );
    expect(await readFile(join(target, name), "utf8")).toBe("precious");
  });

  it.each([
    [".git/HEAD", "it"],
    ["onnx/.git", "onnx"],
    ["data/a/b/.git/HEAD", "data/a/b"],
  ])("force keeps a folder with %s", async (name, place) => {
    const target = join(await temporaryFolder(), "out");
    await modelFolder(target, "old");
    await writeFile(join(target, "notes.txt"), "");
    await mkdir(join(target, dirname(name)), { recursive: true });
    await writeFile(join(target, name), "");
    const fault = await failureOf(() => stageDirectory(target, { force: true }));
    expect(fault.message).toBe(`${target}: --force will not replace this folder: ${place} is a git repository`);
    expect(existsSync(join(target, name))).toBe(true);
  });

  it("force keeps a folder to which a note was added while the work went on", async () => {
    const target = join(await temporaryFolder(), "out");
    await modelFolder(target, "old");
    const staged = await stageDirectory(target, { force: true });
    await writeFile(join(target, "notes.txt"), "precious");
    expect((await failureOf(() => staged.commit())).message).toContain("notes.txt in it was not written by a model");
    await staged.discard();
    expect(await readFile(join(target, "notes.txt"), "utf8")).toBe("precious");
  });

  it("force replaces all that model tools write, cards and pages of nfc by their marks", async () => {
    const target = join(await temporaryFolder(), "out");
    for (const name of ["onnx", "nfc_distill"]) await mkdir(join(target, name), { recursive: true });
    const files = {
      "README.md": "---\ntags: [nfc]\n---\n# out\n",
      "report.html": '<!doctype html>\n<html><head><meta name="generator" content="nfc 1.0">',
      ".DS_Store": "",
    };
    const names = ["config.json", "generation_config.json", "genai_config.json", "nfc.json", "metrics.jsonl"];
    names.push("model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin");
    names.push("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json");
    names.push("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model");
    names.push("modeling_nfc_gpt2.py", "state.json", "checksums.json", ".nfc.json.nfc-lock");
    names.push("distill.py", "distill.json", "nfc_distill/data.py", "nfc_distill/trainer.py");
    names.push("onnx/model_q4.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1");
    for (const name of names) await writeFile(join(target, name), "");
    for (const [name, text] of Object.entries(files)) await writeFile(join(target, name), text);
    await (await stageDirectory(target, { force: true })).commit();
    expect(await readdir(target)).toEqual([]);
  });

  it("force does not replace a folder that does not look like a model", async () => {
    const target = join(await temporaryFolder(), "photos");
    await mkdir(target);
    await writeFile(join(target, "cat.jpg"), "");
    const fault = await failureOf(() => stageDirectory(target, { force: true }));
    expect(fault.code).toBe("usage");
    expect(fault.message).toBe(
      `${target}: --force will not replace this folder: it does not look like a model (no config.json, nfc.json, .safetensors or .onnx in it)`,
    );
    expect(await readdir(target)).toEqual(["cat.jpg"]);
  });

  it("force does not replace a git repository", async () => {
    const target = join(await temporaryFolder(), "clone");
    await modelFolder(target, "x");
    await mkdir(join(target, ".git"));
    const fault = await failureOf(() => stageDirectory(target, { force: true }));
    expect(fault.message).toBe(`${target}: --force will not replace this folder: it is a git repository`);
  });

  it("force does not replace the current folder or one around it, model or not", async () => {
    const target = join(await temporaryFolder(), "out");
    await modelFolder(join(target, "below"), "x");
    await modelFolder(target, "x");
    for (const current of [target, join(target, "below")]) {
      vi.spyOn(process, "cwd").mockReturnValue(current);
      const fault = await failureOf(() => stageDirectory(target, { force: true }));
      expect(fault.code).toBe("usage");
      expect(fault.message).toBe(`${target}: this is the current folder or one around it, it cannot be an output`);
    }
  });

  it("force replaces a folder whose name only begins like the current folder's", async () => {
    const parent = await temporaryFolder();
    await modelFolder(join(parent, "out"), "old");
    await mkdir(join(parent, "out-2"));
    vi.spyOn(process, "cwd").mockReturnValue(join(parent, "out-2"));
    await (await stageDirectory(join(parent, "out"), { force: true })).commit();
    expect(await readdir(join(parent, "out"))).toEqual([]);
  });

  it("force does not replace the home folder or one around it", async () => {
    for (const target of [homedir(), dirname(homedir())].filter((folder) => folder !== parse(folder).root)) {
      const fault = await failureOf(() => stageDirectory(target, { force: true }));
      expect(fault.message).toBe(`${target}: this is your home folder or one around it, it cannot be an output`);
    }
  });

  it("force needs no current folder when the target is absolute", async () => {
    const target = join(await temporaryFolder(), "out");
    vi.spyOn(process, "cwd").mockImplementation(() => {
      throw Object.assign(new Error("ENOENT: uv_cwd"), { code: "ENOENT" });
    });
    await (await stageDirectory(target, { force: true })).commit();
    expect(existsSync(target)).toBe(true);
  });

  it("force does not replace the root of the file system", async () => {
    const { root } = parse(process.cwd());
    const fault = await failureOf(() => stageDirectory(root, { force: true }));
    expect(fault.message).toBe(`${root}: this is the root of the file system, it cannot be an output`);
  });
});

/** The name that a process gives to a folder in which it makes the output "out". */
function nameOf({ pid, started, table }: ProcessIdentity): string {
  return `.out.nfc-tmp-${pid}-${started}-${table}-0123456789ab`;
}

describe("what a killed process left", () => {
  const tmp = `.out.nfc-tmp-${DEAD_PID}-0123456789ab`;
  const old = `.out.nfc-old-${DEAD_PID}-0123456789ab`;

  it("a killed process's folder is removed when the same target is staged again", async () => {
    const parent = await temporaryFolder();
    await modelFolder(join(parent, tmp), "half");
    await (await stageDirectory(join(parent, "out"))).commit();
    expect(await readdir(parent)).toEqual(["out"]);
  });

  it("an old output is restored when it was moved away and no new one came", async () => {
    const parent = await temporaryFolder();
    const target = join(parent, "out");
    await modelFolder(join(parent, old), "old");
    await modelFolder(join(parent, tmp), "new");
    expect((await failureOf(() => stageDirectory(target))).code).toBe("exists");
    expect(await contentOf(target)).toBe("old");
    expect(await readdir(parent)).toEqual(["out"]);
  });

  it("an old output is restored over an empty folder too", async () => {
    const parent = await temporaryFolder();
    const target = join(parent, "out");
    await modelFolder(join(parent, old), "old");
    await mkdir(target);
    await (await stageDirectory(target, { force: true })).discard();
    expect(await contentOf(target)).toBe("old");
  });

  it("an old output is removed when the new output is in place", async () => {
    const parent = await temporaryFolder();
    const target = join(parent, "out");
    await modelFolder(join(parent, old), "old");
    await modelFolder(target, "new");
    await failureOf(() => stageDirectory(target));
    expect(await contentOf(target)).toBe("new");
    expect(await readdir(parent)).toEqual(["out"]);
  });

  it("an old output is removed when a file took the place of the target", async () => {
    const parent = await temporaryFolder();
    await modelFolder(join(parent, old), "old");
    await writeFile(join(parent, "out"), "text");
    expect((await failureOf(() => stageDirectory(join(parent, "out")))).code).toBe("exists");
    expect(await readdir(parent)).toEqual(["out"]);
  });

  it("a killed process's folder stays when it belongs to another target", async () => {
    const parent = await temporaryFolder();
    const names = [
      ".other.nfc-tmp-1-0123456789ab",
      `.out.2.nfc-tmp-${DEAD_PID}-0123456789ab`,
      ".out.nfc-tmp-x",
      ".out.nfc-tmp-9-0",
    ];
    for (const name of names) await mkdir(join(parent, name));
    await (await stageDirectory(join(parent, "out"))).discard();
    expect((await readdir(parent)).sort()).toEqual(names.sort());
  });

  it.skipIf(process.platform === "win32")("a staged folder stays while its process is alive", async () => {
    const parent = await temporaryFolder();
    const name = basename(nameOf(identifyProcess(process.ppid)));
    await mkdir(join(parent, name));
    await (await stageDirectory(join(parent, "out"))).discard();
    expect(await readdir(parent)).toEqual([name]);
  });

  it("a killed process's folder is told from what this process is writing, though the process number is the same", async () => {
    const parent = await temporaryFolder();
    const leftover = join(parent, nameOf({ ...identifySelf(), started: identifySelf().started - 1 }));
    await mkdir(leftover);
    const first = await stageDirectory(join(parent, "out"));
    const second = await stageDirectory(join(parent, "out"));
    expect(existsSync(leftover)).toBe(false);
    expect(existsSync(first.path)).toBe(true);
    await second.commit();
    await first.discard();
    expect(await readdir(parent)).toEqual(["out"]);
  });
});

describe("what another container left", () => {
  const foreign = { pid: process.pid, table: "0123456789ab", started: identifySelf().started };

  it("a folder stays while its process shows that it lives", async () => {
    const parent = await temporaryFolder();
    const path = join(parent, nameOf(foreign));
    await modelFolder(path, "theirs");
    const beat = setInterval(() => utimesSync(path, new Date(), new Date()), 500);
    await (await stageDirectory(join(parent, "out"))).commit();
    clearInterval(beat);
    expect(await contentOf(path)).toBe("theirs");
  });

  it("a folder is removed, and a whole output restored, when nothing changes them any more", SLOW, async () => {
    const parent = await temporaryFolder();
    await modelFolder(join(parent, nameOf(foreign)), "half");
    await modelFolder(join(parent, nameOf(foreign).replace("tmp", "old")), "old");
    await (await stageDirectory(join(parent, "out"), { force: true })).discard();
    expect(await readdir(parent)).toEqual(["out"]);
    expect(await contentOf(join(parent, "out"))).toBe("old");
  });

  it("a staged folder shows that its process lives", async () => {
    const staged = await stageDirectory(join(await temporaryFolder(), "out"));
    utimesSync(staged.path, 1, 1);
    await vi.waitFor(() => expect(statSync(staged.path).mtimeMs).toBeGreaterThan(1e12), { timeout: 5000 });
    await staged.discard();
  });
});

describe("filling a staged folder", () => {
  it("withStagedDirectory commits what was filled in and returns its result", async () => {
    const target = join(await temporaryFolder(), "out");
    const result = await withStagedDirectory(target, {}, async (folder) => {
      await modelFolder(folder, "x");
      return 7;
    });
    expect(result).toBe(7);
    expect(await contentOf(target)).toBe("x");
  });

  it("a failed filling leaves nothing new, and the old output untouched", async () => {
    const parent = await temporaryFolder();
    const target = join(parent, "out");
    await modelFolder(target, "old");
    const failing = withStagedDirectory(target, { force: true }, async (folder) => {
      await modelFolder(folder, "half");
      throw new TypeError("a bug");
    });
    await expect(failing).rejects.toThrow(new TypeError("a bug"));
    expect(await readdir(parent)).toEqual(["out"]);
    expect(await contentOf(target)).toBe("old");
  });

  it("an error in filling speaks of the target, not of the staging folder", async () => {
    const target = join(await temporaryFolder(), "out");
    const fault = await failureOf(() =>
      withStagedDirectory(target, {}, async (folder) => {
        throw new NfcError("io", `${folder}/model.safetensors: disk full`, { hint: `see ${folder}` });
      }),
    );
    expect(fault).toMatchObject({
      code: "io",
      message: `${target}/model.safetensors: disk full`,
      hint: `see ${target}`,
    });
  });

  it("an error in filling names the file that the system complained about", async () => {
    const parent = await temporaryFolder();
    const missing = join(parent, "tokenizer.json");
    const fault = await failureOf(() => withStagedDirectory(join(parent, "out"), {}, () => readFile(missing)));
    expect(fault).toMatchObject({ code: "not-found", message: `${missing}: no such file or folder` });
  });
});
