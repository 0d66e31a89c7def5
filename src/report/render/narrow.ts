// What a page shows differently where it is too narrow: the classes of tables and charts by the width that they need.

/** Widths in CSS pixels that have a rule; what needs more is never shown in full, as the page's column is 824 wide. */
const WIDTHS = [250, 275, 300, 325, 350, 375, 400, 450, 500, 550, 600, 675, 750, 824];

/** "needs-450" for content that needs up to 450 pixels, "needs-more" for what no page has room for. */
export function nameNeed(pixels: number): string {
  const width = WIDTHS.find((each) => each >= pixels);
  return width === undefined ? "needs-more" : `needs-${width}`;
}

/** A table of many columns becomes a block for each row, with the heading of the column before each value. */
const fold = (needs: string) => `
${needs} th:not(:first-child) { display: none; } ${needs} :is(table, thead, tbody, tr, th, td) { display: block; }
${needs} tr { padding: .4rem 0; border-bottom: 1px solid var(--line); }
${needs} th { border: 0; padding: 0; text-align: left; }
${needs} td { display: flex; gap: 1rem; justify-content: space-between; padding: .1rem 0; border: 0; white-space: normal; text-align: right; overflow-wrap: anywhere; }
${needs} td:first-child { font-weight: 600; text-align: left; } ${needs} td:empty { display: none; }
${needs} td[data-name]:not(:first-child)::before { content: attr(data-name); color: var(--quiet); text-align: left; flex: none; max-width: 50%; overflow-wrap: anywhere; }
svg${needs} .number { display: none; }`;

/** Rules for content that is wider than its section. */
export const NARROW_STYLE = `section { container-type: inline-size; }${fold(".needs-more")}
${WIDTHS.map((width) => `@container (max-width: ${width - 1}px) {${fold(`.needs-${width}`)} }`).join("\n")}`;
