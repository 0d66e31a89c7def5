// Generation on the fixture: what each event says, where texts end, batches, seeds, interrupts, end tokens.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { Decoder } from "../../../src/inference/generate/decoder.ts";
import { readEndTokens } from "../../../src/inference/generate/end-tokens.ts";
import { type DecodeOptions, decodePrompts, type GenerateEvent } from "../../../src/inference/generate/generate.ts";
import { encodePrompt } from "../../../src/inference/generate/prompt-ids.ts";
import type { ModelConfig } from "../../../src/model/config.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL, opened } from "../../support/fixture.ts";
import { greedy } from "../../support/greedy.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("generate");
const TEXTS = ["The old sailor", "It was", "In the morning the girl"];
let decoder: Decoder;
let tokenizer: Tokenizer;
let prompts: number[][];

beforeAll(async () => {
  decoder = await opened(MODEL, (checkpoint) => Decoder.ofCheckpoint(checkpoint, { threads: 1 }));
  tokenizer = await loadTokenizer(MODEL, decoder.config);
  prompts = TEXTS.map((text) => tokenizer.encode(text));
});
afterAll(() => decoder.close());

async function eventsOf(given: readonly (readonly number[])[], options: DecodeOptions): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = [];
  for await (const event of decodePrompts(decoder, tokenizer, given, options)) events.push(event);
  return events;
}

/** Ids, text and ending of each prompt. */
async function textsOf(given: readonly (readonly number[])[], options: DecodeOptions) {
  const events = await eventsOf(given, options);
  return given.map((_, row) => {
    const own = events.filter((event) => event.row === row);
    expect(own.slice(0, -1).every(({ finish }) => finish === null)).toBe(true);
    return {
      ids: own.flatMap(({ id }) => (id === null ? [] : [id])),
      text: own.map(({ text }) => text).join(""),
      finish: own.at(-1)?.finish,
    };
  });
}

const only = async (prompt: readonly number[], options: DecodeOptions) => (await textsOf([prompt], options))[0];

describe("generating greedily", () => {
  it("greedy text is the decoder's, with one event per token", async () => {
    const [ids = []] = await greedy(decoder, [prompts[0] as number[]], 12);
    const events = await eventsOf([prompts[0] as number[]], { maxNewTokens: 12 });
    expect(events.map(({ id }) => id)).toEqual(ids);
    expect(events.map(({ text }) => text).join("")).toBe(tokenizer.decode(ids));
    expect(events.map(({ finish }) => finish)).toEqual([...Array(11).fill(null), "length"]);
  });

  it("greedy text of one or several batches is that of single prompts", async () => {
    const single = [];
    for (const prompt of prompts) single.push(await only(prompt, { maxNewTokens: 10 }));
    for (const batchSize of [1, 2, 3]) expect(await textsOf(prompts, { maxNewTokens: 10, batchSize })).toEqual(single);
  });
});

describe("ends of a text", () => {
  it("a text ends at an end token, which is among the ids but not in the text", async () => {
    const whole = await only(prompts[0] as number[], { maxNewTokens: 12 });
    const end = whole?.ids[5] as number;
    const at = whole?.ids.indexOf(end) as number;
    const { ids, text, finish } = (await only(prompts[0] as number[], { end: [9999, end] })) ?? {};
    expect({ ids, finish }).toEqual({ ids: whole?.ids.slice(0, at + 1), finish: "end" });
    expect(text).toBe(tokenizer.decode(whole?.ids.slice(0, at) as number[]));
  });

  it("a text ends before a stop string, wherever its tokens are cut", async () => {
    const whole = (await only(prompts[0] as number[], { maxNewTokens: 20 }))?.text as string;
    for (const from of [3, 5, 8]) {
      const stop = whole.slice(from, from + 6);
      const { text, finish } = (await only(prompts[0] as number[], { maxNewTokens: 40, stop: ["\u0000", stop] })) ?? {};
      expect({ text, finish }).toEqual({ text: whole.slice(0, whole.indexOf(stop)), finish: "stop" });
    }
  });

  it("a text includes what a stop string held back when another limit comes first", async () => {
    const whole = (await only(prompts[0] as number[], { maxNewTokens: 6 }))?.text as string;
    const stop = `${whole.slice(-2)}\u0000`;
    expect(await only(prompts[0] as number[], { maxNewTokens: 6, stop: [stop] })).toMatchObject({
      text: whole,
      finish: "length",
    });
  });

  it("a text ends when the model's 64 positions are full", async () => {
    const prompt = tokenizer.encode("a b c d e f g h i j k l m n o p q r s t u v w x y z a b").slice(0, 50);
    const { ids, finish } = (await only(prompt, { maxNewTokens: 40 })) ?? {};
    expect({ count: ids?.length, finish }).toEqual({ count: 64 - prompt.length, finish: "positions" });
    expect(await only(prompt, { maxNewTokens: 64 - prompt.length })).toMatchObject({ finish: "length" });
  });

  it("each text of a batch ends on its own", async () => {
    const long = Array.from({ length: 60 }, (_, i) => 3 + i);
    const batch = [long, prompts[1] as number[], prompts[2] as number[]];
    const single = [];
    for (const prompt of batch) single.push(await only(prompt, { maxNewTokens: 20 }));
    expect(single.map((text) => text?.ids.length)).toEqual([4, 20, 20]);
    expect(await textsOf(batch, { maxNewTokens: 20 })).toEqual(single);
  });
});

