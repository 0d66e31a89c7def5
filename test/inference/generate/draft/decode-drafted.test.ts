// Drafted text on the fixture, with a draft of one of its layers: the model's own text, ends, seeds, what is taken back.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../../../src/checkpoint/tokenizer.ts";
import { Decoder } from "../../../../src/inference/generate/decoder.ts";
import { CachedText } from "../../../../src/inference/generate/draft/cached-text.ts";
import { checkDraft } from "../../../../src/inference/generate/draft/check-draft.ts";
import { decodeDrafted } from "../../../../src/inference/generate/draft/decode-drafted.ts";
import { Pace } from "../../../../src/inference/generate/draft/pace.ts";
import { type DecodeOptions, decodePrompts, type GenerateEvent } from "../../../../src/inference/generate/generate.ts";
import { type GenerateOptions, generate } from "../../../../src/inference/generate/generate-text.ts";
import { failureOf } from "../../../support/failure.ts";
import { converted, MODEL, opened } from "../../../support/fixture.ts";
import { writeCheckpoint } from "../../../support/make-checkpoint.ts";
import { TABLE_VOCABULARY, tableDecoder, tableLogits } from "../../../support/table-model.ts";
import { temporaryFolder } from "../../../support/temp-folder.ts";

const path = temporaryFolder("draft");
let model: Decoder;
let draft: Decoder;
let tokenizer: Tokenizer;
let prompts: number[][];

beforeAll(async () => {
  await converted({ output: path("cut"), variant: "dense", layers: [1] });
  const open = (source: string) => opened(source, (checkpoint) => Decoder.ofCheckpoint(checkpoint, { threads: 1 }));
  [model, draft] = [await open(MODEL), await open(path("cut"))];
  tokenizer = await loadTokenizer(MODEL, model.config);
  prompts = ["The old sailor", "It was", "In the morning the girl"].map((text) => tokenizer.encode(text));
});
afterAll(() => Promise.all([model.close(), draft.close()]));

