// The report page: escaped names, charts that say what they show, a size that can be sent, and in Chromium no script and no request.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { NfcRecord } from "../../../src/checkpoint/nfc-record.ts";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { drawBarChart, drawHeatMap, drawLegend, drawLineChart, LINE_COLORS } from "../../../src/report/page/charts.ts";
import { renderReportPage } from "../../../src/report/page/page.ts";
import {
  type PageData,
  readAttentionPairs,
  readLearnedNoise,
  readTrainingCurves,
} from "../../../src/report/page/page-data.ts";
import { STYLE } from "../../../src/report/page/style.ts";
import { html, Markup, renderBlock } from "../../../src/report/render/html.ts";
import { createReport } from "../../../src/report/report.ts";
import { browserForTests, NO_CHROMIUM, WHY } from "../../support/browser.ts";
import { modelOf } from "../../support/exported.ts";
import { MODEL, opened } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("page");
const SENTENCE = "Anna keeps her old lantern in the tower.";
const HOSTILE = `</style></title><script>document.title="owned"</script><img src=x onerror="document.title='owned'">"'&`;

async function dataOf(after: string, change: (data: PageData) => void = () => {}): Promise<PageData> {
  return opened(MODEL, (first) =>
    opened(after, async (second) => {
      const tokenizer = await loadTokenizer(second.folder, second.config);
      const data = {
        report: createReport(first, second),
        noise: await readLearnedNoise(second),
        training: await readTrainingCurves(second),
        attention: await readAttentionPairs(first, second, tokenizer, SENTENCE),
      };
      change(data);
      return data;
    }),
  );
}

/** As of GPT-2 xl: 48 layers of 25 heads, 1.5 billion parameters, and names as long as paths get. */
async function largeData(after: string): Promise<PageData> {
  return dataOf(after, ({ report, noise, attention }) => {
    const long = "/home/somebody/experiments/compression/checkpoints/gpt2-xl-noise-distance/step-200000";
    report.after.source = long;
    report.title = `${long} and what it came from`;
    const grow = (change: { before: number; after: number; difference: number }) => {
      change.before *= 12_097;
      change.after *= 12_097;
      change.difference *= 12_097;
    };
    for (const row of [...report.groups, ...report.layers, report.total])
      for (const change of [row.parameters, row.bytes]) grow(change);
    const heads = Array.from({ length: 25 }, (_, i) => i / 20);
    const [layer] = report.tie?.layers ?? [];
    if (report.tie && layer)
      report.tie.layers = Array.from({ length: 48 }, (_, i) => ({ ...layer, layer: i, errors: heads }));
    if (noise) {
      noise.sigma = Array.from({ length: 48 }, () => heads);
      noise.means = [heads.map((from) => Array.from({ length: 32 }, (_, i) => 1000 * (from - i / 3)))];
    }
    attention?.tokens.fill(" counterrevolutionary");
  });
}

/** Elements whose box, or whose content, reaches beyond the page or beyond themselves. */
const CUT = `[...document.querySelectorAll("body *")].filter((each) => {
    const box = each.getBoundingClientRect();
    if (box.width === 0 || getComputedStyle(each).display === "none" || each.closest("title, desc")) return false;
    const overflows = !(each instanceof SVGElement) && each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0;
    return box.left < -0.5 || box.right > innerWidth + 0.5 || overflows;
  }).map((each) => each.tagName + " " + each.getAttribute("class") + " " + each.textContent.slice(0, 40))`;

/** The least height in pixels of text in charts and tables, as it is drawn. */
const SMALLEST_TEXT = `Math.min(...[...document.querySelectorAll("svg text, td, th, dd, figcaption")]
    .filter((each) => each.getClientRects().length > 0)
    .map((each) => parseFloat(getComputedStyle(each).fontSize)
      * (each instanceof SVGElement ? each.getScreenCTM().a : 1)))`;

