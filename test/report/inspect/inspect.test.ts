// What inspect says of a checkpoint: counts, layout, head, what tying would save or has saved.
import { describe, expect, test } from "vitest";
import type { ModelConfig } from "../../../src/model/config.ts";
import { VARIANTS } from "../../../src/model/variants.ts";
import { inspect } from "../../../src/report/inspect/inspect.ts";
import { renderInspection } from "../../../src/report/inspect/inspect-text.ts";
import { fakeCheckpoint, GPT2_SMALL, recordOf, TINY } from "../../support/fake-checkpoint.ts";

const symmetric: ModelConfig = { ...GPT2_SMALL, variant: "symmetric" };

describe("inspect", () => {
  test("the inspection of GPT-2 small counts its parameters and says what tying would save", () => {
    const inspection = inspect(fakeCheckpoint(GPT2_SMALL, { prefix: "transformer.", notes: ["a note"] }));
    expect(inspection).toMatchObject({
      format: "nfc-inspect/1",
      source: "models/base",
      storage: { format: "safetensors", files: ["model.safetensors"], tensors: 148, extra: { tensors: 0, bytes: 0 } },
      layout: { orientation: "conv1d", prefix: "transformer." },
      config: GPT2_SMALL,
      parameters: 124439808,
      bytes: 497759232,
      dtypes: [{ dtype: "F32", tensors: 148 }],
      head: { storage: "tied" },
      tying: { done: false, parameters: 7087104, bytes: 28348416, formula: "L(C^2 + C) = 12 * (768^2 + 768)" },
      notes: ["a note"],
      provenance: null,
    });
    expect(inspection.tying?.percent.toFixed(2)).toBe("5.70");
    expect(inspection.embedding.percent.toFixed(2)).toBe("31.02");
  });

  test("the inspection of a low-rank model has its ranks and what they save, and no word of tying", () => {
    const config: ModelConfig = { ...GPT2_SMALL, variant: "low-rank", qk_ranks: Array<number>(12).fill(32) };
    const inspection = inspect(fakeCheckpoint(config));
    expect(inspection.tying).toBeNull();
    expect(inspection.heads).toMatchObject({ parameters: 7087104, bytes: 28348416 });
    expect(inspection.heads?.percent).toBeCloseTo((100 * 7087104) / 124439808, 12);
    const text = renderInspection(inspection);
    expect(text).toMatch(/^ranks +q and k 32 of 64$/m);
    expect(text).toContain(
      "The ranks of the heads save 7,087,104 parameters (5.70 %), 28.3 MB: 2 H (C + 1) sum(D - r) = 2 * 12 * 769 * 384\n",
    );
    expect(text).not.toMatch(/tying|tied/i);
  });

  test("each further cut of nfc.json is told in one line", () => {
    const cuts = [
      { axis: "mlp", from: 3072, to: 1536, chosen: "weights" },
      { axis: "vocabulary", from: 50, to: 20, kept: [1, 2] },
    ];
    const record = recordOf(fakeCheckpoint(GPT2_SMALL), GPT2_SMALL, { tie: null, cuts });
    const inspection = inspect(fakeCheckpoint(GPT2_SMALL, { record }));
    expect(inspection.provenance?.cuts).toEqual([
      { axis: "mlp", text: "hidden units 3,072 -> 1,536, chosen by their weights" },
      { axis: "vocabulary", text: "vocabulary 50 -> 20 tokens" },
    ]);
    const text = renderInspection(inspection);
    expect(text).toMatch(/^ {2}hidden units 3,072 -> 1,536, chosen by their weights$/m);
    expect(text).toMatch(/^ {2}vocabulary 50 -> 20 tokens$/m);
  });

  test("the inspection of a pairwise model has one projection, and the forms A", () => {
    const text = renderInspection(inspect(fakeCheckpoint({ ...GPT2_SMALL, variant: "pairwise" })));
    expect(text).toContain(
      "Q and K are one projection, which saves 7,087,104 parameters (5.70 %), 28.3 MB: L(C^2 + C)",
    );
    expect(text).toContain("The forms A add 589,824 parameters (0.47 %), 2.4 MB: L H D^2 = 12 * 12 * 64^2\n");
    expect(text).toMatch(/^attention s and A /m);
  });

  test.each(VARIANTS)("the groups of %s add up to its parameters, its bytes and 100 percent", (variant) => {
    const { groups, parameters, bytes } = inspect(
      fakeCheckpoint(
        { ...TINY, variant, tied_head: false, ...(variant !== "dense" && { vo_ranks: [3, 2] }) },
        { dtype: "F16" },
      ),
    );
    expect(groups.reduce((sum, row) => sum + row.parameters, 0)).toBe(parameters);
    expect(groups.reduce((sum, row) => sum + row.bytes, 0)).toBe(bytes);
    expect(groups.reduce((sum, row) => sum + row.percent, 0)).toBeCloseTo(100, 9);
    expect(bytes).toBe(2 * parameters);
  });

  test("the inspection of a tied model gives the saving in percent of the dense one, noise not counted", () => {
    for (const variant of ["symmetric", "noise-distance"] as const) {
      const { tying } = inspect(fakeCheckpoint({ ...symmetric, variant }));
      expect(tying).toMatchObject({ done: true, parameters: 7087104, bytes: 28348416 });
      expect(tying?.percent).toBeCloseTo((100 * 7087104) / 124439808, 12);
    }
  });

  test("the inspection tells nanoGPT's orientation", () => {
    expect(inspect(fakeCheckpoint(TINY, { transposed: true })).layout.orientation).toBe("linear");
  });

  test("the inspection is plain data, and JSON keeps all of it", () => {
    const inspection = inspect(fakeCheckpoint(TINY, { record: recordOf(fakeCheckpoint(TINY), TINY) }));
    expect(JSON.parse(JSON.stringify(inspection))).toEqual(inspection);
  });
});

describe("the text of an inspection", () => {
  test("the text for a tiny dense model is exactly this", async () => {
    const masks = [{ name: "h.0.attn.bias", dtype: "BOOL" as const, shape: [1, 1, 20, 20] }];
    const notes = ["1 attention mask buffer dropped (not parameters)"];
    const text = renderInspection(inspect(fakeCheckpoint(TINY, { unused: masks, notes })));
    await expect(text).toMatchFileSnapshot("snapshots/inspect.txt");
  });

  test("the text for a tiny tied model with its own head is exactly this", async () => {
    const config: ModelConfig = {
      ...TINY,
      variant: "noise-shared",
      tied_head: false,
      scale_attn_by_inverse_layer_idx: true,
    };
    const record = recordOf(fakeCheckpoint(TINY), config, {
      tool: { name: "nfc", version: "1.2.3" },
      history: [{ step: "distill" }],
    });
    const text = renderInspection(
      inspect(fakeCheckpoint(config, { record, transposed: true, prefix: "transformer." })),
    );
    await expect(text).toMatchFileSnapshot("snapshots/inspect-tied.txt");
  });

  test("the text points out a copied head", () => {
    const copy = [{ name: "lm_head.weight", dtype: "F32" as const, shape: [50257, 768] }];
    const text = renderInspection(inspect(fakeCheckpoint(GPT2_SMALL, { unused: copy })));
    expect(text).toContain("note: the head is stored twice, as a copy of the token embedding, 154.4 MB: more than");
    expect(text).not.toContain("not parameters");
  });

  test("a name from a file cannot move the cursor", () => {
    const evil = "x\u001b[2J\r\n";
    const text = renderInspection(inspect(fakeCheckpoint(TINY, { source: evil, notes: [evil], prefix: evil })));
    expect(text.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  });
});
