// Caches narrower than GPT-2's heads: clients that do not know the width start them, and every precision has them.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { onnx as Onnx } from "onnx-proto";
import { describe, expect, it } from "vitest";
import { encodeFloats } from "../../../src/formats/dtype.ts";
import { Session, type Tensor } from "../../../src/graph/session.ts";
import { chooseFile, openExportedModel } from "../../../src/inference/exported/exported-model.ts";
import { Decoder } from "../../../src/inference/generate/decoder.ts";
import { makePromptFeeds, makeStepFeeds, takeCache } from "../../../src/inference/generate/decoder-feeds.ts";
import type { Precision } from "../../../src/model/precision.ts";
import { decoded, exported, TEXTLESS as PRECISIONS, PROMPTS } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL, opened } from "../../support/fixture.ts";
import { worstOf } from "../../support/golden-models.ts";
import { greedy } from "../../support/greedy.ts";
import { type Form, formOf } from "../../support/narrow-models.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("narrow-cache");
/** D of the fixture, with which transformers.js makes every empty cache. */
const [HEADS, SIZE] = [4, 16];

/** All forms with widths of their own: [name, form, widths of keys and values by layer]. */
// biome-ignore format: one form a line
const FORMS: [string, Form, number[][]][] = [
  ["narrow keys", { variant: "low-rank", qk: 8 }, [[8, 16], [8, 16]]],
  ["narrow keys and values", { variant: "low-rank", qk: 4, vo: 4 }, [[4, 4], [4, 4]]],
  ["widths by layer", { variant: "low-rank", qk: [8, 16], vo: [16, 6] }, [[8, 16], [16, 6]]],
  ["narrow values of a tied model", { variant: "symmetric", vo: 8 }, [[16, 8], [16, 8]]],
  ["narrow values beside distance means", { variant: "noise-distance", vo: 5 }, [[16, 5], [16, 5]]],
  ["narrow values of a pairwise model", { variant: "pairwise", vo: 3 }, [[16, 3], [16, 3]]],
];

async function exportedForm(name: string, form: Form, precisions: readonly Precision[]): Promise<string> {
  const folder = path(`${name} onnx`);
  if (!existsSync(folder)) await exported(await formOf(MODEL, path(name), form), folder, { precisions });
  return folder;
}

/** The empty cache of a client that knows n_embd / n_head alone. */
function startAsGpt2(feeds: Record<string, Tensor>): Record<string, Tensor> {
  const wide = Object.entries(feeds).map(([name, tensor]) =>
    name.startsWith("past_key_values")
      ? [name, { ...tensor, shape: [PROMPTS.length, HEADS, 0, SIZE] }]
      : [name, tensor],
  );
  return Object.fromEntries(wide);
}

describe.each(FORMS)("an export with %s", (name, form, widths) => {
  it.each(PRECISIONS)("the %s file starts from an empty cache as wide as GPT-2's, and goes on", async (precision) => {
    const folder = await exportedForm(name, form, PRECISIONS);
    const model = await openExportedModel(folder);
    const file = chooseFile(model, precision);
    const session = await Session.fromFile(file.path, { threads: 1 });
    const own = makePromptFeeds(PROMPTS, model.config, { cacheDtype: file.cacheDtype });
    const [first, wide] = [await session.run(own), await session.run(startAsGpt2(own))];
    const shapes = widths.flatMap((pair, layer) =>
      pair.map((width, i) => [`present.${layer}.${i === 0 ? "key" : "value"}`, [2, HEADS, 8, width]]),
    );
    const presentIn = (outputs: typeof first) =>
      Object.entries(outputs).flatMap(([key, { shape }]) => (key === "logits" ? [] : [[key, shape]]));
    expect(presentIn(wide)).toEqual(shapes);
    for (const key of Object.keys(first)) expect(wide[key]?.data, key).toEqual(first[key]?.data);
    const step = makeStepFeeds(own, [[7], [8]], takeCache(wide));
    expect((await session.run(step)).logits?.data).toEqual(
      (await session.run(makeStepFeeds(own, [[7], [8]], takeCache(first)))).logits?.data,
    );
    await session.close();
  });

  it("the cache of a prompt gives what reading the whole text does", async () => {
    const model = await openExportedModel(await exportedForm(name, form, PRECISIONS));
    const decoder = await Decoder.ofFile(chooseFile(model, "fp32"), model.config, { threads: 1 });
    const checkpoint = await opened(path(name), (each) => Decoder.ofCheckpoint(each, { threads: 1 }));
    const [text, again] = [await greedy(decoder, PROMPTS, 8), await greedy(checkpoint, PROMPTS, 8)];
    expect(text).toEqual(again);
    const whole = [...(PROMPTS[0] as number[]), ...(text[0] as number[])];
    const [last] = await decoder.prompt([whole.slice(0, -1)]);
    expect(last?.indexOf(Math.max(...(last as Float32Array)))).toBe(whole.at(-1));
    await decoder.close();
    await checkpoint.close();
  });
});

