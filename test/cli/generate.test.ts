// nfc generate: what it prints where, prompts from flags, files and stdin, JSON, interrupts, and what it refuses.
import { mkdirSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../src/checkpoint/tokenizer.ts";
import { nfc, refused } from "../support/cli.ts";
import { exported, modelOf } from "../support/exported.ts";
import { converted, MODEL, opened } from "../support/fixture.ts";
import { greedyOwn } from "../support/greedy.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { overwrite, poison } from "../support/poison.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("cli-generate");
const TIMING = /^\d+ tokens?, [\d,.]+ tokens\/s, first after \d+ ms\n$/;
let tokenizer: Tokenizer;
/** The greedy continuations by 8 tokens, by our forward pass. */
const texts = new Map<string, string>();
const textOf = (prompt: string) => texts.get(prompt) as string;

beforeAll(async () => {
  await exported(MODEL, path("onnx"));
  await opened(MODEL, async (model) => {
    tokenizer = await loadTokenizer(MODEL, model.config);
    for (const prompt of ["It was", "The old sailor", "In the morning the girl"])
      texts.set(prompt, tokenizer.decode(await greedyOwn(model, tokenizer.encode(prompt), 8)));
  });
});

const generate = (args: readonly string[], options: Parameters<typeof nfc>[1] = {}) =>
  nfc(["generate", path("onnx"), "--threads", "1", "-n", "8", ...args], options);

describe("nfc generate of one prompt", () => {
  it("one prompt is continued greedily on stdout, with the timing on stderr", async () => {
    const { code, stdout, stderr } = await generate(["--prompt", "It was"]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${textOf("It was")}\n` });
    expect(stderr).toMatch(TIMING);
  });

  it("one prompt is continued by a checkpoint as well", async () => {
    const { code, stdout } = await nfc(["generate", MODEL, "-p", "It was", "-n", "8", "-q"]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${textOf("It was")}\n` });
  });

  it("--echo prints the prompt itself", async () => {
    const { stdout, stderr } = await generate(["--prompt", "It was", "--echo", "-q"]);
    expect({ stdout, stderr }).toEqual({ stdout: `It was${textOf("It was")}\n`, stderr: "" });
  });

  it("64 tokens are written by default, or fewer until the positions are full", async () => {
    const { stderr } = await nfc(["generate", path("onnx"), "-p", "It was", "--ignore-eos"]);
    const prompt = tokenizer.encode("It was").length;
    const [note, timing] = stderr.split("\n");
    expect(note).toBe(`note: the model's positions are full after ${64 - prompt} tokens`);
    expect(timing).toMatch(new RegExp(`^${64 - prompt} tokens, `));
  });

  it("the text ends before the text of --stop", async () => {
    const stop = textOf("It was").slice(4, 6);
    const { stdout } = await generate(["-p", "It was", "--stop", stop, "--stop", "\u0000"]);
    expect(stdout).toBe(`${textOf("It was").slice(0, textOf("It was").indexOf(stop))}\n`);
  });

  it("a prompt too long for the model is cut with --truncate only", async () => {
    const long = `${"The old man went home. ".repeat(20)}It was`;
    expect(await refused(["generate", path("onnx"), "-p", long])).toMatch(
      /^prompt 1 has \d+ tokens, and the model takes at most 63; shorten it, or keep its end with --truncate$/,
    );
    const { code, stderr } = await generate(["-p", long, "--truncate"]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^8 tokens/);
  });

  it("control characters are made visible on a terminal, which would obey them", async () => {
    const args = ["-p", "a\u001b[31mb\n\tc", "--echo"];
    const startOf = async (ttyOut: boolean) => (await generate(args, { ttyOut })).stdout.slice(0, 13);
    expect(await startOf(false)).toMatch("a\u001b[31mb\n\tc");
    expect(await startOf(true)).toBe("a\\u{1b}[31mb\n");
  });
});

