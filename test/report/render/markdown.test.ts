// Blocks as Markdown: what each becomes, and names that try to break out.
import { describe, expect, test } from "vitest";
import { group, heading, list, notes, paragraph } from "../../../src/report/render/blocks.ts";
import { escapeMarkdown, formatCode, renderMarkdown } from "../../../src/report/render/markdown.ts";

describe("blocks", () => {
  test("have a blank line between them, in groups as well; empty ones leave no trace", () => {
    const blocks = [
      heading(2, ["From ", { code: "a" }]),
      group(paragraph("a < b ", { strong: "c_d" }), list(["one", [{ code: "two" }]])),
      list([]),
      notes(["three"]),
      { kind: "code", language: "sh", lines: ["echo <a>"] } as const,
    ];
    expect(renderMarkdown(blocks)).toBe(
      "## From `a`\n\na &lt; b **c\\_d**\n\n- one\n- `two`\n\n- three\n\n```sh\necho <a>\n```\n",
    );
  });

  test("tables have their alignment below the heading, and keep the spaces that indent a label", () => {
    const rows = [
      ["  part", "1"],
      [{ strong: "total" }, { strong: "" }],
    ];
    expect(renderMarkdown([{ kind: "table", heading: ["name", "n"], rows, align: "lr", footRows: 1 }])).toBe(
      "| name | n |\n| --- | ---: |\n| &nbsp;&nbsp;part | 1 |\n| **total** |  |\n",
    );
  });
});

describe("inline code", () => {
  test("is between backticks for plain names", () => {
    expect(formatCode("transformer.h.0/attn_c (1) *<b>*")).toBe("`transformer.h.0/attn_c (1) *<b>*`");
  });

  test.each([
    ["a`b", "<code>a&#96;b</code>"],
    ["a|b", "<code>a&#124;b</code>"],
    ["a\\|b", "<code>a&#92;&#124;b</code>"],
    [" a", "<code> a</code>"],
    ["", "<code></code>"],
    ["`</code><script>", "<code>&#96;&#60;/code&#62;&#60;script&#62;</code>"],
    ["a\nb", "<code>a&#92;u&#123;a&#125;b</code>"],
  ])("of %j is %j", (name, expected) => {
    expect(formatCode(name)).toBe(expected);
  });
});

describe("text", () => {
  test("loses its meaning to Markdown, HTML and mentions", () => {
    expect(escapeMarkdown("a|b `c` <img> **d** [e](f) #1 @team")).toBe(
      "a\\|b \\`c\\` &lt;img&gt; \\*\\*d\\*\\* \\[e\\](f) \\#1 `@`team",
    );
  });

  test("stays in its line", () => {
    expect(escapeMarkdown("a\r\n\n# b")).not.toMatch(/[\r\n]/);
  });
});
