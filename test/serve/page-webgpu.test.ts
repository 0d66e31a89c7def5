// The page of nfc serve on WebGPU, on Chromium's software adapter: Node's text, and what it does where WebGPU fails.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Precision } from "../../src/model/precision.ts";
import { type Served, serve } from "../../src/serve/serve.ts";
import { browserForTests, NO_WEBGPU, type Visit, WEBGPU_FLAGS, WHY_NO_WEBGPU } from "../support/browser.ts";
import { exported, modelOf } from "../support/exported.ts";
import { greedyText, PROMPT, TOKENS, write } from "../support/serve-page.ts";
import { SLOW } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("page-webgpu");
const ALL: Precision[] = ["fp32", "fp16", "int8", "uint8", "q4", "q4f16"];

/** Hides that the adapter is software: the page then takes it for a GPU. */
const AS_A_GPU = "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false })";

describe.skipIf(NO_WEBGPU)(`the page on WebGPU${WHY_NO_WEBGPU}`, { timeout: 180_000 }, () => {
  const visit = browserForTests(WEBGPU_FLAGS);
  let served: Served;

  beforeAll(async () => {
    await exported(await modelOf("noise-distance", path("model")), path("onnx"), { precisions: ALL });
    served = await serve(path("onnx"), { port: 0 });
  }, 60_000);
  afterAll(() => served.close());

  async function open(query: string, script?: string): Promise<Visit & { texts: Record<string, string> }> {
    const opened = await visit();
    if (script !== undefined) await opened.page.addInitScript(script);
    await opened.page.goto(served.url + query);
    await opened.page.getByText(/is ready|^Not loaded/).waitFor({ timeout: 120_000 });
    const read = async (id: string) => (await opened.page.locator(`#${id}`).textContent()) ?? "";
    return { ...opened, texts: { status: await read("status"), why: await read("why"), notice: await read("notice") } };
  }

  it.each(["q4", "uint8", "fp32"] as const)(
    "the page writes with %s on WebGPU what nfc writes in Node",
    SLOW,
    async (precision) => {
      const { page, errors, texts } = await open(`?device=webgpu&dtype=${precision}`);
      expect(texts.status).toMatch(new RegExp(`^${precision} is ready, loaded in .*, on WebGPU$`));
      expect(texts).toMatchObject({ why: expect.stringMatching(/^WebGPU on .*, as chosen$/), notice: "" });
      expect(await page.getByLabel("Device").inputValue()).toBe("webgpu");
      expect(await write(page, PROMPT, TOKENS)).toBe(await greedyText(path("onnx"), precision));
      expect(errors).toEqual([]);
      await page.close();
    },
  );

  it.each([
    [
      "takes q4 by itself on an adapter without 16-bit floats",
      "",
      AS_A_GPU,
      /^q4 is ready.*on WebGPU$/,
      /^WebGPU on .*which has no 16-bit/,
    ],
    ["leaves a software adapter alone", "", "", /^int8 is ready.*threads?$/, /^WebAssembly, as .* is software$/],
    [
      "runs in WebAssembly on request",
      "?device=wasm&dtype=q8",
      AS_A_GPU,
      /^int8 is ready.*threads?$/,
      /^WebAssembly, as chosen$/,
    ],
  ])("the page %s", async (_, query, script, status, why) => {
    const { page, texts } = await open(query, script);
    expect(texts).toEqual({ status: expect.stringMatching(status), why: expect.stringMatching(why), notice: "" });
    await page.close();
  });

  it("files that need 16-bit floats cannot be chosen, and one in the address is replaced by q4", SLOW, async () => {
    const { page, texts } = await open("?device=webgpu&dtype=q4f16");
    expect(texts.status).toMatch(/^q4 is ready/);
    expect(texts.notice).toBe("the WebGPU adapter has no 16-bit floats (shader-f16), which q4f16 needs");
    const disabled = await page.getByLabel("Precision").locator("option:disabled").allTextContents();
    expect(disabled).toEqual(["fp16: needs shader-f16", "q4f16: needs shader-f16"]);
    await page.getByLabel("Device").selectOption("wasm");
    await page.getByText(/^int8 is ready/).waitFor({ timeout: 60_000 });
    expect(new URL(page.url()).search).toBe("?device=wasm&dtype=q8");
    expect(await page.getByLabel("Precision").locator("option:disabled").count()).toBe(0);
    await page.close();
  });

  it("the page goes on in WebAssembly where WebGPU fails, and says why", async () => {
    // The build of ONNX Runtime with WebGPU does not load.
    const broken = await visit();
    await broken.page.route("**/*asyncify*", (route) => route.abort());
    await broken.page.goto(`${served.url}?device=webgpu`);
    await broken.page.getByText(/^int8 is ready/).waitFor({ timeout: 60_000 });
    expect(await broken.page.locator("#why").textContent()).toBe("WebAssembly, as WebGPU failed");
    expect(await broken.page.locator("#notice").textContent()).toMatch(/^WebGPU failed: ./);
    expect(await broken.page.getByLabel("Device").inputValue()).toBe("wasm");
    expect(await write(broken.page, PROMPT, TOKENS)).toBe(await greedyText(path("onnx"), "int8"));
    await broken.page.close();
  });

  it("a prompt that is too long does not end WebGPU", SLOW, async () => {
    const { page } = await open("?device=webgpu");
    await page.getByLabel("Prompt").fill(`${PROMPT} `.repeat(8));
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByRole("alert").waitFor();
    expect(await page.getByLabel("Device").inputValue()).toBe("webgpu");
    await page.close();
  });
});
