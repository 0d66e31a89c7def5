// The server of the page: which addresses it answers, to whom, and what it refuses to serve.
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { type IncomingHttpHeaders, request } from "node:http";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import type { onnx as Onnx } from "onnx-proto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Served, serve } from "../../src/serve/serve.ts";
import { decoded, exported } from "../support/exported.ts";
import { failureOf } from "../support/failure.ts";
import { MODEL } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("serve");
let served: Served;

beforeAll(async () => {
  await exported(MODEL, path("onnx"), { precisions: ["fp32", "q4"] });
  writeFileSync(path("secret.txt"), "secret");
  writeFileSync(path("onnx/notes.txt"), "not the model's");
  served = await serve(path("onnx"), { port: 0 });
});
afterAll(() => served.close());

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** A request as a hostile client sends it: `fetch` would tidy the path. */
function ask(address: string, { method = "GET", headers = {}, port = served.port } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path: address, method, headers }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () => {
        const body = Buffer.concat(parts).toString("latin1");
        resolve({ status: response.statusCode as number, headers: response.headers, body });
      });
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end();
  });
}

describe("answers of the server", () => {
  it.each([
    ["/", "text/html; charset=utf-8", "<!doctype html>"],
    ["/app.js", "text/javascript; charset=utf-8", "//"],
    ["/style.css", "text/css; charset=utf-8", "/*"],
    ["/model.json", "application/json; charset=utf-8", '{"name":'],
    ["/model/config.json", "application/json; charset=utf-8", "{"],
    ["/model/tokenizer.json", "application/json; charset=utf-8", "{"],
    ["/library/transformers.min.js", "text/javascript; charset=utf-8", ""],
    ["/choose-device.js", "text/javascript; charset=utf-8", "//"],
    ["/library/ort-wasm-simd-threaded.wasm", "application/wasm", "\0asm"],
    ["/library/ort-wasm-simd-threaded.asyncify.mjs", "text/javascript; charset=utf-8", ""],
    ["/library/ort-wasm-simd-threaded.asyncify.wasm", "application/wasm", "\0asm"],
  ])("%s is served as %s", async (address, type, start) => {
    const { status, headers, body } = await ask(address);
    expect({ status, type: headers["content-type"] }).toEqual({ status: 200, type });
    expect(body.startsWith(start)).toBe(true);
    expect(Number(headers["content-length"])).toBe(body.length);
  });

  it("the model's files are served to the byte, and again only after a change", async () => {
    const { body, headers } = await ask("/model/onnx/model_q4.onnx?v=1");
    expect(Buffer.from(body, "latin1").equals(readFileSync(path("onnx/onnx/model_q4.onnx")))).toBe(true);
    const again = await ask("/model/onnx/model_q4.onnx", { headers: { "if-none-match": headers.etag as string } });
    expect({ status: again.status, body: again.body }).toEqual({ status: 304, body: "" });
  });

  it("a HEAD request gets headers only", async () => {
    const { status, headers, body } = await ask("/model/onnx/model.onnx", { method: "HEAD" });
    expect({ status, body }).toEqual({ status: 200, body: "" });
    expect(Number(headers["content-length"])).toBe(readFileSync(path("onnx/onnx/model.onnx")).length);
  });

  it("headers isolate the page and keep it from other hosts", async () => {
    const { headers } = await ask("/");
    expect(headers["cross-origin-opener-policy"]).toBe("same-origin");
    expect(headers["cross-origin-embedder-policy"]).toBe("require-corp");
    expect(headers["content-security-policy"]).toContain("default-src 'none'");
    expect(headers["content-security-policy"]).not.toContain("http");
  });

  it("model.json describes the model to the page", async () => {
    expect(JSON.parse((await ask("/model.json")).body)).toMatchObject({
      variant: "dense",
      parameters: 128_768,
      precisions: [{ precision: "fp32" }, { precision: "q4", dtype: "q4" }],
    });
  });
});

describe("requests that the server refuses", () => {
  it.each([
    "/../secret.txt",
    "/model/../../secret.txt",
    "/model/..%2f..%2fsecret.txt",
    "/model/%2e%2e/%2e%2e/secret.txt",
    "/model/....//secret.txt",
    "/model\\..\\..\\secret.txt",
    "//etc/passwd",
    "/model//etc/passwd",
    "/model/onnx/",
    "/model",
    "/model/nfc.json",
    "/model/notes.txt",
    "/model/%00",
    "/__proto__",
    "/constructor",
    "/index.html%00.js",
    "/package.json",
    "/library/../package.json",
    `/${"a".repeat(5000)}`,
  ])("the address %s is not found", async (address) => {
    const { status, body } = await ask(address);
    expect({ status, body }).toEqual({ status: 404, body: "not found\n" });
  });

  it.each(["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])("the method %s is not allowed", async (method) => {
    const { status, headers } = await ask("/", { method });
    expect({ status, allow: headers.allow }).toEqual({ status: 405, allow: "GET, HEAD" });
  });

  it.each([
    "evil.example",
    "evil.example:PORT",
    "127.0.0.1",
    "127.0.0.1.evil.example:PORT",
    "127.0.0.1:PORT:1",
    "[::1]:PORT",
  ])("another site's name that points to this machine is refused: %s", async (host) => {
    const { status } = await ask("/model.json", { headers: { host: host.replace("PORT", String(served.port)) } });
    expect(status).toBe(403);
  });

  it("a file that has become a link after the start is not found", async () => {
    await exported(MODEL, path("later"));
    const other = await serve(path("later"), { port: 0 });
    try {
      const file = path("later/tokenizer.json");
      renameSync(file, `${file}.old`);
      symlinkSync(path("secret.txt"), file);
      expect((await ask("/model/tokenizer.json", { port: other.port })).status).toBe(404);
      rmSync(file);
      expect((await ask("/model/tokenizer.json", { port: other.port })).status).toBe(404);
    } finally {
      await other.close();
    }
  });

  it("other machines get no connection, because the server listens on 127.0.0.1 only", async () => {
    const addresses = Object.values(networkInterfaces()).flatMap((list = []) => list);
    const outward = addresses.find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.2";
    const refused = await new Promise((resolve) => {
      const sent = request({ host: outward, port: served.port, path: "/" }, () => resolve("answered"));
      sent.on("error", (error: NodeJS.ErrnoException) => resolve(error.code));
      sent.end();
    });
    expect(refused).toBe("ECONNREFUSED");
  });
});

