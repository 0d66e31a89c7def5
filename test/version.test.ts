// The tool's version is that of package.json, from wherever the module is loaded.
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { TOOL } from "../src/version.ts";

test("the tool names itself and the package's version", async () => {
  const { version } = JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8"));
  expect(TOOL).toEqual({ name: "nfc", version });
});
