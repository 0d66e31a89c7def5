// Blocks in a terminal: what each becomes, and the columns of tables.
import { describe, expect, test } from "vitest";
import { group, heading, list, notes, paragraph } from "../../../src/report/render/blocks.ts";
import { alignTable, renderText } from "../../../src/report/render/text.ts";

describe("blocks in text", () => {
  test("blocks have a blank line between them except within a group, and empty ones leave no trace", () => {
    const blocks = [
      heading(2, ["From ", { code: "a" }]),
      group(paragraph("a < b ", { strong: "c_d" }), list(["one", [{ code: "two" }]])),
      list([]),
      notes(["three", "four"]),
      { kind: "code", language: "sh", lines: ["echo <a>"] } as const,
    ];
    expect(renderText(blocks)).toBe("From a\n\na < b c_d\n  one\n  two\n\nnote: three\nnote: four\n\n  echo <a>\n");
  });

  test("tables have a rule under the heading and one above their foot", () => {
    const rows = [
      ["  a", "1"],
      [{ code: "b\u202e" }, "22"],
      ["sum", "23"],
      ["more", ""],
    ];
    expect(renderText([{ kind: "table", heading: ["name", "n"], rows, align: "lr", footRows: 2 }])).toBe(
      [
        "name        n",
        "---------  --",
        "  a         1",
        "b\\u{202e}  22",
        "---------  --",
        "sum        23",
        "more",
        "",
      ].join("\n"),
    );
    expect(renderText([{ kind: "table", heading: null, rows: [["a", "b"]], align: "l" }])).toBe("a  b\n");
  });
});

describe("tables in text", () => {
  test("columns are as wide as their widest cell, and lines have no trailing spaces", () => {
    const rows = [
      ["group", "n", ""],
      ["a", "1,000", "x"],
      ["total", "5", ""],
    ];
    expect(alignTable(rows, { align: "lr", rulesBefore: [1, 2] })).toEqual([
      "group      n",
      "-----  -----  -",
      "a      1,000  x",
      "-----  -----  -",
      "total      5",
    ]);
  });

  test("characters outside the basic plane count as one column", () => {
    expect(
      alignTable(
        [
          ["𝛍", "1"],
          ["ab", "2"],
        ],
        { align: "l" },
      ),
    ).toEqual(["𝛍   1", "ab  2"]);
  });
});
