// The same exported bytes in onnxruntime-web (WebAssembly) and onnxruntime-node: equal logits, equal next cache.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
import { beforeAll, describe, expect, it } from "vitest";
import { Session, type Tensor } from "../../src/graph/session.ts";
import { cacheOf, promptFeeds, stepFeeds } from "../../src/inference/decoding.ts";
import { exported, modelOf, PROMPTS } from "../support/exported.ts";
import { opened } from "../support/fixture.ts";
import { worstOf } from "../support/golden-models.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("ecosystem-web");

beforeAll(() => {
  ort.env.wasm.numThreads = 1;
});

type Feeds = Record<string, Tensor>;

async function webSession(folder: string, external: boolean): Promise<(feeds: Feeds) => Promise<Feeds>> {
  const data = () => readFileSync(`${folder}/onnx/model.onnx_data`);
  const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(`${folder}/onnx/model.onnx`)), {
    executionProviders: ["wasm"],
    ...(external && { externalData: [{ path: "model.onnx_data", data: new Uint8Array(data()) }] }),
  });
  return async (feeds) => {
    const inputs = Object.entries(feeds).map(([name, { dtype, data: values, shape }]) => {
      return [name, new ort.Tensor(dtype as "float32", values as Float32Array, shape)] as const;
    });
    const outputs = await session.run(Object.fromEntries(inputs));
    return Object.fromEntries(
      Object.entries(outputs).map(([name, { type, data: values, dims }]) => [
        name,
        { dtype: type, data: values, shape: dims } as Tensor,
      ]),
    );
  };
}

describe.each([
  ["noise-distance", "inline"],
  ["noise-distance", "shared"],
  ["symmetric", "external"],
  ["dense", "inline"],
] as const)("%s with weights %s", (variant, weights) => {
  it("runs in the browser's runtime as in Node's, from prompt to cached step", async () => {
    const source = await modelOf(variant, path(`source-${variant}-${weights}`));
    const folder = path(`${variant}-${weights}`);
    await exported(source, folder, { weights });
    const config = await opened(source, (model) => model.config);
    const web = await webSession(folder, weights !== "inline");
    const node = await Session.fromFile(`${folder}/onnx/model.onnx`, { threads: 1 });
    const padded = promptFeeds([PROMPTS[0]?.slice(0, 5) ?? [], PROMPTS[1] ?? []], config);
    const [first, own] = [await web(padded), await node.run(padded)];
    expect(Object.keys(first).sort()).toEqual(Object.keys(own).sort());
    const step = (outputs: Feeds) => stepFeeds(padded, [[7], [8]], cacheOf(outputs));
    const [second, ownSecond] = [await web(step(first)), await node.run(step(own))];
    for (const [a, b] of [
      [first, own],
      [second, ownSecond],
    ] as const)
      for (const name of Object.keys(b)) {
        expect(a[name]?.shape).toEqual(b[name]?.shape);
        expect(worstOf(a[name]?.data as Float32Array, b[name]?.data as Float32Array), name).toBeLessThan(1e-4);
      }
    await node.close();
  });
});