describe("sampled text of nfc generate", () => {
  const drawn = ["-p", "It was", "--temperature", "1.5", "--top-k", "100", "--top-p", "0.99"];

  it("sampled text follows from the seed", async () => {
    const first = await generate([...drawn, "--seed", "3"]);
    expect((await generate([...drawn, "--seed", "3"])).stdout).toBe(first.stdout);
    expect((await generate([...drawn, "--seed", "4"])).stdout).not.toBe(first.stdout);
    expect(first.stderr).toMatch(/, seed 3\n$/);
  });

  it("sampled text gets a seed when none is given, and the seed is printed", async () => {
    const first = await generate(drawn);
    const [, seed] = /, seed (\d+)\n$/.exec(first.stderr) ?? [];
    expect((await generate([...drawn, "--seed", seed as string])).stdout).toBe(first.stdout);
  });

  it("sampled text can come from the noise of a checkpoint alone", async () => {
    const source = await modelOf("noise-per-head", path("noisy"));
    await overwrite(source, "h.0.attn.noise_log_std", 1);
    const textAt = async (seed: string) =>
      (await nfc(["generate", source, "-p", "It was", "--noise", "sample", "--seed", seed, "-q"])).stdout;
    expect(await textAt("3")).toBe(await textAt("3"));
    expect(await textAt("3")).not.toBe(await textAt("4"));
  });
});

describe("nfc generate of several prompts", () => {
  const PROMPTS = ["It was", "The old sailor", "In the morning the girl"];
  const whole = PROMPTS.map((prompt) => () => `${prompt}${textOf(prompt)}\n`);

  it("several prompts are printed with their texts, in order, whatever the batches", async () => {
    const args = PROMPTS.flatMap((prompt) => ["-p", prompt]);
    for (const size of ["1", "2", "8"]) {
      const { stdout, stderr } = await generate([...args, "--batch-size", size]);
      expect(stdout).toBe(whole.map((text) => text()).join("\n"));
      expect(stderr).toMatch(/^24 tokens, /);
    }
  });

  it("several prompts may be the lines of a file", async () => {
    writeFileSync(path("prompts.txt"), `${PROMPTS.join("\r\n")}\n`);
    const { stdout } = await generate(["--prompts-file", path("prompts.txt")]);
    expect(stdout).toBe(whole.map((text) => text()).join("\n"));
  });
});

describe("nfc generate of stdin", () => {
  it("stdin is the prompt when none is given, without its last newline", async () => {
    for (const stdin of ["It was", "It was\n", "It was\r\n"])
      expect((await generate(["-q"], { stdin })).stdout).toBe(`${textOf("It was")}\n`);
    expect((await generate(["-q", "--echo"], { stdin: "It was\n\n" })).stdout).toMatch(/^It was\n/);
  });

  it("stdin is one of several prompts, as -", async () => {
    const { stdout } = await generate(["-p", "It was", "-p", "-", "-q"], { stdin: "The old sailor\n" });
    expect(stdout).toBe(`It was${textOf("It was")}\n\nThe old sailor${textOf("The old sailor")}\n`);
  });

  it.each<[string, string | Uint8Array, string]>([
    ["empty", "\n", 'prompt 1 is empty; give --prompt "…", or pipe text in'],
    ["not UTF-8", Uint8Array.of(0x61, 0xff), "stdin: not UTF-8; convert it, for example with iconv -t utf-8"],
  ])("stdin is refused when it is %s", async (_, stdin, message) => {
    const { code, stdout, stderr } = await generate([], { stdin });
    expect({ code, stdout, stderr }).toEqual({ code: 2, stdout: "", stderr: `nfc: ${message}\n` });
  });
});

describe("nfc generate --json", () => {
  it("the object has texts, ids, endings and speeds, and nothing else is on stdout", async () => {
    const { stdout, stderr } = await generate(["-p", "It was", "-p", "The old sailor", "--json"]);
    const { texts: written, loadMs, ...rest } = JSON.parse(stdout);
    expect(stderr).toBe("");
    expect(written.map(({ ids, ...text }: { ids: number[] }) => ({ ...text, written: tokenizer.decode(ids) }))).toEqual(
      ["It was", "The old sailor"].map((prompt) => ({
        prompt,
        promptTokens: tokenizer.encode(prompt).length,
        text: textOf(prompt),
        written: textOf(prompt),
        finish: "length",
      })),
    );
    expect(rest).toEqual({
      model: path("onnx"),
      precision: "fp32",
      seed: null,
      firstTokenMs: expect.any(Number),
      promptTokensPerSecond: expect.any(Number),
      tokensPerSecond: expect.any(Number),
      draft: null,
    });
    expect(loadMs).toBeGreaterThan(0);
  });

  it("the object has no writing speed for one token, and no precision for a checkpoint", async () => {
    const { stdout } = await nfc([
      "generate",
      MODEL,
      "-p",
      "It was",
      "-n",
      "1",
      "--top-k",
      "5",
      "--seed",
      "9",
      "--json",
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ precision: null, seed: 9, tokensPerSecond: null });
  });
});