describe("folders and ports that are refused before the server starts", () => {
  const spoiled = (name: string, spoil: (folder: string) => void): string => {
    cpSync(path("onnx"), path(name), { recursive: true });
    spoil(path(name));
    return path(name);
  };

  it.each<[string, (folder: string) => void, string]>([
    ["no tokenizer", (folder) => rmSync(join(folder, "tokenizer.json")), "has no tokenizer.json"],
    ["no model file", (folder) => rmSync(join(folder, "onnx"), { recursive: true }), "onnx"],
    [
      "a config that disagrees",
      (folder) => {
        const file = join(folder, "config.json");
        writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), n_layer: 3 }));
      },
      "n_layer",
    ],
    [
      "a tokenizer elsewhere",
      (folder) => {
        rmSync(join(folder, "tokenizer.json"));
        symlinkSync(path("secret.txt"), join(folder, "tokenizer.json"));
      },
      "is a link that leads out of",
    ],
    [
      "model files elsewhere",
      (folder) => {
        rmSync(join(folder, "onnx/model.onnx"));
        symlinkSync(path("onnx/onnx/model.onnx"), join(folder, "onnx/model.onnx"));
      },
      "is a link that leads out of",
    ],
  ])("a folder with %s is refused", async (name, spoil, fact) => {
    const error = await failureOf(() => serve(spoiled(name, spoil), { port: 0 }));
    expect(`${error.message} ${error.hint}`).toContain(fact);
  });

  it("a port that is in use is refused", async () => {
    const error = await failureOf(() => serve(path("onnx"), { port: served.port }));
    expect(error).toMatchObject({ code: "io", message: `port ${served.port}: another program uses it` });
    expect(error.hint).toContain("--port");
  });
});

it("without a port the server takes the first free one, and frees it at the end", async () => {
  const first = await serve(path("onnx"));
  const second = await serve(path("onnx"));
  expect(second.port).toBeGreaterThan(first.port);
  await first.close();
  await second.close();
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port: first.port, host: "127.0.0.1" }, () => resolve());
  });
  await new Promise((resolve) => server.close(resolve));
});

it("a q4 file whose table is looked up in float16, as older versions wrote it, is told apart, with the way to a new one", async () => {
  await exported(MODEL, path("older"), { precisions: ["int8", "q4"] });
  const file = path("older/onnx/model_q4.onnx");
  const { model, graph } = decoded(path("older"), file);
  const table = graph.node.find(({ opType, input }) => opType === "Cast" && input?.[0] === "wpe.weight")?.output?.[0];
  for (const { input = [] } of graph.node) if (input?.[0] === table) input?.splice(0, 1, "wpe.weight");
  writeFileSync(file, (model.constructor as unknown as typeof Onnx.ModelProto).encode(model).finish());
  const older = await serve(path("older"), { port: 0 });
  const newer = await serve(path("onnx"), { port: 0 });
  try {
    const describe = ({ info }: Served) => info.precisions.find(({ precision }) => precision === "q4");
    const advice = expect.stringContaining("nfc export MODEL --onnx --precision q4 -o FOLDER");
    expect(describe(older)).toMatchObject({ halfFloats: true, webgpuAdvice: advice });
    expect(older.info.preferred).toEqual({ wasm: "int8", webgpu: { half: "q4", full: null } });
    expect(describe(newer)).toMatchObject({ halfFloats: false, webgpuAdvice: null });
    expect(newer.info.preferred.webgpu).toEqual({ half: "q4", full: "q4" });
  } finally {
    await older.close();
    await newer.close();
  }
});

it("where transformers.js is not installed, the page takes it from one CDN only", async () => {
  mkdirSync(path("nowhere"), { recursive: true });
  const other = await serve(path("onnx"), { port: 0, libraryFolders: [path("nowhere")] });
  try {
    expect(other.cdn).toBe(true);
    expect(existsSync(path("nowhere/node_modules"))).toBe(false);
    expect((await ask("/library/transformers.min.js", { port: other.port })).status).toBe(404);
    const policy = (await ask("/", { port: other.port })).headers["content-security-policy"] as string;
    expect(policy.match(/https?:\/\/\S+/g)?.every((origin) => /^https:\/\/cdn\.jsdelivr\.net;?$/.test(origin))).toBe(
      true,
    );
  } finally {
    await other.close();
  }
});
