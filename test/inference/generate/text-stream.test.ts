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
  piecewise: true,
  encode: (text) => [...new TextEncoder().encode(text)],
  decode: (ids) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(ids)),
};

/** What each id brings, and the end; `ids` may be the text to encode. */
function pieces(ids: string | readonly number[], stops: string[] = [], tokenizer = BYTES, prompt: number[] = []) {
  const stream = new TextStream(tokenizer, prompt, stops);
  const list = typeof ids === "string" ? tokenizer.encode(ids) : ids;
  const out = list.map((id) => stream.push(id));
  return { out, end: stream.end(), stopped: stream.stopped };
}

describe("characters", () => {
  it("of several bytes come whole", () => {
    expect(pieces("aé€😀!")).toEqual({
      out: ["a", "", "é", "", "", "€", "", "", "", "😀", "!"],
      end: "",
      stopped: false,
    });
  });

  it("that a text ends within become a replacement character", () => {
    expect(pieces([...BYTES.encode("a€").slice(0, 3)])).toMatchObject({ out: ["a", "", ""], end: "\ufffd" });
  });

  it("that no byte can complete come out once it is known", () => {
    expect(pieces([0xe2, 0x82, 0x61, 0x62]).out).toEqual(["", "", "\ufffda", "b"]);
    // Stray continuation bytes, then text: nothing is lost, nothing comes twice.
    expect(pieces([0x80, 0x80, 0x80, 0x80, 0x80, 0x61, 0x62]).out.join("")).toBe("\ufffd\ufffd\ufffd\ufffd\ufffdab");
    expect(pieces([0x61, 0x80, 0x80]).end).toBe("\ufffd\ufffd");
  });

  it("may be the replacement character itself", () => {
    const { out, end } = pieces("x\ufffd\ufffdy");
    expect(out.join("") + end).toBe("x\ufffd\ufffdy");
  });

  it("of the model's tokenizers come whole", async () => {
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

  it("are unknown for ids that pad a vocabulary", async () => {
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

  it("keeps the space after the prompt and between tokens", () => {
    expect(pieces([1, 2, 3], [], metaspace, [0]).out).toEqual([" was", " late", "ly"]);
  });
});

describe("stop strings", () => {
  it("end the text before them, also across tokens", () => {
    expect(pieces("one two.\n\nthree", ["\n\n"])).toMatchObject({ stopped: true, end: "" });
    expect(pieces("one two.\n\nthree", ["\n\n"]).out.join("")).toBe("one two.");
  });

  it("may lie within one token", async () => {
    const own = (await readTokenizer(MODEL)) as Tokenizer;
    const id = own.encode("the").find((token) => own.decode([token]).length > 1) as number;
    const text = own.decode([id]);
    const { out, stopped } = pieces([id, id], [text.slice(1)], own);
    expect({ out, stopped }).toEqual({ out: [text[0], ""], stopped: true });
  });

  it("hold back only what may become one, and give it back", () => {
    expect(pieces("a--b---", ["---"])).toEqual({ out: ["a", "", "", "--b", "", "", ""], end: "", stopped: true });
    expect(pieces("a--", ["---"])).toEqual({ out: ["a", "", ""], end: "--", stopped: false });
    // "aab" begins anew within "aaab".
    expect(pieces("aaab", ["aab"]).out).toEqual(["", "", "a", ""]);
  });

  it("that come first count, whatever their order", () => {
    expect(pieces("xyz", ["z", "y"]).out.join("")).toBe("x");
    expect(pieces("abcd", ["bcd", "c"]).out.join("")).toBe("ab");
  });

  it("of several bytes are matched as characters", () => {
    expect(pieces("a€b", ["€"])).toMatchObject({ out: ["a", "", "", "", ""], stopped: true });
  });

  it("are found in what was held back at the end", () => {
    // The unfinished character's replacement completes the stop string.
    expect(pieces([0x61, 0xe2], ["\ufffd"])).toEqual({ out: ["a", ""], end: "", stopped: true });
  });
});
