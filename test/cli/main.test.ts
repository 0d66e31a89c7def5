// The command line itself: help, version, and what it says of wrong usage: one line, exit code 2, and JSON when asked.
import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { main } from "../../src/cli/main.ts";
import { TOOL } from "../../src/version.ts";
import { nfc, Recorder } from "../support/cli.ts";
import { MODEL } from "../support/fixture.ts";

const COMMANDS = [
  "inspect",
  "convert",
  "distill",
  "finetune",
  "pretrain",
  "eval",
  "glue",
  "generate",
  "export",
  "serve",
  "report",
  "check",
  "demo",
] as const;

/** The command lines that a help shows, without their comments. */
function readExamples(help: string): string[] {
  return [...help.replace(/ \\\n +/g, " ").matchAll(/\$ (?:cat \S+ \| )?nfc (.+)/g)].map(
    ([, line]) => (line as string).split(/ *(#|>>)/)[0] as string,
  );
}

// docs/reference/commands.md has the whole help of every command, and a test of that page compares them.
describe("help of nfc", () => {
  it("nfc --help prints examples on stdout alone, and exits with 0", async () => {
    const { code, stdout, stderr } = await nfc(["--help"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(readExamples(stdout)).not.toEqual([]);
  });

  it.each(COMMANDS)("nfc %s --help prints examples on stdout alone, and exits with 0", async (command) => {
    const { code, stdout, stderr } = await nfc([command, "--help"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(readExamples(stdout)).not.toEqual([]);
  });

  it("the examples of every help have flags that exist", async () => {
    for (const command of [[], ...COMMANDS.map((name) => [name])]) {
      const { stdout } = await nfc([...command, "--help"]);
      for (const example of readExamples(stdout).filter((line) => !/hf:|^(demo|check)/.test(line))) {
        // The files are not there: that must be all that is wrong.
        const args = Array.from(example.matchAll(/(["'])(.*?)\1|\S+/g), ([word, , quoted]) =>
          (quoted ?? word).replace(/^(out|gpt2|small|my|train)/, "/nowhere/$1"),
        );
        // Those that name no model look for one in the current folder, where there is none.
        const missing = /^(distill --data|export --onnx$)/.test(example)
          ? /^nfc: no folder here .*\n$/
          : /^nfc: \/nowhere\/.*: no such file or folder; check the path\n$/;
        expect((await nfc(args, { stdin: "piped text" })).stderr, example).toMatch(missing);
      }
    }
  });

  it("nfc help COMMAND prints what nfc COMMAND --help prints", async () => {
    expect((await nfc(["help", "convert"])).stdout).toBe((await nfc(["convert", "--help"])).stdout);
  });

  it("a line without a command is wrong usage, says so first, and prints the help on stderr", async () => {
    const { code, stdout, stderr } = await nfc([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toBe(`nfc: a command is missing; these are there:\n\n${(await nfc(["--help"])).stdout}`);
  });

  it("the help is as wide as the terminal", async () => {
    const io = (columns: number) => {
      const signals = new EventEmitter();
      const stdout = Object.assign(new Recorder(), { columns });
      const rest = { env: {}, stderr: new Recorder(), on: signals.on.bind(signals), off: signals.off.bind(signals) };
      return { argv: ["node", "nfc", "--help"], stdout, ...rest };
    };
    const [wide, narrow] = [io(200), io(50)];
    for (const each of [wide, narrow]) expect(await main(each)).toBe(0);
    expect(wide.stdout.text.split("\n").length).toBeLessThan(narrow.stdout.text.split("\n").length);
  });
});

it.each(["--version", "-V"])("nfc %s prints the package's version", async (flag) => {
  expect(await nfc([flag])).toEqual({ code: 0, stdout: `${TOOL.version}\n`, stderr: "" });
});

/** stderr and exit code of wrong usage; stdout must be empty. */
async function refused(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await nfc(args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toMatch(/^nfc: .+\n$/);
  expect(stderr.split("\n")).toHaveLength(2);
  return stderr.slice("nfc: ".length, -1);
}

const USAGE: [string, string[], string][] = [
  ["an unknown command", ["bogus"], "unknown command 'bogus'; nfc --help shows the commands"],
  ["a mistyped command", ["convrt"], "unknown command 'convrt' (Did you mean convert?); nfc --help shows the commands"],
  ["an unknown flag", ["inspect", "x", "--bogus"], "unknown option '--bogus'; nfc inspect --help shows the flags"],
  [
    "a mistyped flag",
    ["convert", "x", "-o", "y", "--thread", "3"],
    "unknown option '--thread' (Did you mean --threads?); nfc convert --help shows the flags",
  ],
  ["a missing argument", ["report"], "missing required argument 'models'; nfc report --help shows the flags"],
  [
    "one argument too many",
    ["inspect", "a", "b"],
    "unexpected argument 'b': the command takes 1 argument, and a value with spaces needs quotes; nfc inspect --help shows the flags",
  ],
  [
    "a missing output",
    ["finetune", "x", "--data", "y"],
    "required option '-o, --output <folder>' not specified; nfc finetune --help shows the flags",
  ],
  [
    "a flag without its value",
    ["eval", "x", "--text"],
    "option '--text <files...>' argument missing; nfc eval --help shows the flags",
  ],
  [
    "a variant that is not one",
    ["convert", "x", "-o", "y", "--variant", "loose"],
    "option '--variant <name>' argument 'loose' is invalid. Allowed choices are dense, symmetric, noise-shared, noise-per-head, noise-distance, pairwise, low-rank; nfc convert --help shows the flags",
  ],
  ["help of no command", ["help", "nope"], "unknown command 'nope'; nfc --help shows the commands"],
  [
    "help of a mistyped command",
    ["help", "distil"],
    "unknown command 'distil' (Did you mean distill?); nfc --help shows the commands",
  ],
  [
    "a command in capitals",
    ["CONVERT", "x"],
    "unknown command 'CONVERT' (Did you mean convert?); nfc --help shows the commands",
  ],
  [
    "a flag before the command",
    ["--quiet", "inspect", "x"],
    "unknown option '--quiet': it belongs behind a command; nfc --help shows the commands",
  ],
  [
    "a mistyped flag where arguments are missing too",
    ["report", "--htlm", "x.html"],
    "unknown option '--htlm' (Did you mean --html?); nfc report --help shows the flags",
  ],
  [
    "a mistyped flag with its value",
    ["export", "x", "-o", "y", "--percision=int8"],
    "unknown option '--percision' (Did you mean --precision?); nfc export --help shows the flags",
  ],
  [
    "a long flag with one dash",
    ["export", "x", "-onnx"],
    "unknown option '-onnx' (Did you mean --onnx?); nfc export --help shows the flags",
  ],
  [
    "a flag in another tool's words",
    ["export", "x", "--out-dir", "y"],
    "unknown option '--out-dir' (Did you mean --output?); nfc export --help shows the flags",
  ],
  [
    "a flag in the place of a value",
    ["export", "x", "-o", "--onnx"],
    "option '-o, --output <folder>' argument missing: '--onnx' follows it; nfc export --help shows the flags",
  ],
  [
    "a mistyped variant",
    ["convert", "x", "-o", "y", "--variant", "symetric"],
    "option '--variant <name>' argument 'symetric' is invalid: Allowed choices are dense, symmetric, noise-shared, noise-per-head, noise-distance, pairwise, low-rank (Did you mean symmetric?); nfc convert --help shows the flags",
  ],
  [
    "a mistyped precision",
    ["export", "x", "-o", "y", "--precision", "fp32,int9"],
    "option '--precision <list>' argument 'fp32,int9' is invalid: not a list of fp32, fp16, int8, uint8, mixed, q4, q4f16, q2 (Did you mean int8?); nfc export --help shows the flags",
  ],
];

describe("wrong usage", () => {
  it.each(USAGE)("%s is refused in one line", async (_, args, line) => {
    expect(await refused(args)).toBe(line.replace(" is invalid. ", " is invalid: "));
  });

  it.each(COMMANDS)("nfc %s names a flag that it does not have, and the nearest of its own", async (command) => {
    expect(await refused([command, "--quite"])).toBe(
      `unknown option '--quite' (Did you mean --quiet?); nfc ${command} --help shows the flags`,
    );
    expect(await refused([command, "--zzzzzz"])).toBe(
      `unknown option '--zzzzzz'; nfc ${command} --help shows the flags`,
    );
  });

  it.each(COMMANDS)(
    "nfc %s names the flag whose value is missing, at the end and before another flag",
    async (command) => {
      const { stdout } = await nfc([command, "--help"]);
      const flags = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+) </gm)].map(([, flag]) => flag as string);
      expect(flags.length).toBeGreaterThan(command === "check" || command === "serve" ? 0 : 1);
      for (const flag of flags) {
        const help = `nfc ${command} --help shows the flags`;
        expect(await refused([command, flag])).toMatch(
          new RegExp(`^option '.*${flag} <.*>' argument missing; ${help}$`),
        );
        expect(await refused([command, flag, "--quiet"])).toContain(`${flag} <`);
        expect(await refused([command, flag, "--quiet"])).toContain("argument missing: '--quiet' follows it");
      }
    },
  );

  it("a value that begins with a dash reaches its flag", async () => {
    const line = await refused(["export", "x", "-o", "y", "--seed", "-1"]);
    expect(line).toContain("argument '-1' is invalid: not an integer from 0 to 16777216");
    expect(await refused(["generate", "/nowhere", "-p-json"])).toContain("/nowhere: no such file");
  });

  it.each([
    ["--threads", "0", "not a positive integer"],
    ["--threads", "1.5", "not a positive integer"],
    ["--threads", "-1", "not a positive integer"],
    ["--threads", "1e3", "not a positive integer"],
    ["--calibration-tokens", "many", "not a positive integer"],
    ["--calibration-tokens", "99999999999999999999", "not a positive integer"],
    ["--noise-std", "0", "not a positive number"],
    ["--noise-std", "Infinity", "not a positive number"],
    ["--noise-std", " ", "not a positive number"],
    ["--max-shard-size", "2 apples", "not a size such as 500MB or 2GiB"],
    ["--max-shard-size", "0.5B", "not a size such as 500MB or 2GiB"],
    ["--n-head", "x", "not a positive integer"],
  ])("%s %s is refused with the reason", async (flag, value, fact) => {
    const line = await refused(["convert", "x", "-o", "y", `${flag}=${value}`]);
    expect(line).toContain(`argument '${value}' is invalid: ${fact};`);
  });

  it.each(["-1", "1.5", "16777217", "x"])("--seed %s is refused with its range", async (value) => {
    expect(await refused(["export", "x", "-o", "y", `--seed=${value}`])).toContain("not an integer from 0 to 16777216");
  });

  it.each([
    ["a command line", ["convert", "--json"], "usage"],
    ["an unknown command", ["bogus", "--json"], "usage"],
    ["a file", ["inspect", "/nowhere", "--json"], "not-found"],
  ])("the error of %s is an object on stdout with --json, beside the line on stderr", async (_, args, kind) => {
    const { code, stdout, stderr } = await nfc(args);
    expect(code).toBe(2);
    const { error } = JSON.parse(stdout);
    expect(error).toMatchObject({ code: kind, hint: expect.any(String) });
    expect(stderr).toBe(`nfc: ${error.message}; ${error.hint}\n`);
  });
});

describe("bad input", () => {
  it.each([
    ["inspect", ["inspect", "/nowhere"]],
    ["convert", ["convert", "/nowhere", "-o", "/nowhere-out"]],
    ["eval", ["eval", "/nowhere", "--text", "x.txt"]],
    ["export", ["export", "/nowhere", "-o", "/nowhere-out"]],
    ["report", ["report", "/nowhere", MODEL]],
    ["report", ["report", MODEL, "/nowhere"]],
  ])("nfc %s refuses a model that does not exist in one line", async (_, args) => {
    expect(await refused(args)).toBe("/nowhere: no such file or folder; check the path");
  });

  it("an error stays on one line whatever the name of the file", async () => {
    expect(await refused(["inspect", "/no\nwhere\u001b[31m"])).toBe(
      "/no\\u{a}where\\u{1b}[31m: no such file or folder; check the path",
    );
  });

  it("an error is printed with --quiet as well", async () => {
    expect(await refused(["inspect", "/nowhere", "--quiet"])).toContain("no such file");
  });
});
