// Converting the fixture to narrower values, alone and with every form of the scores.
import { describe, expect, it } from "vitest";
import { evaluate } from "../../../src/inference/score/evaluate.ts";
import { countParameters, listParameters } from "../../../src/model/parameters.ts";
import { VARIANTS, type Variant } from "../../../src/model/variants.ts";
import { bytesOf, columns, converted, MODEL, opened, TEXT } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("values");
const text = { strategy: "calibrated", calibration: [TEXT] } as const;
const CONVERTED = VARIANTS.filter((variant): variant is Exclude<Variant, "dense"> => variant !== "dense");

/** The weights and biases whose columns begin with those of the scores, and their rows. */
const C_ATTN = [0, 1].flatMap((layer) => [
  [`h.${layer}.attn.c_attn.weight`, 64] as const,
  [`h.${layer}.attn.c_attn.bias`, 1] as const,
]);

const measure = (folder: string) => opened(folder, (model) => evaluate(model, { text: [TEXT], threads: 1 }));

describe("values of a lower rank in the fixture", () => {
  it("half of the values lose almost nothing, and a quarter more", async () => {
    const source = await measure(MODEL);
    const scores = { variant: "low-rank", qkRank: 16 } as const;
    const { record, parameters } = await converted({ output: path("half"), ...scores, voRank: 8, ...text });
    const saved = 2 * (2 * 64 * 32 + 32); // v and c_proj of both layers, and the bias of v
    expect(parameters.before - parameters.after).toBe(saved);
    expect((await measure(path("half"))).perplexity / source.perplexity).toBeLessThan(1.003);
    const cut = record.cuts?.find(({ axis }) => axis === "values");
    expect(cut).toMatchObject({ strategy: "calibrated", calibration: { file: TEXT }, ranks: [8, 8] });
    await converted({ output: path("quarter"), ...scores, voRank: 4, ...text });
    const [half, quarter] = [await measure(path("half")), await measure(path("quarter"))];
    expect(quarter.perplexity).toBeGreaterThan(half.perplexity);
  });

  it.each(CONVERTED)("they go with %s, whose scores stay what they are without", async (variant) => {
    const [narrow, whole] = [path(`${variant}-narrow`), path(`${variant}-whole`)];
    const options = { variant, strategy: "spectral" } as const;
    const { config, parameters } = await converted({ output: narrow, ...options, voRank: 5 });
    await converted({ output: whole, ...options });
    expect(config.vo_ranks).toEqual([5, 5]);
    await opened(narrow, (model) =>
      opened(whole, async (other) => {
        expect(model.config).toEqual(config);
        expect(countParameters(model.config)).toBe(parameters.after);
        for (const { name, shape } of listParameters(model.config)) {
          expect(model.reader.tensors.get(name)?.shape, name).toEqual(shape);
          if (!name.includes(".c_attn.") && !name.includes("attn.c_proj"))
            expect((await bytesOf(model, name)).equals(await bytesOf(other, name)), name).toBe(true);
        }
        for (const [name, rows] of C_ATTN) {
          const [after, before] = [await model.readF32(name), await other.readF32(name)];
          const scores = before.length / rows - 64;
          expect(after.length / rows, name).toBe(scores + 4 * 5);
          expect(columns(after, rows, 0, scores), name).toEqual(columns(before, rows, 0, scores));
        }
      }),
    );
    expect(Number.isFinite((await measure(narrow)).perplexity)).toBe(true);
  });
});
