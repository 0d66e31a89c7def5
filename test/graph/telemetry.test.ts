// ONNX Runtime keeps no record of its use: a process that runs a session through nfc leaves no file behind.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { compileCli } from "../support/compiled-cli.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("telemetry");
const FOLDERS = ["home", "cache", "temporary"] as const;

/** y = relu(x) at −1 and 2, printed as JSON. */
const PROGRAM = `
const [compiled] = process.argv.slice(1);
const { Graph } = await import(compiled + "/graph/ir.js");
const { relu } = await import(compiled + "/graph/ops.js");
const { makeFloat32Tensor, Session } = await import(compiled + "/graph/session.js");
const graph = new Graph();
graph.output(relu(graph.input("x", "float32", [2])), "y");
const session = await Session.withInputs(graph);
const { y } = await session.run({ x: makeFloat32Tensor(Float32Array.of(-1, 2), [2]) });
await session.close();
process.stdout.write(JSON.stringify([...y.data]));
`;

test("a session of nfc leaves nothing in the home, cache and temporary folders", async () => {
  await compileCli(path("package"));
  for (const folder of FOLDERS) mkdirSync(path(folder));
  const { ORT_DISABLE_TELEMETRY: _, ...inherited } = process.env;
  const env = { ...inherited, HOME: path("home"), XDG_CACHE_HOME: path("cache"), TMPDIR: path("temporary") };
  const compiled = pathToFileURL(path("package/dist")).href;
  const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", PROGRAM, compiled], {
    encoding: "utf8",
    env,
  });
  expect(printed).toBe("[0,2]");
  for (const folder of FOLDERS) expect(readdirSync(path(folder), { recursive: true })).toEqual([]);
});
