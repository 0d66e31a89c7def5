// The card's example for browsers, run as it stands in headless Chromium: with WebGPU and without, the text of Node.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { Precision } from "../../../src/model/precision.ts";
import { findBrowserRuntime } from "../../../src/serve/browser-runtime.ts";
import {
  browserForTests,
  NO_CHROMIUM,
  NO_WEBGPU,
  type Visit,
  WEBGPU_FLAGS,
  WHY,
  WHY_NO_WEBGPU,
} from "../../support/browser.ts";
import { exported } from "../../support/exported.ts";
import { MODEL } from "../../support/fixture.ts";
import { greedyText } from "../../support/serve-page.ts";
import { SLOW } from "../../support/slow.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("browser-snippet");
const SITE = "http://localhost:9/";
const PROMPT = "The history of";
/** Of the 40 tokens so many are compared: on WebGPU, activations are rounded to int8, which tells where two are as likely. */
const EQUAL = 24;

const CASES: Record<string, Precision[]> = {
  all: ["fp32", "int8", "q4", "q4f16"],
  small: ["fp32", "int8"],
  one: ["uint8"],
};

/** The code of the section on browsers in the folder's README.md. */
function snippetOf(name: string): string {
  const card = readFileSync(path(name, "README.md"), "utf8");
  return /### transformers\.js, browser\n\n```js\n([\s\S]*?)```/.exec(card)?.[1] ?? "";
}

/** Runs the snippet in a page beside which the folder lies, with the library from node_modules instead of the CDN. */
async function run({ page }: Visit, name: string, code = snippetOf(name)): Promise<{ text: string; loaded: string[] }> {
  const { files } = findBrowserRuntime([process.cwd()]);
  if (!files) throw new Error("transformers.js is a development dependency");
  const runtime = dirname(files.builds.wasm.mjs);
  const loaded: string[] = [];
  const text = new Promise<string>((resolve, reject) => {
    page.on("console", async (message) => {
      const [answer] = message.type() === "log" ? message.args() : [];
      if (answer) resolve((await answer.jsonValue())[0].generated_text);
    });
    page.on("pageerror", reject);
  });
  await page.route("**/*", (route) => {
    const url = new URL(route.request().url());
    if (url.href === SITE) return route.fulfill({ contentType: "text/html", body: PAGE });
    const file =
      url.href === `${SITE}library.js`
        ? files.library
        : url.host === "cdn.jsdelivr.net"
          ? join(runtime, url.pathname.split("/").pop() as string)
          : path(url.pathname.slice(1));
    if (url.pathname.endsWith(".onnx")) loaded.push(url.pathname);
    return url.host !== "huggingface.co" && existsSync(file)
      ? route.fulfill({ path: file })
      : route.fulfill({ status: 404 });
  });
  await page.goto(SITE);
  await page.addScriptTag({ type: "module", content: code });
  return { text: await text, loaded };
}

const PAGE = `<!doctype html><script type="importmap">{"imports":{"@huggingface/transformers":"/library.js"}}</script>`;

beforeAll(async () => {
  for (const [name, precisions] of Object.entries(CASES)) await exported(MODEL, path(name), { precisions });
});

describe.skipIf(NO_WEBGPU)(`the card's example with WebGPU${WHY_NO_WEBGPU}`, { timeout: 180_000 }, () => {
  const visit = browserForTests(WEBGPU_FLAGS);

  it.each([
    ["all", "q4", "model_q4.onnx"], // the adapter has no 16-bit floats
    ["small", "int8", "model_quantized.onnx"],
    ["one", "uint8", "model_uint8.onnx"],
  ] as const)("of a folder of %s loads %s, and writes what nfc writes in Node", SLOW, async (name, precision, file) => {
    const { text, loaded } = await run(await visit(), name);
    expect(loaded).toEqual([`/${name}/onnx/${file}`]);
    expect(text.startsWith(PROMPT + (await greedyText(path(name), precision, { prompt: PROMPT, tokens: EQUAL })))).toBe(
      true,
    );
    expect(text.length).toBeGreaterThan(100);
  });

  it("names no more than the device where config.json has the file for it", SLOW, async () => {
    const code = snippetOf("all").replace(/^const options = .*$/m, 'const options = { device: "webgpu" };');
    expect((await run(await visit(), "all", code)).loaded).toEqual(["/all/onnx/model_q4.onnx"]);
  });

  it("prefers q4f16 on an adapter that has 16-bit floats", async () => {
    const opened = await visit();
    await opened.page.goto("about:blank");
    const choose = snippetOf("all")
      .split("\n")
      .filter((line) => /^const (adapter|half|options)/.test(line));
    expect(choose).toHaveLength(3);
    const body = choose.join("\n").replaceAll("await ", "").replaceAll("navigator", "browser");
    const pick = new Function("browser", `${body.replace("?.requestAdapter()", "")}; return options;`);
    expect(pick({ gpu: { features: new Set(["shader-f16"]) } })).toEqual({ device: "webgpu", dtype: "q4f16" });
    expect(pick({ gpu: { features: new Set() } })).toEqual({ device: "webgpu", dtype: "q4" });
    expect(pick({})).toEqual({ device: "wasm", dtype: "q8" });
  });
});

describe.skipIf(NO_CHROMIUM)(`the card's example without WebGPU${WHY}`, { timeout: 60_000 }, () => {
  const visit = browserForTests();

  it.each([
    ["all", "int8", "model_quantized.onnx"],
    ["one", "uint8", "model_uint8.onnx"],
  ] as const)("of a folder of %s loads %s in WebAssembly", async (name, precision, file) => {
    const { text, loaded } = await run(await visit(), name);
    expect(loaded).toEqual([`/${name}/onnx/${file}`]);
    expect(text.startsWith(PROMPT + (await greedyText(path(name), precision, { prompt: PROMPT, tokens: EQUAL })))).toBe(
      true,
    );
    expect(text.length).toBeGreaterThan(100);
  });
});
