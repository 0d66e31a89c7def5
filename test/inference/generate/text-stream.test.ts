// Text as it comes: characters over several tokens, stop strings over several tokens, and what is held back.
import { describe, expect, it } from "vitest";
import { loadTokenizer, readTokenizer, type Tokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { TextStream } from "../../../src/inference/generate/text-stream.ts";
import type { ModelConfig } from "../../../src/model/config.ts";
import { MODEL } from "../../support/fixture.ts";

/** A token a byte. */
const BYTES: Tokenizer = {
  name: "bytes",
  fingerprint: "bytes",
  size: 256,
  encode: (text) => [...new TextEncoder().encode(text)],
  async *stream(texts) {
    for await (const text of texts) yield BYTES.encode(text);
  },
  decode: (ids) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(ids)),
};

/** What each id brings, and the end; `ids` may be the text to encode. */
function pieces(ids: string | readonly number[], stops: string[] = [], tokenizer = BYTES, prompt: number[] = []) {
  const stream = new TextStream(tokenizer, prompt, stops);
  const list = typeof ids === "string" ? tokenizer.encode(ids) : ids;
  const out = list.map((id) => stream.push(id));
  return { out, end: stream.end(), stopped: stream.stopped };
}

describe("characters of a stream", () => {
  it("a character of several bytes is given whole", () => {
    expect(pieces("aé€😀!")).toEqual({
      out: ["a", "", "é", "", "", "€", "", "", "", "😀", "!"],
      end: "",
      stopped: false,
    });
  });

  it("a character that the text ends within becomes a replacement character", () => {
    expect(pieces([...BYTES.encode("a€").slice(0, 3)])).toMatchObject({ out: ["a", "", ""], end: "\ufffd" });
  });

  it("bytes that cannot complete a character are given as soon as that is known", () => {
    expect(pieces([0xe2, 0x82, 0x61, 0x62]).out).toEqual(["", "", "\ufffda", "b"]);
    // Stray continuation bytes, then text: nothing is lost, nothing comes twice.
    expect(pieces([0x80, 0x80, 0x80, 0x80, 0x80, 0x61, 0x62]).out.join("")).toBe("\ufffd\ufffd\ufffd\ufffd\ufffdab");
    expect(pieces([0x61, 0x80, 0x80]).end).toBe("\ufffd\ufffd");
  });

  it("the replacement character itself is given as a character", () => {
    const { out, end } = pieces("x\ufffd\ufffdy");
    expect(out.join("") + end).toBe("x\ufffd\ufffdy");
  });

  it("characters from the model's tokenizers are given whole", async () => {
    const own = (await readTokenizer(MODEL)) as Tokenizer;
    const gpt2 = await loadTokenizer(null, { vocab_size: 50_257 } as ModelConfig);
    for (const tokenizer of [own, gpt2]) {
      const text = "naïve – 日本語 😀🏳️‍🌈 end\n\tof “text”";
      const { out, end } = pieces(text, [], tokenizer, tokenizer.encode("It was"));
      expect(out.join("") + end).toBe(text);
      expect(out.length).toBeGreaterThan(10);
      for (const piece of out) expect(piece).not.toMatch(/\ufffd/);
    }
  });

  it("an id that only pads the vocabulary gives an empty text", async () => {
    const gpt2 = await loadTokenizer(null, { vocab_size: 50_304 } as ModelConfig);
    expect(pieces([...gpt2.encode("a"), 50_300, ...gpt2.encode(" b")], [], gpt2).out).toEqual(["a", "", " b"]);
  });
});

describe("a tokenizer whose first token reads differently", () => {
  /** Sentencepiece's ▁, which decodes to a space except at the start. */
  const words = ["▁It", "▁was", "▁late", "ly"];
  const metaspace: Tokenizer = {
    ...BYTES,
    size: words.length,
    decode: (ids) =>
      ids
        .map((id) => (words[id] as string).replace("▁", " "))
        .join("")
        .replace(/^ /, ""),
  };

  it("a stream keeps the space after the prompt and between tokens", () => {
    expect(pieces([1, 2, 3], [], metaspace, [0]).out).toEqual([" was", " late", "ly"]);
  });
});

describe("stop strings", () => {
  it("a stop string ends the text before it, also across tokens", () => {
    expect(pieces("one two.\n\nthree", ["\n\n"])).toMatchObject({ stopped: true, end: "" });
    expect(pieces("one two.\n\nthree", ["\n\n"]).out.join("")).toBe("one two.");
  });

  it("a stop string may lie within one token", async () => {
    const own = (await readTokenizer(MODEL)) as Tokenizer;
    const id = own.encode("the").find((token) => own.decode([token]).length > 1) as number;
    const text = own.decode([id]);
    const { out, stopped } = pieces([id, id], [text.slice(1)], own);
    expect({ out, stopped }).toEqual({ out: [text[0], ""], stopped: true });
  });

  it("a stop string holds back only text that may become it, and gives it back", () => {
    expect(pieces("a--b---", ["---"])).toEqual({ out: ["a", "", "", "--b", "", "", ""], end: "", stopped: true });
    expect(pieces("a--", ["---"])).toEqual({ out: ["a", "", ""], end: "--", stopped: false });
    // "aab" begins anew within "aaab".
    expect(pieces("aaab", ["aab"]).out).toEqual(["", "", "a", ""]);
  });

  it("the stop string that comes first in the text counts, whatever the order of the list", () => {
    expect(pieces("xyz", ["z", "y"]).out.join("")).toBe("x");
    expect(pieces("abcd", ["bcd", "c"]).out.join("")).toBe("ab");
  });

  it("a stop string of several bytes is matched as characters", () => {
    expect(pieces("a€b", ["€"])).toMatchObject({ out: ["a", "", "", "", ""], stopped: true });
  });

  it("a stop string is found in what was held back at the end", () => {
    // The unfinished character's replacement completes the stop string.
    expect(pieces([0x61, 0xe2], ["\ufffd"])).toEqual({ out: ["a", ""], end: "", stopped: true });
  });
});