let tied = "";
beforeAll(async () => {
  tied = await modelOf("noise-distance", path("tied"));
  const lines = Array.from({ length: 60 }, (_, i) => JSON.stringify({ step: i + 1, phase: "train", loss: 3 - i / 60 }));
  writeFileSync(
    `${tied}/metrics.jsonl`,
    `${lines.join("\n")}\n{"step":30,"eval":{"perplexity":2.5}}\nnot json\n{"step":60,"eval":{"perplexity":2}}\n{"st`,
  );
});

describe("the html helper", () => {
  it("text is escaped, and markup is kept", () => {
    expect(html`<p>${HOSTILE}</p>`.html).not.toMatch(/<script|<img/);
    expect(html`<p title="${'" onload="x'}">${new Markup("<b>bold</b>")}${["<", 1]}</p>`.html).toBe(
      '<p title="&quot; onload=&quot;x"><b>bold</b>&lt;1</p>',
    );
    expect(html`${"a\u0007b\u202ec"}`.html).toBe("a\u25a1b\u25a1c");
  });
});

describe("charts of the page", () => {
  const chart = { title: "A title", description: "What it shows" };
  const charts = [
    drawBarChart(chart, [{ label: "x", before: 4, after: 2, values: ["4", "2"] }]),
    drawHeatMap(chart, [[0.5], [0.5, 1]], ["h.0", "h.1"], 1),
    drawLineChart(
      chart,
      [
        {
          kind: "after",
          points: [
            [0, 1],
            [5, 3],
          ],
        },
      ],
      { x: "step", y: "loss" },
    ),
  ];

  it("every chart has a name and a description for screen readers", () => {
    for (const { html: markup } of charts) {
      expect(markup).toMatch(/^<svg [^>]*role="img"/);
      expect(markup).toContain("<title>A title</title><desc>What it shows</desc>");
      expect(markup).not.toMatch(/NaN|Infinity|undefined/);
    }
  });

  it("the length of a bar is proportional to its value", () => {
    const widths = [...(charts[0]?.html.matchAll(/width="([\d.]+)%" height="13"/g) ?? [])].map(([, width]) =>
      Number(width),
    );
    expect(widths[0]).toBeGreaterThan(50);
    expect((widths[1] as number) / (widths[0] as number)).toBeCloseTo(0.5, 2);
  });

  it("each of many lines differs from the others in color or dashes, and the legend names it", () => {
    const lines = Array.from({ length: 24 }, (_, kind) => ({
      kind,
      name: `head ${kind}`,
      points: [[0, kind]] as const,
    }));
    const markup = drawLineChart(chart, lines, { x: "x", y: "y" }).html;
    const looks = [...markup.matchAll(/<path class="([^"]+)"/g)].map(([, look]) => look);
    expect(new Set(looks).size).toBe(24);
    const legend = drawLegend(lines).html;
    for (const [i, look] of looks.entries())
      expect(legend).toMatch(new RegExp(`<line class="${look}"[^>]*/></svg>head ${i}</span>`));
    for (let color = 0; color < LINE_COLORS; color++) expect(STYLE).toContain(`svg .line-${color} { stroke: #`);
  });

  it("charts of no points, one point or equal values contain no NaN", () => {
    for (const points of [
      [],
      [[1, 1]],
      [
        [1, 2],
        [2, 2],
      ],
    ] as [number, number][][])
      expect(drawLineChart(chart, [{ kind: "after", points }], { x: "x", y: "y" }).html).not.toMatch(/NaN|Infinity/);
  });
});

