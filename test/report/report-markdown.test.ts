// The report as Markdown: a snapshot for a tiny model, and names that try to break out.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ModelConfig } from "../../src/model/config.ts";
import { createReport } from "../../src/report/report.ts";
import { renderReportMarkdown } from "../../src/report/report-blocks.ts";
import { fakeCheckpoint, recordOf, SHA, TINY } from "../support/fake-checkpoint.ts";

function report(source: string, title?: string) {
  const before = fakeCheckpoint(TINY, { source, notes: [source] });
  const config: ModelConfig = { ...TINY, variant: "noise-per-head" };
  const record = recordOf(before, config, {
    tool: { name: "nfc", version: "1.2.3" },
    command: ["nfc", "convert", source],
    history: [{ step: source }],
    perplexity: [{ file: source, sha256: SHA("c"), tokens: 245760, perplexity: 87.4, source: 62.2 }],
  });
  const after = fakeCheckpoint(config, { source, record });
  return createReport(before, after, title === undefined ? {} : { title });
}

/** Cells of a row: pipes that no backslash precedes. */
const cellsOf = (line: string) => line.split(/(?<!\\)\|/).length - 2;

describe("the report as Markdown", () => {
  test("the Markdown for a tiny model is exactly this", async () => {
    await expect(renderReportMarkdown(report("models/base"))).toMatchFileSnapshot("snapshots/report.md");
  });

  test("the Markdown with layers and heads is exactly this", async () => {
    const markdown = renderReportMarkdown(report("models/base", "Weekly *build*"), { layers: true, heads: true });
    await expect(markdown).toMatchFileSnapshot("snapshots/report-layers-heads.md");
  });

  test("every row of a Markdown table has as many cells as its heading, whatever the names", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("|", "\\", "`", "a", "\n", "<", "*", " ", "_"), maxLength: 12 }),
        (name) => {
          const tables = renderReportMarkdown(report(name, name), { layers: true, heads: true })
            .split("\n\n")
            .filter((block) => block.startsWith("|"));
          expect(tables).toHaveLength(9);
          for (const block of tables) {
            const widths = block.split("\n").map(cellsOf);
            expect(widths).toEqual(widths.map(() => widths[0]));
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  test("the Markdown says that a constant mean changes nothing in mean mode", () => {
    expect(renderReportMarkdown(report("m"))).toContain("which the softmax cannot see: in mean mode");
  });
});
