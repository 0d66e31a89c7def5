// Names from files: what a terminal, JSON, Markdown or a page would obey is escaped by each, and nothing else.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { escapeJson, escapeTerminal, formatCommand, quoteUntrusted } from "../../src/io/printable.ts";
import { escapeHtml } from "../../src/report/render/html.ts";
import { escapeMarkdown, formatCode } from "../../src/report/render/markdown.ts";

const TARGETS = { escapeTerminal, escapeJson, quoteUntrusted, escapeHtml, escapeMarkdown, formatCode };

const HOSTILE: readonly (readonly [string, string])[] = [
  ["escape", "\u001b"],
  ["carriage return", "\r"],
  ["delete", "\u007f"],
  ["C1 control", "\u009b"],
  ["soft hyphen", "\u00ad"],
  ["zero-width space", "\u200b"],
  ["left-to-right mark", "\u200e"],
  ["right-to-left override", "\u202e"],
  ["isolate", "\u2066"],
  ["Arabic letter mark", "\u061c"],
  ["line separator", "\u2028"],
  ["paragraph separator", "\u2029"],
  ["byte order mark", "\ufeff"],
  ["tag", "\u{e0041}"],
  ["lone surrogate", "\ud800"],
];

describe.each(Object.entries(TARGETS))("untrusted text through %s", (name, neutralize) => {
  test.each(HOSTILE)("the character %s is not passed on", (_name, character) => {
    const text = neutralize(`a${character}b`);
    expect(text).not.toContain(character);
    expect(text).toMatch(/a.+b/);
  });

  test("other scripts are left as they are", () => {
    expect(neutralize("модель/模型/ä/𝛍")).toContain("модель/模型/ä/𝛍");
  });

  test.each([
    ["a Persian word", "می\u200cخواهم"],
    ["an emoji", "\u{1f469}\u200d\u{1f680}"],
  ])("the zero-width joiners of %s stay as they are", (_name, text) => {
    expect(neutralize(text)).toContain(text);
  });

  test("no unprintable character of any text is passed on, but for the tab and line break of a page", () => {
    const allowed = name === "escapeHtml" ? "[\u200c\u200d\t\n]" : "[\u200c\u200d]";
    const unprintable = new RegExp(`(?!${allowed})[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\p{Cs}]`, "u");
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => !unprintable.test(neutralize(text))));
  });
});

test("a terminal sees code points", () => {
  expect(escapeTerminal("a\u001b[2Jb\nc\u202ed\u{e0041}")).toBe("a\\u{1b}[2Jb\\u{a}c\\u{202e}d\\u{e0041}");
});

describe("untrusted text as JSON", () => {
  test("the JSON of a hostile name stays on one line and away from the terminal", () => {
    expect(quoteUntrusted('a\n\u001b[31m"\u2028\u009b\u202e')).toBe('"a\\n\\u001b[31m\\"\\u2028\\u009b\\u202e"');
  });

  test("the JSON of any text is read back as the same text", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => JSON.parse(escapeJson({ text })).text === text));
  });

  test("the JSON of a long name is shortened", () => {
    expect(quoteUntrusted("x".repeat(10_000))).toBe(`"${"x".repeat(120)}…"`);
  });
});

describe("command lines for readers", () => {
  test("a command line quotes every character that a shell would interpret", () => {
    expect(formatCommand(["nfc", "convert", "my model", "-o", "it's", "$HOME", ""])).toBe(
      "nfc convert 'my model' -o 'it'\\''s' '$HOME' ''",
    );
  });
});
