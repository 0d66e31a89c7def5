// Headless Chromium for tests of pages; tests that need it skip, and say why, where there is none.
import { existsSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll } from "vitest";
import { SOFTWARE_GPU, WHY_NO_GPU } from "./webgpu.ts";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** For `describe.skipIf(NO_CHROMIUM)`; its name should hold {@link WHY}. */
export const NO_CHROMIUM = !existsSync(executablePath);
export const WHY = NO_CHROMIUM ? ` (skipped: no ${executablePath}; CHROMIUM names another)` : "";

/** For tests that need WebGPU; the name should hold {@link WHY_NO_WEBGPU}. Chromium has the software adapter beside it. */
export const NO_WEBGPU = NO_CHROMIUM || SOFTWARE_GPU === null;
export const WHY_NO_WEBGPU = NO_CHROMIUM ? WHY : WHY_NO_GPU;

/** WebGPU on Chromium's software adapter, which it has only where it is asked for. */
export const WEBGPU_FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** No sandbox, because root has none in Chromium; no traffic of its own. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export interface Visit {
  page: Page;
  /** Errors of scripts, and what the content security policy blocked. */
  errors: string[];
  /** Addresses that were asked for. */
  requests: string[];
}

/**
 * A browser with a fresh profile for the tests of a `describe`; every page gets a profile of its own.
 * @param flags further ones, as {@link WEBGPU_FLAGS}
 */
export function browserForTests(
  flags: readonly string[] = [],
): (options?: Parameters<Browser["newContext"]>[0]) => Promise<Visit> {
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath, args: [...FLAGS, ...flags] });
  });
  afterAll(() => browser?.close());
  return async (options) => {
    const page = await (await browser.newContext(options)).newPage();
    const [errors, requests]: [string[], string[]] = [[], []];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    page.on("request", (request) => requests.push(request.url()));
    return { page, errors, requests };
  };
}