it("a past that has positions of another width is refused", async () => {
  const folder = await exportedForm("narrow keys", { variant: "low-rank", qk: 8 }, PRECISIONS);
  const { config } = await openExportedModel(folder);
  const session = await Session.fromFile(join(folder, "onnx/model.onnx"), { threads: 1 });
  const own = makePromptFeeds(PROMPTS, config);
  const first = await session.run(own);
  const cache = takeCache(first);
  const key = "past_key_values.0.key";
  const wide = { ...cache, [key]: { ...(cache[key] as Tensor), shape: [2, HEADS, 4, SIZE] } };
  await expect(session.run(makeStepFeeds(own, [[7], [8]], wide))).rejects.toThrow(/Concat/);
  await session.close();
});

describe("the declared shapes of an export", () => {
  it("only widths that differ from n_embd / n_head are named", async () => {
    const [, form] = FORMS[2] as (typeof FORMS)[number];
    const { graph } = decoded(await exportedForm("widths by layer", form, PRECISIONS));
    const last = (info: Onnx.IValueInfoProto) => info.type?.tensorType?.shape?.dim?.at(-1);
    const inputs = graph.input.filter(({ name }) => name?.startsWith("past"));
    expect(inputs.map((info) => last(info)?.dimParam || Number(last(info)?.dimValue))).toEqual([
      ...["key_size_0", 16],
      ...[16, "value_size_1"],
    ]);
    const outputs = graph.output.filter(({ name }) => name?.startsWith("present"));
    expect(outputs.map((info) => Number(last(info)?.dimValue))).toEqual([8, 16, 16, 6]);
  });

  it.each([
    ["another rank", { nfc_qk_rank: 4 }, "the heads of present.0.key are 8 wide, but 4 is their rank in"],
    ["the rank of values alone", { nfc_qk_rank: 16, nfc_vo_rank: 8 }, "past_key_values.0.key is [batch_size, 4,"],
    ["a full rank", { nfc_qk_rank: 16 }, "past_key_values.0.key is [batch_size, 4,"],
    ["no narrow variant", { nfc_qk_rank: undefined, nfc_variant: "symmetric" }, "nfc.json says low-rank"],
  ])("an export beside a config.json of %s is refused", async (name, keys, fact) => {
    const folder = path(`mixed ${name}`);
    await exported(path("narrow keys"), folder);
    const file = join(folder, "config.json");
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...keys }));
    const error = await failureOf(() => openExportedModel(folder));
    expect(error.message).toContain(fact);
    expect(error.message).toContain(folder);
    expect(error.hint).toBeTruthy();
  });
});

describe("the form A of a pairwise model", () => {
  const bytesIn = async (precision: Precision) => {
    const folder = path("pair");
    if (!existsSync(folder))
      await exported(await formOf(MODEL, path("pair model"), { variant: "pairwise" }), folder, {
        precisions: PRECISIONS,
      });
    const { files } = await openExportedModel(folder);
    const proto = decoded(folder, files.get(precision)?.path).graph.initializer;
    return proto.filter(({ name }) => name === "h.1.attn.pair");
  };

  it.each(["fp32", "int8", "uint8", "q4"] as const)("A is stored in float32 in the %s file", async (precision) => {
    const [pair, other] = await bytesIn(precision);
    expect(other).toBeUndefined();
    expect(pair?.dims?.map(Number)).toEqual([HEADS, SIZE, SIZE]);
    const values = await opened(path("pair model"), (checkpoint) => checkpoint.readF32("h.1.attn.pair"));
    expect(worstOf(floatsOf(pair?.rawData as Uint8Array), values)).toBe(0);
  });

  it.each(["fp16", "q4f16"] as const)("A is stored in float16 in the %s file", async (precision) => {
    const [pair] = await bytesIn(precision);
    const values = await opened(path("pair model"), (checkpoint) => checkpoint.readF32("h.1.attn.pair"));
    expect(Buffer.from(pair?.rawData as Uint8Array)).toEqual(Buffer.from(encodeFloats(values, "F16")));
  });
});

function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(Uint8Array.from(bytes).buffer);
}
