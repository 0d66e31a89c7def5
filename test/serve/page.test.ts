// The page of nfc serve in headless Chromium: its text is our own greedy text, in every precision, with no network.
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Precision } from "../../src/model/precision.ts";
import { findBrowserRuntime } from "../../src/serve/browser-runtime.ts";
import { type Served, serve } from "../../src/serve/serve.ts";
import { browserForTests, NO_CHROMIUM, type Visit, WHY } from "../support/browser.ts";
import { exported, modelOf } from "../support/exported.ts";
import { MODEL } from "../support/fixture.ts";
import { formOf } from "../support/narrow-models.ts";
import { greedyText, PROMPT, TOKENS, write as writeIn } from "../support/serve-page.ts";
import { SLOW, slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("page");
/** Controls and texts whose content is wider than they are. */
const CUT_CONTROLS = `[...document.querySelectorAll("input, button, label, p, h1, dt, dd")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== "inline")
  .map((each) => each.id || each.textContent)`;

describe.skipIf(NO_CHROMIUM)(`the page${WHY}`, { timeout: 60_000 }, () => {
  const PRECISIONS: Precision[] = ["fp32", "fp16", "int8", "uint8", "q4", "q4f16"];
  const visit = browserForTests();
  let served: Served;
  let opened: Visit;

  beforeAll(async () => {
    const model = await modelOf("noise-distance", path("model"));
    await exported(model, path("onnx"), { precisions: PRECISIONS });
    served = await serve(path("onnx"), { port: 0 });
    opened = await visit();
    await opened.page.goto(served.url);
  }, 60_000);
  afterAll(() => served.close());

  const ready = (precision: Precision) =>
    opened.page.getByText(new RegExp(`^${precision} is ready`)).waitFor({ timeout: 30_000 });
  const write = (prompt: string, tokens: number, options = {}) => writeIn(opened.page, prompt, tokens, options);
  const ownText = (precision: Precision) => greedyText(path("onnx"), precision);

  it("the page shows the model by name and size, and starts with int8", async () => {
    await ready("int8");
    expect(await opened.page.getByRole("heading", { level: 1 }).textContent()).toMatch(/onnx$/);
    expect(await opened.page.locator("#facts").textContent()).toContain(
      "noise-distance, Q and K tied · 120,712 parameters",
    );
    const options = await opened.page.getByLabel("Precision").locator("option").allTextContents();
    expect(options.map((option) => option.split(" ")[0])).toEqual(PRECISIONS);
  });

  it("the page draws its tokens unless told otherwise, and its controls say so", async () => {
    const { page } = opened;
    const shown = async (label: string) => page.getByLabel(label).inputValue();
    expect([await shown("Temperature"), await shown("Top-k"), await shown("Top-p"), await shown("Seed")]).toEqual([
      "0.8",
      "40",
      "1",
      "",
    ]);
    expect(await page.locator("#sampling-help").textContent()).toMatch(/^Each token is drawn/);
    const greedy = await write("Anna", TOKENS);
    const [first, again, other] = [
      await write("Anna", TOKENS, { temperature: 0.8, seed: "1" }),
      await write("Anna", TOKENS, { temperature: 0.8, seed: "1" }),
      await write("Anna", TOKENS, { temperature: 0.8, seed: "2" }),
    ];
    expect(again).toBe(first);
    expect(new Set([greedy, first, other]).size).toBe(3);
    const drawn = await write("Anna", TOKENS, { temperature: 0.8 });
    const seed = /drawn with seed (\d+)$/.exec((await page.locator("#status").textContent()) ?? "")?.[1];
    expect(await write("Anna", TOKENS, { temperature: 0.8, seed: seed as string })).toBe(drawn);
  });

  for (const precision of PRECISIONS)
    it(`the page writes with ${precision} what nfc writes`, slowUnless(/^(int8|q4)$/.test(precision)), async () => {
      await opened.page.getByLabel("Precision").selectOption(precision);
      await ready(precision);
      expect(await write(PROMPT, TOKENS)).toBe(await ownText(precision));
      expect(await opened.page.locator("#count").textContent()).toBe(String(TOKENS));
      expect(Number(await opened.page.locator("#speed").textContent())).toBeGreaterThan(0);
    });

  it("the page stops writing on request, and says so", async () => {
    const { page } = opened;
    await page.getByLabel("Prompt").fill("Anna");
    await page.getByLabel("New tokens").fill("60");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.keyboard.press("Escape");
    await page.getByText(/^(Stopped|Done|Ended|The model ended)/).waitFor();
    expect(await page.getByRole("button", { name: "Generate" }).isEnabled()).toBe(true);
  });

  it("the page says that a prompt is too long, and goes on", async () => {
    await opened.page.getByLabel("Prompt").fill(`${PROMPT} `.repeat(8));
    await opened.page.getByRole("button", { name: "Generate" }).click();
    const alert = opened.page.getByRole("alert");
    await alert.waitFor();
    expect(await alert.textContent()).toMatch(/^The prompt has \d+ tokens, and the model reads 64: shorten it\.$/);
    expect(await write("Anna", 3)).not.toBe("");
    expect(await alert.isVisible()).toBe(false);
  });

  it("the page shows a prompt as text, not as markup", async () => {
    const prompt = '<img src="x" onerror="document.title=1">';
    await write(prompt, 1);
    expect(await opened.page.locator("#given").textContent()).toBe(prompt);
    expect(await opened.page.title()).toMatch(/· nfc$/);
  });

  it.each([320, 390, 500, 800])("nothing is cut at a width of %d", async (width) => {
    const { page } = await visit({ viewport: { width, height: 800 } });
    await page.goto(served.url);
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
    expect(await page.evaluate(CUT_CONTROLS)).toEqual([]);
    await page.close();
  });

  it("the page asks no other host, and no error goes unseen", () => {
    expect(opened.requests.length).toBeGreaterThan(10);
    expect(opened.requests.filter((url) => !url.startsWith(served.url) && !url.startsWith("data:"))).toEqual([]);
    expect(opened.errors).toEqual([]);
  });
});

describe.skipIf(NO_CHROMIUM)(`the page with transformers.js from the CDN${WHY}`, { timeout: 60_000 }, () => {
  const visit = browserForTests();

  it.each(["int8", "q4"] as const)("writes with %s what nfc writes", async (precision) => {
    const { files } = findBrowserRuntime([process.cwd()]);
    if (!files) throw new Error("transformers.js is a development dependency");
    const folder = path(`cdn-${precision}`);
    await exported(MODEL, folder, { precisions: [precision] });
    const served = await serve(folder, { port: 0, libraryFolders: [] });
    expect(served.cdn).toBe(true);
    const { page, requests } = await visit();
    const folders = [files.library, files.builds.wasm.mjs].map((file) => dirname(file));
    await page.route("https://cdn.jsdelivr.net/**", (route) => {
      const name = basename(new URL(route.request().url()).pathname);
      const found = folders.map((each) => join(each, name)).find((file) => existsSync(file));
      const headers = { "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" };
      return found ? route.fulfill({ path: found, headers }) : route.fulfill({ status: 404 });
    });
    await page.goto(served.url);
    await page.getByText(new RegExp(`^${precision} is ready`)).waitFor({ timeout: 30_000 });
    expect(await writeIn(page, PROMPT, TOKENS)).toBe(await greedyText(folder, precision));
    expect(requests.some((url) => url.startsWith("https://cdn.jsdelivr.net/npm/onnxruntime-web@"))).toBe(true);
    await served.close();
  });
});

describe.skipIf(NO_CHROMIUM)(`the page of other forms of attention${WHY}`, { timeout: 60_000 }, () => {
  const visit = browserForTests();

  it.each([
    [
      "low-rank",
      { qk: [8, 4], vo: [16, 6] },
      "low-rank, Q and K of low rank, q and k 4 to 8 of 16, v 6 to 16 of 16 · ",
    ],
    ["pairwise", {}, "pairwise, one projection for Q and K · "],
  ] as const)("the page of a %s model says so, and writes what nfc writes", SLOW, async (variant, ranks, facts) => {
    const [source, folder] = [path(`${variant}-model`), path(`${variant}-onnx`)];
    await exported(await formOf(MODEL, source, { variant, ...ranks }), folder, { precisions: ["fp32", "q4"] });
    const served = await serve(folder, { port: 0 });
    const { page, errors } = await visit();
    await page.goto(served.url);
    for (const precision of ["fp32", "q4"] as const) {
      await page.getByLabel("Precision").selectOption(precision);
      await page.getByText(new RegExp(`^${precision} is ready`)).waitFor({ timeout: 30_000 });
      expect(await writeIn(page, PROMPT, TOKENS)).toBe(await greedyText(folder, precision));
    }
    expect(await page.locator("#facts").textContent()).toContain(facts);
    expect(errors).toEqual([]);
    await served.close();
  });
});