describe("nfc generate --draft", () => {
  beforeAll(async () => {
    await converted({ output: path("draft"), variant: "dense", layers: [1] });
    await exported(path("draft"), path("draft-onnx"), { precisions: ["fp32", "q4"] });
  });
  const drafted = (args: readonly string[]) =>
    generate(["-p", "It was", "-n", "40", "--draft", path("draft"), ...args]);

  it("the greedy text is that without the draft, and a line says what the draft gave and whether it was faster", async () => {
    const { stdout } = await generate(["-p", "It was", "-n", "40"]);
    for (const args of [[], ["--draft-tokens", "2"]]) {
      const { code, stdout: text, stderr } = await drafted(args);
      expect({ code, text }).toEqual({ code: 0, text: stdout });
      const [timing, line] = stderr.split("\n");
      expect(`${timing}\n`).toMatch(TIMING);
      expect(line).toMatch(
        /^draft: \d\.\d tokens a step, [\d.]+ % of \d+ proposed tokens kept; (\d+\.\d\d times as fast|slower) \([\d,.]+ tokens\/s without it\)$/,
      );
    }
    expect((await drafted(["-q"])).stderr).toBe("");
  });

  it("a drawn text follows from its seed, whatever the number of drafted tokens", async () => {
    const drawn = ["--temperature", "1", "--top-p", "0.9", "--seed", "3", "-q"];
    const { stdout } = await drafted([...drawn, "--draft-tokens", "1"]);
    expect((await drafted([...drawn, "--draft-tokens", "4"])).stdout).toBe(stdout);
    expect((await drafted(drawn)).stdout).toBe(stdout);
  });

  it("several prompts are continued one after the other, and the JSON has the draft's figures", async () => {
    const args = ["-p", "The old sailor", "--json", "--draft-tokens", "3"];
    const { texts: written, draft } = JSON.parse((await drafted(args)).stdout);
    expect(written.map(({ ids }: { ids: number[] }) => ids.length)).toEqual([40, 40]);
    expect(draft).toEqual({
      ...{ steps: expect.any(Number), tokens: expect.any(Number) },
      ...{ proposed: expect.any(Number), accepted: expect.any(Number) },
      ...{ plainMs: expect.any(Number), plainTokensPerSecond: expect.any(Number), speedup: expect.any(Number) },
    });
    expect(draft.proposed).toBeGreaterThan(draft.accepted);
  });

  it("the draft may be the file of an export", async () => {
    const { stdout } = await generate(["-p", "It was"]);
    for (const precision of ["fp32", "q4"]) {
      const args = ["-p", "It was", "--draft", path("draft-onnx"), "--draft-precision", precision];
      expect((await generate(args)).stdout).toBe(stdout);
    }
  });

  it("a note says that the text of a precision with rounded activations may differ", async () => {
    await exported(MODEL, path("int8"), { precisions: ["int8"] });
    const small = ["--draft", path("draft-onnx"), "--draft-precision", "q4"];
    const { code, stderr } = await nfc(["generate", path("int8"), "-p", "It was", "-n", "8", ...small]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^note: int8 rounds activations to 8 bits: where two tokens are nearly as likely, /);
  });

  it("flags that do not go together, a model as its own draft and other tokens are refused in one line", async () => {
    const base = ["generate", path("onnx"), "-p", "It was"];
    expect(await refused([...base, "--draft-tokens", "2"])).toBe("--draft-tokens is for a draft; add --draft FOLDER");
    expect(await refused([...base, "--draft-precision", "q4"])).toBe(
      "--draft-precision is for a draft; add --draft FOLDER",
    );
    expect(await refused([...base, "--draft", MODEL, "--batch-size", "2"])).toBe(
      "--draft continues one prompt at a time; leave out --batch-size",
    );
    expect(await refused(["generate", MODEL, "-p", "a", "--draft", MODEL])).toMatch(
      / is no smaller: \d+ bytes of weights/,
    );
    await writeCheckpoint(path("other"), { vocab: 300 });
    expect(await refused([...base, "--draft", path("other")])).toMatch(/has 300 tokens, .* it cannot draft for it; /);
  });
});

