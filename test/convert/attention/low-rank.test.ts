// Converting the fixture to low-rank attention: what is lost, what is kept, and what the folder says of it.
import { describe, expect, it } from "vitest";
import { evaluate } from "../../../src/inference/score/evaluate.ts";
import { countParameters, listParameters } from "../../../src/model/parameters.ts";
import { failureOf } from "../../support/failure.ts";
import { bytesOf, columns, converted, MODEL, opened, TEXT } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("low-rank");
const text = { strategy: "calibrated", calibration: [TEXT] } as const;

const measure = (folder: string) => opened(folder, (model) => evaluate(model, { text: [TEXT], threads: 1 }));

describe("low-rank attention of the fixture", () => {
  it("at the tie's saving the perplexity is the source's", async () => {
    const output = path("half");
    const { record, parameters, config } = await converted({ output, variant: "low-rank", ...text });
    const tied = await opened(MODEL, (source) => countParameters({ ...source.config, variant: "symmetric" }));
    expect(parameters.after).toBe(tied);
    expect(config).toMatchObject({ variant: "low-rank", qk_ranks: [8, 8] });
    const { perplexity } = await measure(output);
    const source = await measure(MODEL);
    expect(perplexity / source.perplexity).toBeLessThan(1.001);
    expect(record.tie).toMatchObject({ strategy: "calibrated", calibration: { file: TEXT } });
    expect(record.tie?.errors.flat().every((error) => error > 0 && error < 0.12)).toBe(true);
  });

  it("fewer numbers lose more", async () => {
    const perplexities: number[] = [];
    for (const qkRank of [6, 4, 2]) {
      const output = path(`rank-${qkRank}`);
      await converted({ output, variant: "low-rank", qkRank, ...text });
      perplexities.push((await measure(output)).perplexity);
    }
    const [six, four, two] = perplexities as [number, number, number];
    expect(six).toBeCloseTo(1.756, 2);
    expect(four).toBeCloseTo(1.844, 1);
    expect(two).toBeGreaterThan(four);
  });

  it("without text the perplexity at the tie's saving is close to the source's", async () => {
    const { record } = await converted({ output: path("spectral"), variant: "low-rank", strategy: "spectral" });
    expect(record.tie).toMatchObject({ strategy: "spectral", calibration: null });
    expect((await measure(path("spectral"))).perplexity / (await measure(MODEL)).perplexity).toBeLessThan(1.01);
  });

  it("every other tensor and v are the source's bytes", async () => {
    const output = path("bytes");
    await converted({ output, variant: "low-rank", qkRank: 3, strategy: "spectral" });
    await opened(output, (model) =>
      opened(MODEL, async (source) => {
        for (const { name, shape } of listParameters(model.config)) {
          expect(model.reader.tensors.get(name)?.shape, name).toEqual(shape);
          const [after, before] = [await bytesOf(model, name), await bytesOf(source, name)];
          const { n_embd: C, n_head: H } = source.config;
          const v = (bytes: Buffer, first: number) =>
            Buffer.concat(columns(bytes, name.endsWith(".bias") ? 1 : C, 4 * first, 4 * C));
          if (name.includes(".c_attn.")) expect(v(after, 2 * H * 3).equals(v(before, 2 * C)), name).toBe(true);
          else expect(after.equals(before), name).toBe(true);
        }
      }),
    );
  });

  it("the rank of the whole head leaves every tensor as it is", async () => {
    const output = path("whole");
    const { record } = await converted({ output, variant: "low-rank", qkRank: 16, ...text });
    expect(record.tie?.errors.flat().every((error) => error === 0)).toBe(true);
    await opened(output, (model) =>
      opened(MODEL, async (source) => {
        for (const { name } of listParameters(model.config))
          expect((await bytesOf(model, name)).equals(await bytesOf(source, name)), name).toBe(true);
      }),
    );
  });

  it.each([
    ["a model without biases", { bias: false }],
    ["a model in float16", { dtype: "F16" }],
  ] as const)("%s is factored too", async (name, options) => {
    const source = await writeCheckpoint(path(name), options);
    const { config } = await converted(
      { output: path(`${name}-out`), variant: "low-rank", strategy: "spectral" },
      source,
    );
    await opened(path(`${name}-out`), async (model) => {
      expect(model.config).toEqual(config);
      for (const { name: tensor } of listParameters(model.config))
        expect((await model.readF32(tensor)).every(Number.isFinite), tensor).toBe(true);
    });
  });
});