async function collect(events: AsyncIterable<GenerateEvent>): Promise<GenerateEvent[]> {
  const all: GenerateEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const alone = (options: DecodeOptions, texts = prompts) =>
  collect(decodePrompts(model, tokenizer, texts, { ...options, batchSize: 1 }));

const drafted = (options: DecodeOptions, fixed: number | null, texts = prompts, pace = makePace(fixed, options)) =>
  collect(decodeDrafted({ model, draft, pace }, tokenizer, texts, options));

const makePace = (fixed: number | null, { temperature, topK }: DecodeOptions) =>
  new Pace({ fixed, greedy: temperature === undefined && topK === undefined });

describe("greedy text with a draft", () => {
  it.each<[string, DecodeOptions]>([
    ["to its limit", { maxNewTokens: 40 }],
    ["until the positions are full", { maxNewTokens: 100 }],
    ["with a repetition penalty", { maxNewTokens: 40, repetitionPenalty: 1.5 }],
    ["of one token", { maxNewTokens: 1 }],
  ])("greedy text %s is that without the draft, token for token", async (_, options) => {
    const expected = await alone(options);
    for (const fixed of [1, 3, 8, null]) expect(await drafted(options, fixed)).toEqual(expected);
  });

  it("greedy text ends at the same end tokens and stop strings", async () => {
    const whole = await alone({ maxNewTokens: 30 }, [prompts[0] as number[]]);
    const text = whole.map((event) => event.text).join("");
    const cases = [
      { end: [whole[17]?.id as number] },
      { stop: [text.slice(20, 27)] },
      { stop: [`${text.slice(-3)}\u0000`] },
    ];
    for (const more of cases) {
      const options = { maxNewTokens: 30, ...more };
      expect(await drafted(options, 3)).toEqual(await alone(options));
    }
  });

  it("proposals of the draft were kept and others were taken back: the equality is of both", async () => {
    const pace = new Pace({ fixed: 3, greedy: true });
    await drafted({ maxNewTokens: 60 }, 3, prompts, pace);
    const { proposed, accepted } = pace.summary;
    expect(accepted).toBeGreaterThan(5);
    expect(proposed - accepted).toBeGreaterThan(5);
  });
});

describe("drawn text with a draft", () => {
  it("a seed gives one text, however many tokens are drafted at a time", async () => {
    const options = { maxNewTokens: 40, temperature: 0.9, topK: 30, repetitionPenalty: 1.1, seed: 4 };
    const first = await drafted(options, 1);
    for (const fixed of [2, 5, null]) expect(await drafted(options, fixed)).toEqual(first);
    expect(await drafted({ ...options, seed: 5 }, 2)).not.toEqual(first);
  });

  it("drawn text goes on past the positions of the draft", async () => {
    const runs: { past: number; ids: number[] }[] = [];
    const small = tableDecoder(2, { positions: 6, runs });
    const large = tableDecoder(1, { positions: 20 });
    const text = { ...tokenizer, size: TABLE_VOCABULARY };
    for (const temperature of [undefined, 1]) {
      const options: DecodeOptions = { temperature, maxNewTokens: 40, seed: 1 };
      const pace = new Pace({ fixed: 4, greedy: temperature === undefined });
      const events = await collect(decodeDrafted({ model: large, draft: small, pace }, text, [[1, 2]], options));
      expect({ count: events.length, finish: events.at(-1)?.finish }).toEqual({ count: 18, finish: "positions" });
    }
    expect(Math.max(...runs.map(({ past, ids }) => past + ids.length))).toBe(6);
  });

  it("drawn text with top-k 1 is greedy text", async () => {
    const ids = (events: GenerateEvent[]) => events.map(({ id }) => id);
    expect(ids(await drafted({ maxNewTokens: 30, topK: 1 }, 3))).toEqual(ids(await alone({ maxNewTokens: 30 })));
  });
});

describe("interrupts and prompts that do not fit", () => {
  it("an interrupt ends the text between two passes", async () => {
    const controller = new AbortController();
    const options = { maxNewTokens: 60, signal: controller.signal };
    const events: GenerateEvent[] = [];
    const pace = new Pace({ fixed: 3, greedy: true });
    for await (const event of decodeDrafted({ model, draft, pace }, tokenizer, [prompts[0] as number[]], options)) {
      events.push(event);
      if (events.length === 10) controller.abort();
    }
    expect(events.at(-1)).toMatchObject({ id: null, finish: "interrupted" });
    expect(events.length).toBeLessThan(10 + 3 + 2);
  });

  it("a prompt without room is refused", async () => {
    expect(await failureOf(() => drafted({}, 1, [Array(64).fill(5)]))).toMatchObject({ code: "usage" });
  });
});

describe("the cache of a text that changes", () => {
  const texts = [
    [1, 2],
    [1, 2, 3, 0, 1],
    [1, 2, 3, 3],
    [1, 2, 3, 3, 2, 1],
    [1, 2, 0],
  ];

  it("only what has changed runs, and the logits are those of the whole text", async () => {
    const runs: { past: number; ids: number[] }[] = [];
    const cached = new CachedText(tableDecoder(5, { runs }));
    for (const ids of texts) {
      const [logits] = await cached.run(ids, 1);
      expect(Array.from(logits as Float32Array)).toEqual(Array.from(Float32Array.from(tableLogits(5, ids))));
    }
    expect(runs.map(({ past }) => past)).toEqual([0, 2, 3, 4, 2]);
    expect(runs.map(({ ids }) => ids)).toEqual([[1, 2], [3, 0, 1], [3], [2, 1], [0]]);
  });

  it("logits of the last tokens are computed again where the cache has them all", async () => {
    const cached = new CachedText(tableDecoder(5));
    await cached.run([1, 2, 3], 1);
    const logits = await cached.run([1, 2, 3], 2);
    expect(logits.map((row) => Array.from(row))).toEqual(
      [
        [1, 2],
        [1, 2, 3],
      ].map((ids) => Array.from(Float32Array.from(tableLogits(5, ids)))),
    );
  });

  it("the fixture's logits after a rejection are those of the text alone", async () => {
    const cached = new CachedText(draft);
    const [prompt] = prompts as [number[]];
    await cached.run(prompt, 1);
    await cached.run([...prompt, 9, 10, 11, 12], 5);
    const rows = await cached.run([...prompt, 9, 20, 21], 3);
    const whole = await new CachedText(draft).run([...prompt, 9, 20, 21], 1);
    const difference = rows[2]?.map((value, i) => Math.abs(value - (whole[0]?.[i] as number))) ?? [1];
    expect(Math.max(...difference)).toBeLessThan(1e-4);
  });
});

describe("generate with a draft", () => {
  const textOf = async (options: Partial<GenerateOptions>) =>
    opened(MODEL, async (checkpoint) => {
      const events = await collect(
        generate(checkpoint, { prompts: ["It was"], maxNewTokens: 20, threads: 1, ...options }),
      );
      return events.map(({ text }) => text).join("");
    });

  it("the library's generate takes an open checkpoint as a draft, and refuses it beside drawn noise", async () => {
    const expected = await textOf({});
    await opened(path("cut"), async (small) => {
      for (const draftTokens of [undefined, 2]) expect(await textOf({ draft: small, draftTokens })).toBe(expected);
      const noise = { kind: "generated" as const, seed: 1 };
      expect(await failureOf(() => textOf({ draft: small, noise }))).toMatchObject({ code: "usage" });
    });
    await opened(MODEL, async (same) => {
      expect(await failureOf(() => textOf({ draft: same }))).toMatchObject({ code: "mismatch" });
    });
  });
});

describe("drafts that do not fit", () => {
  const describeModel = (folder: string, bytes: number) =>
    opened(folder, ({ source, config, folder: own }) => ({ source, config, folder: own, bytes }));

  it("a draft of another vocabulary, with another token, or no smaller than the model is refused", async () => {
    const own = await describeModel(MODEL, 100);
    await writeCheckpoint(path("other"), { vocab: 300 });
    const other = await describeModel(path("other"), 10);
    expect(await failureOf(() => checkDraft(own, other))).toMatchObject({
      code: "mismatch",
      message: `${path("other")}: has 300 tokens, ${MODEL} has ${own.config.vocab_size}: it cannot draft for it`,
    });
    expect(await failureOf(() => checkDraft(own, { ...own, source: "same" }))).toMatchObject({
      code: "mismatch",
      message: "same: is no smaller: 100 bytes of weights against the model's 100; a draft pays by being cheaper",
    });
    await checkDraft(own, await describeModel(path("cut"), 60));
  });
});
