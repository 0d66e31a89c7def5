// Models of fewer tokens beside their sources: scores on the same tokens, teachers, caches, and what is refused.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { KeptIds } from "../../../src/checkpoint/kept-ids.ts";
import { matchTokens } from "../../../src/checkpoint/match-tokens.ts";
import { selectTokens } from "../../../src/checkpoint/select-tokens.ts";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { fingerprintModel } from "../../../src/distill/run-identity.ts";
import { train } from "../../../src/distill/train.ts";
import { evaluate } from "../../../src/inference/score/evaluate.ts";
import { converted, MODEL, opened, TEXT } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("cut-vocabulary");
const LENGTH = 32;

async function cut(name: string, text: string, size: number): Promise<void> {
  writeFileSync(path(`${name}.txt`), text);
  const vocabulary = { text: [path(`${name}.txt`)] as [string], size };
  await converted({ output: path(name), variant: "dense", vocabulary });
}

beforeAll(async () => {
  const text = readFileSync(TEXT, "utf8");
  await cut("cut", text, 300);
  const tokens = Object.keys(JSON.parse(readFileSync(join(MODEL, "tokenizer.json"), "utf8")).model.vocab);
  await cut("other", tokens.slice(350).join(" ").replaceAll("Ġ", " "), 300);
  writeFileSync(path("short.txt"), text.slice(0, 2500));
});

/** Opens the model that has only some tokens, and its source. */
const both = <T>(use: (student: Checkpoint, source: Checkpoint) => Promise<T>, name = "cut") =>
  opened(path(name), (student) => opened(MODEL, (source) => use(student, source)));

describe("a model of fewer tokens, compared with its source", () => {
  it("has the source's own probabilities among its tokens, and its bits per byte count the text's bytes", async () => {
    await both(async (student, source) => {
      const text = [path("short.txt")];
      const result = await evaluate(student, { text, against: source, length: LENGTH, threads: 1 });
      expect(result.against?.perplexity).toBeCloseTo(result.perplexity, 6);
      expect(result.against?.kl).toBeCloseTo(0, 6);
      expect(result.against).toMatchObject({ agreement: 1, among: 300 });
      const ids = (await loadTokenizer(student.folder, student.config)).encode(readFileSync(path("short.txt"), "utf8"));
      expect(result.bitsPerByte).toBeCloseTo((result.nll * ids.length) / (2500 * Math.LN2), 9);
      const own = await evaluate(source, { text, length: LENGTH, threads: 1 });
      expect(own.tokens).toBeLessThan(result.tokens);
      expect(own.against).toBeUndefined();
      expect(own.bitsPerByte).toBeLessThan(result.bitsPerByte as number);
    });
  });

  it("has no bits per byte where the text comes as ids", async () => {
    await opened(MODEL, async (source) => {
      const tokens = (async function* () {
        yield Array.from({ length: 40 }, (_, i) => i);
      })();
      expect(await evaluate(source, { tokens, threads: 1 })).not.toHaveProperty("bitsPerByte");
    });
  });

  it("learns from the source's distribution among its tokens", async () => {
    await both(async (student, teacher) => {
      const settings = {
        steps: 2,
        batchSize: 2,
        length: LENGTH,
        lr: 1e-9,
        transferSteps: 0,
        evalTokens: 256,
        kd: 1,
      } as const;
      for (const cacheTeacher of [0, 8]) {
        const result = await train(student, {
          output: path(`distilled-${cacheTeacher}`),
          data: [TEXT],
          teacher,
          settings: { ...settings, cacheTeacher },
          cache: path("cache"),
          session: { threads: 1 },
        });
        expect(result.perplexity.teacher).toBeCloseTo(result.perplexity.before, 6);
      }
      await opened(path("distilled-0"), async (model) => {
        expect(model.record?.cuts).toEqual(student.record?.cuts);
        expect(await matchTokens(model, student)).toBe(student);
      });
    });
  });
});

describe("the tokens of two models", () => {
  it("are told apart by name, where the numbers are the same", async () => {
    await both(async (student, source) => {
      await opened(path("other"), async (other) => {
        await expect(matchTokens(student, other)).rejects.toThrow(
          /^token \d+ of \S+cut is ".+", and its place \d+ in \S+other has "/,
        );
        await expect(evaluate(student, { text: [TEXT], against: other })).rejects.toThrow(/^token \d+/);
      });
      await expect(matchTokens(source, student)).rejects.toThrow(
        /cut has kept only 300 of the 384 tokens of \S+tiny-gpt2/,
      );
      expect(await matchTokens(source, source)).toBe(source);
    });
  });

  it("are those of the record, and of no other model", async () => {
    await both(async (student, source) => {
      const swapped = path("swapped");
      cpSync(MODEL, swapped, { recursive: true });
      const json = JSON.parse(readFileSync(join(MODEL, "tokenizer.json"), "utf8"));
      const { vocab } = json.model;
      [vocab["!"], vocab['"']] = [vocab['"'], vocab["!"]];
      writeFileSync(join(swapped, "tokenizer.json"), JSON.stringify(json));
      await opened(swapped, async (other) => {
        await expect(matchTokens(student, other)).rejects.toThrow(
          /^token 34 of \S+cut is "!", and its place 34 in \S+swapped has/,
        );
      });
      const small = selectTokens(source, new KeptIds([0, 1, 2]));
      await expect(matchTokens(student, { ...small, record: null })).rejects.toThrow(
        "has kept other tokens than the 3 of",
      );
    });
  });

  it("are part of a teacher's fingerprint", async () => {
    await opened(MODEL, async (source) => {
      const prints = [
        [0, 1],
        [0, 2],
      ].map((ids) => fingerprintModel(selectTokens(source, new KeptIds(ids)), undefined));
      const [a, b] = await Promise.all(prints);
      expect(a).not.toBe(b);
    });
  });
});