describe("ranks shared out over the layers of the fixture", () => {
  it("a percentage is kept on average, and is lost less of than of the same rank in all layers", async () => {
    const even = await converted({ output: path("even"), variant: "low-rank", qkRank: 4, voRank: 8, ...text });
    const shares = { qkRank: { share: 0.25 }, voRank: { share: 0.5 } };
    const { config, parameters } = await converted({ output: path("shared"), variant: "low-rank", ...shares, ...text });
    const sum = (ranks: readonly number[] = []) => ranks.reduce((total, rank) => total + rank, 0);
    expect([sum(config.qk_ranks), sum(config.vo_ranks)]).toEqual([8, 16]);
    expect(parameters).toEqual(even.parameters);
    expect(config.qk_ranks).not.toEqual([4, 4]);
    expect((await measure(path("shared"))).perplexity).toBeLessThan((await measure(path("even"))).perplexity);
  });

  it("without text they are shared out by the weights", async () => {
    const options = { variant: "low-rank", strategy: "spectral", qkRank: { share: 0.5 } } as const;
    const { config } = await converted({ output: path("shared-spectral"), ...options });
    expect(config.qk_ranks?.reduce((a, b) => a + b)).toBe(16);
  });

  it.each<[string, string, Parameters<typeof converted>[0]]>([
    ["a rank above the head's width", "--qk-rank 17 is not from 1 to 16", { output: "", qkRank: 17 }],
    ["a rank of 0", "--vo-rank 0 is not from 1 to 16", { output: "", voRank: 0 }],
    ["a share of less than 1", "--qk-rank 5% of 16 is less than 1", { output: "", qkRank: { share: 0.05 } }],
    [
      "a share above the whole",
      "--vo-rank 120% is not above 0 % and up to 100 %",
      { output: "", voRank: { share: 1.2 } },
    ],
    [
      "ranks of other layers",
      "--qk-rank [3] is not a rank from 1 to 16 for each of 2 layers",
      { output: "", qkRank: [3] },
    ],
    [
      "values of the whole width",
      "--vo-rank of the whole width of the model's heads would save nothing",
      { output: "", voRank: 16 },
    ],
    [
      "a rank of a tied variant",
      "--qk-rank is for --variant low-rank: a symmetric model has no such rank",
      { output: "", variant: "symmetric", qkRank: 8 },
    ],
    [
      "a tie of low-rank attention",
      "--tie mean makes one matrix of Q and K, which is not what a low-rank model has",
      { output: "", strategy: "mean" },
    ],
    [
      "a tie of pairwise attention",
      "--tie key makes one matrix of Q and K, which is not what a pairwise model has",
      { output: "", variant: "pairwise", strategy: "key" },
    ],
  ])("%s is refused", async (_, message, options) => {
    const output = path("refused");
    const error = await failureOf(() => converted({ variant: "low-rank", strategy: "spectral", ...options, output }));
    expect([error.code, error.message]).toEqual(["usage", message]);
  });

  it("a model that is not dense any more is refused", async () => {
    await converted({ output: path("narrow"), variant: "low-rank", strategy: "spectral" });
    const error = await failureOf(() => converted({ output: path("again"), strategy: "spectral" }, path("narrow")));
    expect([error.code, error.message]).toEqual(["unsupported", `${path("narrow")}: not dense (variant low-rank)`]);
  });
});
