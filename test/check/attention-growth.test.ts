// Queries and keys that have come back since the baseline are found in every precision and form; other changes are none.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { checkSizes } from "../../src/check/check-sizes.ts";
import { nameModelFile, PRECISIONS } from "../../src/model/precision.ts";
import { exported } from "../support/exported.ts";
import { MODEL } from "../support/fixture.ts";
import { type TinyOptions, writeCheckpoint } from "../support/make-checkpoint.ts";
import { type Form, formOf } from "../support/narrow-models.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("attention-growth");
const repo = path("repo");
const BASELINE = `${repo}/nfc.baseline.json`;

beforeEach(() => {
  rmSync(repo, { recursive: true, force: true });
  mkdirSync(repo);
});

const configure = (...models: object[]) => writeFileSync(`${repo}/nfc.size.json`, JSON.stringify({ models }));
const put = (from: string, to: string) => cpSync(from, `${repo}/${to}`, { recursive: true });
const failuresOf = async () => (await checkSizes({ folder: repo })).models.map(({ failures }) => failures);

/** The entries of the baseline file, as plain JSON. */
function readEntries(): Record<string, Record<string, unknown>> {
  return JSON.parse(readFileSync(BASELINE, "utf8")).models;
}

/** Makes the baseline one of an earlier version, which knew the columns of `attention` in few formats. */
function forgetColumns(attention?: null) {
  const baseline = JSON.parse(readFileSync(BASELINE, "utf8"));
  for (const entry of Object.values<Record<string, unknown>>(baseline.models)) {
    entry.queryKey = undefined;
    if (attention === null) entry.attention = null;
  }
  writeFileSync(BASELINE, JSON.stringify(baseline));
}

const TIED = "K is back in c_attn: 3C columns where the baseline has 2C: convert the model again";
const grown = (now: string, before: string) =>
  `Q and K have grown in c_attn: ${now}C columns a layer where the baseline has ${before}C: convert the model again`;

/** Heads of the fixture have 16 numbers. */
const FORMS: [name: string, form: Form, fault: string, withoutParts: string][] = [
  ["symmetric", { variant: "symmetric" }, TIED, grown("2", "1")],
  ["pairwise", { variant: "pairwise" }, TIED, grown("2", "1.246")], // A counts with c_attn: 1 + 16 / 65
  ["low-rank", { variant: "low-rank", qk: 8 }, TIED, grown("2", "1")],
  ["low-rank-4", { variant: "low-rank", qk: 4 }, grown("2", "0.5"), grown("2", "0.5")],
  ["low-rank-12", { variant: "low-rank", qk: 12 }, grown("2", "1.5"), grown("2", "1.5")],
  ["low-rank-12-6", { variant: "low-rank", qk: [12, 6] }, grown("2", "1.125"), grown("2", "1.125")],
  ["symmetric-v-8", { variant: "symmetric", vo: 8 }, grown("2", "1"), grown("2", "1")],
];

describe("a dense model in the place of one with fewer columns of Q and K", () => {
  const all = { precisions: PRECISIONS };
  beforeAll(async () => {
    await exported(MODEL, path("dense"), all);
    for (const [name, form] of FORMS) await exported(await formOf(MODEL, path(`${name}-model`), form), path(name), all);
  });

  const putAll = (from: (name: string) => string, to: (name: string) => string) => {
    for (const [name] of FORMS) put(from(name), to(name));
  };

  it.each(PRECISIONS)(
    "in %s fails against every form, also with the baseline of an earlier version",
    async (precision) => {
      const file = `onnx/${nameModelFile(precision)}`;
      const place = (name: string) => `${name}.onnx`;
      putAll((name) => `${path(name)}/${file}`, place);
      configure(...FORMS.map(([name]) => ({ path: place(name), maxGrowth: "100 %" })));
      await checkSizes({ folder: repo, updateBaseline: true });
      expect((await failuresOf()).flat()).toEqual([]);
      putAll(() => `${path("dense")}/${file}`, place);
      expect(await failuresOf()).toEqual(FORMS.map(([, , fault]) => [fault]));
      forgetColumns();
      expect(await failuresOf()).toEqual(FORMS.map(([, , fault]) => [fault]));
      forgetColumns(null);
      expect(await failuresOf()).toEqual(FORMS.map(([, , , fault]) => [fault]));
      putAll((name) => `${path(name)}/${file}`, place);
      expect((await failuresOf()).flat()).toEqual([]);
    },
  );

  it("as a checkpoint fails too, unless the configuration allows k-in-c_attn", async () => {
    const place = (name: string) => `${name}.safetensors`;
    putAll((name) => `${path(`${name}-model`)}/model.safetensors`, place);
    configure(...FORMS.map(([name]) => ({ path: place(name) })));
    await checkSizes({ folder: repo, updateBaseline: true });
    putAll(() => `${MODEL}/model.safetensors`, place);
    expect(await failuresOf()).toEqual(FORMS.map(([, , fault]) => [fault]));
    configure(...FORMS.map(([name]) => ({ path: place(name), allow: ["k-in-c_attn"] })));
    expect((await failuresOf()).flat()).toEqual([]);
  });
});