describe("the content of the page", () => {
  it("the attention maps are those of the models, as rows of probabilities", async () => {
    const { attention } = await dataOf(tied);
    expect(attention?.tokens.join("")).toBe(SENTENCE.slice(0, attention?.tokens.join("").length));
    expect(attention?.pairs).toHaveLength(4);
    const errors = attention?.pairs.map(({ error }) => error as number) ?? [];
    expect(errors).toEqual([...errors].sort((a, b) => a - b));
    for (const { before, after } of attention?.pairs ?? [])
      for (const rows of [before, after])
        for (const [i, row] of rows.entries()) {
          expect(row).toHaveLength(i + 1);
          expect(row.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 5);
        }
    // Of the layer and head that they name: swapped models give swapped maps.
    const swapped = await opened(tied, (first) =>
      opened(MODEL, async (second) => {
        const tokenizer = await loadTokenizer(first.folder, first.config);
        return readAttentionPairs(first, second, tokenizer, SENTENCE);
      }),
    );
    const shared = (attention?.pairs ?? []).flatMap(({ layer, head, before, after }) => {
      const other = swapped?.pairs.find((pair) => pair.layer === layer && pair.head === head);
      return other ? [{ here: [before, after], there: [other.after, other.before] }] : [];
    });
    expect(shared.length).toBeGreaterThan(0);
    for (const { here, there } of shared) expect(there).toEqual(here);
    expect(new Set(attention?.pairs.map(({ after }) => JSON.stringify(after))).size).toBe(4);
  });

  it("the training curves are those of metrics.jsonl, whatever else the file holds", async () => {
    const { training } = await dataOf(tied);
    expect(training?.loss).toHaveLength(60);
    expect(training?.heldOut).toEqual([
      [30, 2.5],
      [60, 2],
    ]);
  });

  it("the page is complete, contains every fact, and is small", async () => {
    const data = await dataOf(tied);
    const page = renderReportPage(data);
    expect(page.length).toBeLessThan(300_000);
    for (const words of [
      "-6.26 %",
      "Where the parameters are",
      "What tying could not keep",
      "What the noise has become",
      "Mean by distance",
      "Attention before and after",
      "Held-out perplexity",
      "By layer",
      "sha256",
    ])
      expect(page).toContain(words);
    expect(page).not.toMatch(/<script|https?:\/\/|NaN|undefined/);
    expect(renderReportPage(await dataOf(tied))).toBe(page);
  });

  it("the page of two dense models shows no tie, noise or training", async () => {
    const page = renderReportPage(await dataOf(MODEL));
    expect(page).not.toContain("What tying could not keep");
    expect(page).not.toContain("What the noise has become");
    expect(page).toContain("as before");
  });
});

