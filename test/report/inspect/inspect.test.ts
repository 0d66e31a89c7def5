// What inspect says of a checkpoint: counts, layout, head, what tying would save or has saved.
import { describe, expect, test } from "vitest";
import type { ModelConfig } from "../../../src/model/config.ts";
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

  test.each(["dense", "symmetric", "noise-shared", "noise-per-head", "noise-distance"] as const)(
    "the groups of %s add up to its parameters, its bytes and 100 percent",
    (variant) => {
      const { groups, parameters, bytes } = inspect(
        fakeCheckpoint({ ...TINY, variant, tied_head: false }, { dtype: "F16" }),
      );
      expect(groups.reduce((sum, row) => sum + row.parameters, 0)).toBe(parameters);
      expect(groups.reduce((sum, row) => sum + row.bytes, 0)).toBe(bytes);
      expect(groups.reduce((sum, row) => sum + row.percent, 0)).toBeCloseTo(100, 9);
      expect(bytes).toBe(2 * parameters);
    },
  );

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