/** A model with heads of 8 numbers. */
type Small = TinyOptions & Partial<Form>;
let made = 0;

async function makeSmall({ variant = "dense", qk, vo, ...options }: Small): Promise<string> {
  const dense = await writeCheckpoint(path(`small-${made++}`), { width: 16, ...options });
  if (variant === "dense") return dense;
  return formOf(dense, path(`small-${made++}`), {
    variant,
    ...(qk !== undefined && { qk }),
    ...(vo !== undefined && { vo }),
  });
}

/** The failures of `now` against the baseline of `before`; `old`: against one that an earlier version wrote. */
async function compare(before: Small, now: Small): Promise<{ own: string[]; old: string[] }> {
  put(`${await makeSmall(before)}/model.safetensors`, "model.safetensors");
  configure({ path: "model.safetensors" });
  await checkSizes({ folder: repo, updateBaseline: true });
  put(`${await makeSmall(now)}/model.safetensors`, "model.safetensors");
  const own = (await failuresOf()).flat();
  forgetColumns(null);
  return { own, old: (await failuresOf()).flat() };
}

const lowRank = (qk: Form["qk"], others: Small = {}): Small => ({ variant: "low-rank", ...(qk && { qk }), ...others });

describe("changes of attention against a baseline", () => {
  it.each<[string, Small, Small, string]>([
    ["higher ranks", lowRank(2), lowRank(6), grown("1.5", "0.5")],
    ["a higher rank in one layer", lowRank([2, 4]), lowRank([2, 5]), grown("0.875", "0.75")],
    ["wider q and k in c_attn of the same width", lowRank(4), lowRank(6, { vo: 4 }), grown("1.5", "1")],
    ["q and k that come back while v narrows", lowRank(2), { variant: "low-rank", qk: 8, vo: 2 }, grown("2", "0.5")],
    ["higher ranks without biases", lowRank(2, { bias: false }), lowRank(6, { bias: false }), grown("1.5", "0.5")],
  ])("%s fail, also with the baseline of an earlier version", async (_, before, now, fault) => {
    expect(await compare(before, now)).toEqual({ own: [fault], old: [fault] });
  });

  it.each<[string, Small, Small, string]>([
    ["low-rank of even ranks", lowRank(6), { layers: 1 }, grown("2", "1.5")],
    ["low-rank of uneven ranks", lowRank([6, 2]), { layers: 1 }, grown("2", "1")],
    ["symmetric", { variant: "symmetric", layers: 4 }, { layers: 1 }, TIED],
    ["symmetric with narrow v", { variant: "symmetric", layers: 4, vo: 4 }, { layers: 1 }, grown("2", "1")],
  ])("a dense model of fewer layers fails against one that is %s", async (_, before, now, fault) => {
    expect((await compare(before, now)).own).toEqual([fault]);
  });

  it.each<[string, Small, Small]>([
    ["dense, and stays so", {}, {}],
    ["dense, and loses layers", { layers: 3 }, { layers: 2 }],
    ["dense, and loses hidden units", {}, { inner: 16 }],
    ["dense, and becomes symmetric", {}, { variant: "symmetric" }],
    ["dense, and gets further layers", { layers: 1 }, { layers: 3 }],
    ["dense, and gets another width", { width: 8 }, { width: 24 }],
    ["symmetric, and gets further layers", { variant: "symmetric" }, { variant: "symmetric", layers: 3 }],
    ["symmetric, and loses tokens", { variant: "symmetric" }, { variant: "symmetric", vocab: 7 }],
    ["symmetric, and gets another width", { variant: "symmetric", width: 8 }, { variant: "symmetric", width: 24 }],
    ["symmetric, and becomes pairwise", { variant: "symmetric" }, { variant: "pairwise" }],
    ["pairwise, and becomes symmetric", { variant: "pairwise" }, { variant: "symmetric" }],
    ["symmetric, and v narrows", { variant: "symmetric" }, { variant: "symmetric", vo: 4 }],
    ["symmetric with narrow v that widens", { variant: "symmetric", vo: 4 }, { variant: "symmetric" }],
    ["low-rank, and becomes a tie of as many columns", lowRank(4), { variant: "symmetric" }],
    ["low-rank with three quarters of a head for q, and stays so", lowRank(6, { vo: 4 }), lowRank(6, { vo: 4 })],
    ["low-rank, and loses tokens", lowRank(3), lowRank(3, { vocab: 7 })],
    ["low-rank of ranks that are shared out anew", lowRank([6, 2]), lowRank([5, 3])],
    ["low-rank of ranks that change places", lowRank([3, 7, 1], { layers: 3 }), lowRank([1, 3, 7], { layers: 3 })],
    ["low-rank, and loses the layer of the lower rank", lowRank([6, 2]), lowRank(6, { layers: 1 })],
    [
      "low-rank of 64 % of a head, which is 61 ranks in 12 layers and 51 in 10",
      lowRank([...Array<number>(11).fill(5), 6], { layers: 12 }),
      lowRank([8, 7, 5, 5, 5, 5, 4, 4, 4, 4], { layers: 10 }),
    ],
    ["low-rank without biases, and stays so", lowRank([6, 2], { bias: false }), lowRank([6, 2], { bias: false })],
  ])("a model that was %s passes, also with the baseline of an earlier version", async (_, before, now) => {
    expect(await compare(before, now)).toEqual({ own: [], old: [] });
  });
});

