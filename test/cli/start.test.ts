// What a command loads when it starts: the help and the size check do without what models are read, trained and run with.
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { COMMANDS } from "../../src/cli/command-table.ts";
import type { Context } from "../../src/cli/terminal.ts";
import { compileCli, start } from "../support/compiled-cli.ts";
import { MODEL } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("start");
let bin = "";
let count = 0;

beforeAll(async () => {
  mkdirSync(path("package"));
  bin = await compileCli(path("package"));
});

/** The modules that a command loads, by their paths below the package or the package's name, as Node's coverage has them. */
async function listLoaded(args: readonly string[]): Promise<string[]> {
  const folder = path(`coverage${count++}`);
  mkdirSync(folder);
  const { code } = await start(bin, args, { cwd: folder, env: { NODE_V8_COVERAGE: folder } }).ending;
  expect(code).toBe(0);
  return readdirSync(folder)
    .filter((name) => name.startsWith("coverage-"))
    .flatMap((name) => (JSON.parse(readFileSync(join(folder, name), "utf8")) as Coverage).result)
    .flatMap(({ url }) => /\/(?:node_modules|dist)\/(.*)$/.exec(url)?.[1] ?? []);
}

interface Coverage {
  result: { url: string }[];
}

const RUNTIME =
  /^(onnxruntime|@huggingface\/|ora\/|graph\/|inference\/generate|checkpoint\/encoding|distill\/|convert\/)/;

describe("what is loaded at the start", () => {
  it("nfc --help loads commander and the names of the commands alone", async () => {
    const loaded = await listLoaded(["--help"]);
    expect(loaded).toContain("cli/command-table.js");
    expect(loaded.filter((name) => /^cli\/commands\/|^zod\//.test(name) || RUNTIME.test(name))).toEqual([]);
    expect(loaded.length).toBeLessThan(30);
  });

  it("nfc check loads no other command, and nothing that runs models or encodes text", async () => {
    cpSync(MODEL, path("tiny"), { recursive: true });
    const config = path("nfc.size.json");
    writeFileSync(config, JSON.stringify({ models: [{ name: "tiny", path: "tiny", limit: "80 MB" }] }));
    const loaded = await listLoaded(["check", "--config", config]);
    expect(loaded.filter((name) => name.startsWith("cli/commands/"))).toEqual(["cli/commands/check.js"]);
    expect(loaded.filter((name) => RUNTIME.test(name))).toEqual([]);
  });
});

describe("the table of commands", () => {
  it.each(COMMANDS)("names $name and its argument as the command does", async ({ name, argument, load }) => {
    const command = (await load())({} as Context);
    expect(command.name()).toBe(name);
    const [declared, ...others] = command.registeredArguments;
    const dots = declared?.variadic ? "..." : "";
    const shown = declared && (declared.required ? `<${declared.name()}${dots}>` : `[${declared.name()}${dots}]`);
    expect(shown).toBe(argument);
    expect(others).toEqual([]);
  });
});