describe("an interrupted nfc generate", () => {
  const long = ["generate", path("onnx"), "-p", "It was", "--ignore-eos", "-n", "60", "--threads", "1"];
  /** SIGINT at the first text. */
  const interruptedRun = (args: readonly string[]) => {
    let fired = false;
    return nfc(args, {
      onStdout: (_, signals) => {
        if (!fired) signals.emit("SIGINT");
        fired = true;
      },
    });
  };

  it("an interruption keeps the text so far, exits with 130 and says so", async () => {
    const { code, stdout, stderr } = await interruptedRun(long);
    expect(code).toBe(130);
    const whole = await nfc(long);
    expect(whole.stdout.startsWith(stdout.slice(0, -1))).toBe(true);
    expect(stdout.length).toBeLessThan(whole.stdout.length);
    expect(stdout.endsWith("\n")).toBe(true);
    expect(stderr).toMatch(/\nnfc: interrupted after \d+ tokens?; the text so far was written\n$/);
  });

  it("an interruption prints the unfinished texts of a batch as well", async () => {
    const args = [
      ...long.slice(0, 2),
      "--echo",
      "-n",
      "40",
      "--batch-size",
      "1",
      ...["-p", "It was", "-p", "The old sailor"],
    ];
    const { code, stdout } = await interruptedRun(args);
    expect(code).toBe(130);
    expect(stdout).toMatch(/\n\nThe old sailor\n$/);
  });
});

describe("refusals of nfc generate", () => {
  it.each<[string, string[], string | RegExp]>([
    ["no prompt", [], 'there is no prompt; give --prompt "…", or pipe text in'],
    ["an empty prompt", ["-p", "a", "-p", ""], 'prompt 2 is empty; give --prompt "…", or pipe text in'],
    ["stdin twice", ["-p", "-", "-p", "-"], "--prompt - is given twice; what is piped in is one prompt"],
    ["two kinds of prompts", ["-p", "a", "--prompts-file", "x"], /^--prompt and --prompts-file do not go together/],
    ["a file that is not there", ["--prompts-file", path("none.txt")], /none\.txt: no such file/],
    ["an unknown precision", ["-p", "a", "--precision", "int3"], /int3.* is invalid: Allowed choices are fp32, fp16/],
    [
      "a precision that is not there",
      ["-p", "a", "--precision", "q4"],
      /has no q4 file; it has fp32; take one of these/,
    ],
    ["noise of an export", ["-p", "a", "--noise", "mean"], /an export has its noise built in; leave out --noise$/],
    ["a seed of greedy text", ["-p", "a", "--seed", "1"], /^--seed has no effect on greedy text; add --temperature/],
    ["an empty stop string", ["-p", "a", "--stop", ""], "--stop is empty; give the text to stop at"],
    ["a top-p above 1", ["-p", "a", "--top-p", "1.5"], /not above 0 and at most 1/],
    ["a negative temperature", ["-p", "a", "--temperature", "-1"], /not a number from 0/],
    ["no tokens to write", ["-p", "a", "-n", "0"], /not a positive integer/],
  ])("nfc generate refuses %s", async (_, args, message) => {
    const line = await refused(["generate", path("onnx"), ...args]);
    if (typeof message === "string") expect(line).toBe(message);
    else expect(line).toMatch(message);
  });

  it("an empty line among prompts is refused by its number", async () => {
    writeFileSync(path("gap.txt"), "a\n\nb\n");
    expect(await refused(["generate", path("onnx"), "--prompts-file", path("gap.txt")])).toBe(
      `${path("gap.txt")}: line 2 is empty; give one prompt a line`,
    );
  });

  it("a model whose logits are not finite is refused by its name", async () => {
    const source = await modelOf("symmetric", path("damaged"));
    await poison(source, "ln_f.weight");
    for (const flags of [[], ["--top-k", "5"]])
      expect(await refused(["generate", source, "-p", "a", ...flags])).toBe(
        `${source}: its logits are not finite; its weights are damaged`,
      );
  });

  it("a folder that holds no model is refused", async () => {
    mkdirSync(path("empty"));
    expect(await refused(["generate", path("empty"), "-p", "a"])).toMatch(/holds no safetensors checkpoint/);
  });
});