describe("the columns of Q and K in a baseline", () => {
  it("layers are counted by their columns, of all models that an entry names", async () => {
    const [uneven, narrow, narrower] = [
      await makeSmall(lowRank([6, 2])),
      await makeSmall({ variant: "symmetric", vo: 4 }),
      await makeSmall({ variant: "symmetric", vo: 2 }),
    ];
    put(uneven, "uneven");
    put(narrow, "both/a");
    put(narrower, "both/b");
    configure({ path: "uneven" }, { path: "both" });
    await checkSizes({ folder: repo, updateBaseline: true });
    const { uneven: first, both } = readEntries();
    expect([first, both]).toMatchObject([
      { attention: null, queryKey: { 1.5: 1, 0.5: 1 } },
      { attention: null, queryKey: { 1: 4 } },
    ]);
  });

  it("shards and matrices that are turned have the columns of their model", async () => {
    await writeCheckpoint(`${repo}/shards`, { variant: "low-rank", width: 16, shards: 5 });
    await writeCheckpoint(`${repo}/turned`, { width: 16, layout: "linear" });
    configure({ path: "shards" }, { path: "turned" });
    await checkSizes({ folder: repo, updateBaseline: true });
    const { shards, turned } = readEntries();
    expect([shards, turned]).toMatchObject([
      { attention: 2, queryKey: { 1: 2 } },
      { attention: 3, queryKey: { 2: 2 } },
    ]);
  });

  it("a file without attention has none, and is not held against any", async () => {
    put(`${await makeSmall(lowRank(2))}/model.safetensors`, "model.safetensors");
    configure({ path: "model.safetensors" });
    await checkSizes({ folder: repo, updateBaseline: true });
    await writeCheckpoint(repo, {
      tensors: [{ name: "wte.weight", dtype: "F32", shape: [1, 1], bytes: new Uint8Array(4) }],
    });
    expect((await failuresOf()).flat()).toEqual([]);
    await checkSizes({ folder: repo, updateBaseline: true });
    expect(readEntries()["model.safetensors"]).not.toHaveProperty("queryKey");
    put(`${await makeSmall({})}/model.safetensors`, "model.safetensors");
    expect((await failuresOf()).flat()).toEqual([]);
  });
});