describe("sampling text", () => {
  it("sampled text follows from the seed and the number of the prompt, whatever the batches", async () => {
    const options = { temperature: 1.2, topK: 50, maxNewTokens: 12, seed: 5 };
    const same = [prompts[0], prompts[0], prompts[0]] as number[][];
    const first = await textsOf(same, options);
    expect(await textsOf(same, { ...options, batchSize: 1 })).toEqual(first);
    expect(new Set(first.map(({ text }) => text)).size).toBe(3);
    expect((await textsOf(same, { ...options, seed: 6 }))[0]).not.toEqual(first[0]);
  });

  it("sampled text with top-k 1 is greedy text", async () => {
    const greedily = await only(prompts[1] as number[], { maxNewTokens: 12 });
    expect(await only(prompts[1] as number[], { maxNewTokens: 12, topK: 1, temperature: 3 })).toEqual(greedily);
  });

  it("sampled text repeats less under a repetition penalty", async () => {
    const plain = await only(prompts[0] as number[], { maxNewTokens: 40 });
    const penalized = await only(prompts[0] as number[], { maxNewTokens: 40, repetitionPenalty: 5 });
    expect(new Set(penalized?.ids).size).toBeGreaterThan(new Set(plain?.ids).size);
  });
});

describe("interrupting generation", () => {
  it("an interrupt ends unfinished texts, also of batches to come, and gives what was held back", async () => {
    const controller = new AbortController();
    const whole = (await only(prompts[0] as number[], { maxNewTokens: 4 }))?.text as string;
    const events: GenerateEvent[] = [];
    const options = { stop: [`${whole}\u0000`], batchSize: 2, signal: controller.signal };
    for await (const event of decodePrompts(decoder, tokenizer, prompts, options)) {
      events.push(event);
      if (event.row === 0 && events.filter(({ row }) => row === 0).length === 4) controller.abort();
    }
    const last = events.slice(-3);
    expect(last.map(({ row, id, finish }) => ({ row, id, finish }))).toEqual(
      [0, 1, 2].map((row) => ({ row, id: null, finish: "interrupted" })),
    );
    const texts = events.filter(({ row }) => row === 0).map(({ text }) => text);
    expect(texts).toEqual(["", "", "", "", whole]);
  });
});

describe("prompts that do not fit", () => {
  it("a prompt without tokens or without room is refused before anything runs", async () => {
    const full = Array<number>(64).fill(5);
    expect(await failureOf(() => eventsOf([[1], []], {}))).toMatchObject({
      code: "usage",
      message: "prompt 2 is empty",
    });
    expect(await failureOf(() => eventsOf([full], {}))).toMatchObject({
      code: "usage",
      message: "prompt 1 has 64 tokens, and the model takes at most 63",
      hint: "shorten it, or keep its end with --truncate",
    });
    expect(await only(full.slice(1), {})).toMatchObject({ finish: "positions" });
  });

  it("a prompt is cut to its end when room is reserved, and never to nothing", () => {
    const text =
      "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m n o p q r s t u v w x y z";
    const ids = tokenizer.encode(text);
    expect(ids.length).toBeGreaterThan(64);
    const cut = (reserved: number) => encodePrompt(text, tokenizer, decoder.config, { name: "p", reserved });
    expect(cut(20)).toEqual(ids.slice(-44));
    expect(cut(64)).toEqual(ids.slice(-1));
    expect(cut(1000)).toEqual(ids.slice(-1));
    expect(encodePrompt("It was", tokenizer, decoder.config, { name: "p", reserved: 20 })).toEqual(prompts[1]);
  });
});

describe("end tokens", () => {
  const config = { eos_token_id: 7 } as ModelConfig;
  let count = 0;
  const folder = (generation?: unknown) => {
    const name = path(`g${count++}`);
    mkdirSync(name);
    if (generation !== undefined) writeFileSync(join(name, "generation_config.json"), JSON.stringify(generation));
    return name;
  };

  it.each<[string, unknown, Record<string, unknown>, number[]]>([
    ["generation_config.json", { eos_token_id: 5 }, { eos_token_id: 6 }, [5]],
    ["a list in generation_config.json", { eos_token_id: [5, 9] }, { eos_token_id: 6 }, [5, 9]],
    ["config.json where there is no generation_config.json", undefined, { eos_token_id: 6 }, [6]],
    ["config.json where generation_config.json is silent", { eos_token_id: null }, { eos_token_id: [6, 8] }, [6, 8]],
    ["the model's configuration where both files are silent", {}, {}, [7]],
  ])("the end tokens are those of %s", async (_, generation, rawConfig, expected) => {
    expect(await readEndTokens({ folder: folder(generation), config, rawConfig })).toEqual(expected);
  });

  it("a model that names no end tokens has none, and needs no folder", async () => {
    expect(await readEndTokens({ folder: null, config: {} as ModelConfig, rawConfig: {} })).toEqual([]);
  });

  it.each([["x"], [[1, "x"]], [1.5]])("end tokens of the wrong kind are refused: %j", async (eos_token_id) => {
    const name = folder({ eos_token_id });
    const { code, message } = await failureOf(() => readEndTokens({ folder: name, config, rawConfig: {} }));
    expect(code).toBe("invalid-file");
    expect(message).toContain(join(name, "generation_config.json"));
  });
});