describe.skipIf(NO_CHROMIUM)(`the page in Chromium${WHY}`, { timeout: 60_000 }, () => {
  const visit = browserForTests();
  let file = "";

  beforeAll(async () => {
    const data = await dataOf(tied, (changed) => {
      changed.report.title = HOSTILE;
      changed.report.before.source = HOSTILE;
      changed.report.findings.push({ code: "x", text: HOSTILE });
      if (changed.attention) changed.attention.tokens[0] = HOSTILE;
      if (changed.report.tie) changed.report.tie.strategy = HOSTILE;
    });
    mkdirSync(path("pages"));
    file = path("pages/hostile.html");
    writeFileSync(file, renderReportPage(data));
  });
  afterAll(() => expect(existsSync(file)).toBe(true));

  it.each([
    [390, "light"],
    [1280, "dark"],
  ] as const)(
    "a hostile name is shown as text, at a width of %d in %s, and nothing else is loaded",
    async (width, colorScheme) => {
      const { page, errors, requests } = await visit({ viewport: { width, height: 800 }, colorScheme });
      await page.goto(`file://${file}`);
      expect(await page.title()).toBe(HOSTILE);
      expect(await page.locator("h1").textContent()).toBe(HOSTILE);
      expect(await page.locator("script, img, iframe, link").count()).toBe(0);
      expect({ errors, requests }).toEqual({ errors: [], requests: [`file://${file}`] });
      expect(await page.evaluate("document.documentElement.scrollWidth <= innerWidth")).toBe(true);
      expect(await page.locator("svg").count()).toBeGreaterThan(10);
      expect(await page.locator("svg:not(:has(title))").count()).toBe(0);
    },
  );

  it.each([320, 390, 500, 800])(
    "no bar, table, label or number is cut or shrunk at a width of %d, whatever the model's size",
    async (width) => {
      const large = path("pages/large.html");
      writeFileSync(large, renderReportPage(await largeData(tied)));
      for (const each of [file, large]) {
        const { page } = await visit({ viewport: { width, height: 800 } });
        await page.goto(`file://${each}`);
        expect(await page.evaluate(CUT)).toEqual([]);
        expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
        expect(await page.evaluate(SMALLEST_TEXT)).toBeGreaterThanOrEqual(11);
        await page.close();
      }
    },
  );

  it("a table that folds shows the heading of its column before each value", async () => {
    const { page } = await visit({ viewport: { width: 390, height: 800 } });
    await page.goto(`file://${file}`);
    const shown = `getComputedStyle(document.querySelector("td[data-name='difference']"), "::before").content`;
    expect(await page.evaluate(shown)).toBe('"difference"');
    await page.setViewportSize({ width: 1000, height: 800 });
    expect(await page.evaluate(shown)).toBe("none");
  });

  it("a table of long paths stays a table: paths break after slashes, and headings between words", async () => {
    const names = ["model", "weights", "variant", "parameters", "%", "MB", "%", "perplexity, text.txt"];
    const model = "a-model-of-a-long-name/onnx/model_quantized.onnx";
    const row = [model, "fp32", "noise-distance", "5,459,200", "-6.73 %", "21.861", "-6.66 %", "70.59"];
    const { page } = await visit({ viewport: { width: 1000, height: 800 } });
    const table = renderBlock({ kind: "table", heading: names, rows: [row], align: "lr" });
    await page.setContent(html`<style>${new Markup(STYLE)}</style><section>${table}</section>`.html);
    const linesOf = (selector: string) =>
      page.evaluate(`[...document.querySelectorAll("${selector}")].map((cell) => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return new Set([...range.getClientRects()].filter((box) => box.width > 0).map((box) => box.top)).size;
      })`);
    expect(await linesOf("th")).toEqual([1, 1, 1, 1, 1, 1, 1, 2]);
    expect(await linesOf("td")).toEqual([2, 1, 1, 1, 1, 1, 1, 1]);
  });

  it("the page prints on white paper", async () => {
    const { page } = await visit({ colorScheme: "dark" });
    await page.goto(`file://${file}`);
    await page.emulateMedia({ media: "print", colorScheme: "dark" });
    expect(await page.evaluate("getComputedStyle(document.body).backgroundColor")).toBe("rgb(255, 255, 255)");
    expect((await page.pdf()).length).toBeGreaterThan(10_000);
  });
});

it("the curve of a run begins before its first step, has the teacher's level, and says when it ended worse", async () => {
  mkdirSync(path("worse"));
  writeFileSync(
    path("worse/metrics.jsonl"),
    '{"step":30,"eval":{"perplexity":80}}\n{"step":60,"eval":{"perplexity":83.8}}\n',
  );
  const perplexity = { teacher: 61.5, before: 71.3, after: 80 };
  await opened(MODEL, (before) =>
    opened(tied, async (after) => {
      const record = after.record as NfcRecord;
      const trained = { ...record, history: [{ step: "distill", held_out: { perplexity } }] };
      const model = { ...after, folder: path("worse"), record: trained };
      const training = await readTrainingCurves(model);
      expect(training).toMatchObject({
        heldOut: [
          [0, 71.3],
          [30, 80],
          [60, 83.8],
        ],
        teacher: 61.5,
      });
      const report = createReport(before, model);
      expect(report.findings).toContainEqual({
        code: "trained-worse",
        text: "after: training made it worse: perplexity 71.30 before, 80.00 after (+12.20 %), on held-out text",
      });
      const page = renderReportPage({ report, noise: null, attention: null, training });
      expect(page).toContain(
        "From 71.300 to 83.800, worse than it began, over 60 steps. The teacher, the level line, has 61.500.",
      );
      expect(page).toContain("training made it worse");
    }),
  );
});

it("the curves of a classifier show its score", async () => {
  mkdirSync(path("metrics"));
  await opened(MODEL, async (model) => {
    writeFileSync(path("metrics/metrics.jsonl"), '{"step":10,"eval":{"loss":0.5,"accuracy":0.75}}\n');
    expect(await readTrainingCurves({ ...model, folder: path("metrics") })).toEqual({
      loss: [],
      heldOut: [[10, 0.75]],
      heldOutName: "accuracy",
      teacher: null,
    });
  });
});
