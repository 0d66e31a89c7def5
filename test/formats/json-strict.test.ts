// The strict JSON walker: what it accepts is JSON, and everything else gets a message with a position.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeUtf8, JsonCursor } from "../../src/formats/json-strict.ts";
import { failureOf } from "../support/failure.ts";

function accepts(text: string): void {
  const cursor = new JsonCursor(text, "text");
  cursor.skip();
  cursor.end();
}

/** Builds the value, to compare it with JSON.parse. */
function read(cursor: JsonCursor): unknown {
  const kind = cursor.kind();
  if (kind === "string") return cursor.string();
  if (kind === "number") return Number(cursor.number());
  if (kind === "array") {
    const items: unknown[] = [];
    cursor.array(() => items.push(read(cursor)));
    return items;
  }
  if (kind !== "object") {
    cursor.skip();
    return kind;
  }
  const members: [string, unknown][] = [];
  cursor.object((key) => members.push([key, read(cursor)]));
  return Object.fromEntries(members);
}

describe("strict JSON", () => {
  it("a strict JSON text is read as JSON.parse reads it", () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: "grapheme" }), fc.constantFrom("", " \t"), (value, indent) => {
        const text = JSON.stringify(value, undefined, indent);
        expect(read(new JsonCursor(text, "text"))).toEqual(nullsAsKind(JSON.parse(text)));
      }),
    );
  });

  it("a text is accepted exactly when JSON.parse accepts it", () => {
    const piece = fc.constantFrom(
      ...'{}[],:"\\ntrufalse-+.eE0123456789 \t\u0000\u00e9'.split(""),
      "null",
      "true",
      '"a"',
      "1e5",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join("");
        expect(outcome(() => accepts(text))).toBe(outcome(() => JSON.parse(text)));
      }),
      { numRuns: 3000 },
    );
  });

  it("duplicate keys stay visible", () => {
    const keys: string[] = [];
    const cursor = new JsonCursor('{"a": 1, "a": 2}', "text");
    cursor.object((key) => {
      keys.push(key);
      cursor.skip();
    });
    expect(keys).toEqual(["a", "a"]);
  });

  it("every digit of a number is kept", () => {
    expect(new JsonCursor("9007199254740993", "text").number()).toBe("9007199254740993");
  });

  it("escapes and surrogate pairs are resolved", () => {
    expect(new JsonCursor('"\\u00e9\\n\\/\\"\\\\\\ud83d\\ude00"', "text").string()).toBe('é\n/"\\😀');
  });
});

function nullsAsKind(value: unknown): unknown {
  if (value === null) return "null";
  if (typeof value === "boolean") return "boolean";
  if (Array.isArray(value)) return value.map(nullsAsKind);
  if (typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, nullsAsKind(item)]));
}

function outcome(call: () => unknown): string {
  try {
    call();
    return "accepted";
  } catch {
    return "refused";
  }
}

describe("malformed JSON", () => {
  const cases: [string, string, string][] = [
    ["a lone high surrogate", '"\\ud800"', "a lone surrogate in a string"],
    ["a lone low surrogate", '"\\udc00"', "a lone surrogate in a string"],
    ["a high surrogate before an ordinary escape", '"\\ud800\\u0041"', "a lone surrogate in a string"],
    ["an unknown escape", '"\\x"', "unknown escape in a string"],
    ["a short \\u escape", '"\\u12"', "\\u needs four hexadecimal digits"],
    ["a raw line break in a string", '"a\nb"', "a control character stands unescaped in a string"],
    ["a string without an end", '"abc', "a string does not end"],
    ["a trailing comma", "[1,]", "expected a value"],
    ["a key without quotes", "{a: 1}", "expected a key in quotes"],
    ["a missing colon", '{"a" 1}', 'expected ":"'],
    ["a missing comma", "[1 2]", 'expected "," or "]"'],
    ["a leading zero", "01", "a number starts with 0"],
    ["a minus alone", "-", "expected a digit"],
    ["a misspelled word", "nul", "expected a value"],
    ["an empty text", "", "expected a value"],
    ["text after the end", "{} x", "something follows the closing bracket"],
    ["an array that never closes", "[[[", "expected a value"],
  ];
  for (const [name, text, fact] of cases) {
    it(`a malformed text is refused: ${name}`, async () => {
      const fault = await failureOf(() => accepts(text));
      expect(fault.code).toBe("invalid-file");
      expect(fault.message).toMatch(/^text is not valid JSON: .* at character \d+$/);
      expect(fault.message).toContain(fact);
    });
  }

  it("a text nested too deeply is refused before the stack overflows", async () => {
    const fault = await failureOf(() => accepts("[".repeat(1_000_000)));
    expect(fault.message).toBe("text is not valid JSON: nested deeper than 128 levels at character 129");
  });

  it("a text may be nested 128 deep, as in the reference", () => {
    expect(() => accepts("[".repeat(128) + "]".repeat(128))).not.toThrow();
  });

  it("a number of millions of digits is read", () => {
    expect(new JsonCursor("1".repeat(5_000_000), "text").number()).toHaveLength(5_000_000);
  });
});

describe("the text of a header", () => {
  it("decodeUtf8 refuses a byte order mark", async () => {
    const fault = await failureOf(() => decodeUtf8(Uint8Array.of(0xef, 0xbb, 0xbf, 0x7b), "x: the header"));
    expect(fault.message).toBe("x: the header starts with a byte order mark");
  });

  it("decodeUtf8 refuses malformed UTF-8", async () => {
    const fault = await failureOf(() => decodeUtf8(Uint8Array.of(0x22, 0xc3, 0x28), "x: the header"));
    expect(fault.message).toBe("x: the header is not valid UTF-8");
  });
});
