// Converting the fixture to low-rank attention: what is lost, what is kept, and what the folder says of it.
import { describe, expect, it } from "vitest";
import { evaluate } from "../../src/inference/score/evaluate.ts";
import { countParameters, listParameters } from "../../src/model/parameters.ts";
import { bytesOf, columns, converted, MODEL, opened, TEXT } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

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
