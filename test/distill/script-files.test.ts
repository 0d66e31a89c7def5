// The files by which PyTorch distills a model: all modules, and settings by the names that they read.
// scripts/check-distill.py runs them against nfc distill.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { makeDistillFiles } from "../../src/distill/script-files.ts";
import { MODEL, opened } from "../support/fixture.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";

const assets = fileURLToPath(new URL("../../assets/", import.meta.url));
const files = await opened(MODEL, (model) => makeDistillFiles(model, { steps: 12 }));
const settings = JSON.parse(files.get("distill.json") as string);
const python = [...files].filter(([name]) => name.endsWith(".py"));
const codeOf = (name: string) => String(files.get(name));

describe("the files of distill.py", () => {
  it("are the script, its modules and its settings", () => {
    const modules = readdirSync(`${assets}nfc_distill`).map((name) => `nfc_distill/${name}`);
    expect([...files.keys()].sort()).toEqual(["distill.py", "distill.json", ...modules].sort());
    expect(codeOf("distill.py")).toBe(readFileSync(`${assets}distill.py`, "utf8"));
    for (const [name, code] of python)
      for (const [, dots, module] of String(code).matchAll(/^from (nfc_distill)?\.(\w+) import/gm))
        expect(modules, `${name} imports ${dots ?? ""}.${module}`).toContain(`nfc_distill/${module}.py`);
  });

  it("distill.json has the settings that distill.py wants, all of them and no others", () => {
    const table = /^SETTINGS = \{\n(.*?)^\}/ms.exec(codeOf("nfc_distill/data.py"))?.[1] ?? "";
    const wanted = [...table.matchAll(/"(\w+)"(?=[,)]|: ")/g)].map(([, name]) => name);
    expect(settings.format).toBe(/^FORMAT = "(.+)"$/m.exec(codeOf("nfc_distill/data.py"))?.[1]);
    expect(Object.keys(settings.settings).sort()).toEqual(wanted.sort());
    expect(settings).toMatchObject({ settings: { steps: 12 }, layers: [0, 1], tokens: null });
  });

  it("distill.json names the tokens that were kept of the teacher's vocabulary", async () => {
    const cut = { axis: "vocabulary", from: 99, to: 4, kept: "0-1,7,90" };
    const config = { ...tinyModelConfig({ layers: 2 }), vocab_size: 4 };
    const student = { config, record: { cuts: [cut] } as never, source: "out/cut" };
    expect(JSON.parse((await makeDistillFiles(student)).get("distill.json") as string).tokens).toBe("0-1,7,90");
  });

  it.skipIf(spawnSync("python3", ["--version"]).status !== 0).each(python)("%s compiles in Python 3.9", (_, code) => {
    const script = "import ast, sys; ast.parse(sys.stdin.read(), feature_version=(3, 9))";
    const { status, stderr } = spawnSync("python3", ["-c", script], { input: String(code), encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });
});
