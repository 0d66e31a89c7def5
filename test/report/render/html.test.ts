// Blocks as HTML: what each becomes, and that no text becomes markup.
import { expect, test } from "vitest";
import { group, heading, list, notes, paragraph } from "../../../src/report/render/blocks.ts";
import { renderBlock } from "../../../src/report/render/html.ts";

const EVIL = "<b>\u202e";
const SAFE = "&lt;b&gt;\u25a1";

test.each([
  [heading(3, EVIL), `<h3>${SAFE}</h3>`],
  [paragraph("a ", { code: EVIL }, { strong: EVIL }), `<p>a <code>${SAFE}</code><strong>${SAFE}</strong></p>`],
  [list([EVIL, [{ code: "x" }, "y"]]), `<ul><li>${SAFE}</li><li><code>x</code>y</li></ul>`],
  [notes([EVIL]), `<ul><li>${SAFE}</li></ul>`],
  [{ kind: "code", language: "sh", lines: ["a", EVIL] } as const, `<pre><code>a\n${SAFE}</code></pre>`],
  [group(paragraph("a"), paragraph("b")), "<p>a</p><p>b</p>"],
  [
    { kind: "table", heading: [EVIL], rows: [[{ code: EVIL }]], align: "l" } as const,
    `<div class="scroll needs-250"><table><thead><tr><th scope="col">${SAFE}</th></tr></thead><tbody><tr><td data-name="${SAFE}">${SAFE}</td></tr></tbody></table></div>`,
  ],
  [
    list([[{ code: "nfc distill --data a-b.txt -o --x" }]]),
    '<ul><li><code>nfc distill <span class="flag">--data</span> a-b.txt <span class="flag">-o</span> <span class="flag">--x</span></code></li></ul>',
  ],
  [
    { kind: "table", heading: null, rows: [["models/of-a-long-name/file", "of/two"]], align: "ll" } as const,
    '<div class="scroll needs-250"><table><thead><tr></tr></thead><tbody><tr><td>models/<wbr>of-a-long-name/<wbr>file</td><td class="left">of/two</td></tr></tbody></table></div>',
  ],
])("a block of %j becomes its HTML", (block, expected) => {
  expect(renderBlock(block).html).toBe(expected);
});
