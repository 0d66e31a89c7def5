// The compact variants: recognized by tensors, config.json or nfc.json, which must agree.
import { describe, expect, it } from "vitest";
import { makeFormMetadata } from "../../../src/checkpoint/form-keys.ts";
import { listParameters } from "../../../src/model/parameters.ts";
import { VARIANTS } from "../../../src/model/variants.ts";
import { tinyHfConfig, tinyModelConfig } from "../../support/make-checkpoint.ts";
import { adding, plan, refused, reshaping, without } from "../../support/tiny-plan.ts";

describe("compact variants in a plan", () => {
  const names = VARIANTS.filter((variant) => variant !== "dense");

  it.each(names)("the variant %s is read with what config.json says", (variant) => {
    const result = plan({ variant });
    expect(result.config.variant).toBe(variant);
    expect([...result.tensors.keys()]).toEqual(listParameters(result.config).map(({ name }) => name));
  });

  it.each(names.filter((name) => name !== "low-rank"))("the variant %s is recognized by its tensors", (variant) => {
    const { nfc_variant: _, ...raw } = tinyHfConfig({ variant });
    const result = plan({ variant, raw });
    expect(result.config.variant).toBe(variant);
    expect(result.notes).toContain(`variant ${variant} recognised by its tensors`);
  });

  it.each(["1abc", "[1,,2]", "[2", "two", "[0, 2]", "-1"])("metadata that states the rank %s is refused", (rank) => {
    const metadata = { ...makeFormMetadata(tinyModelConfig({ variant: "low-rank" })), nfc_qk_rank: rank };
    const refused = () => plan({ variant: "low-rank", raw: null, nHead: 2, metadata });
    expect(refused).toThrow(
      expect.objectContaining({ code: "invalid-file", message: expect.stringContaining("nfc_qk_rank") }),
    );
  });

  it("a low-rank model without config.json is recognized by the metadata of its weights", () => {
    const metadata = makeFormMetadata(tinyModelConfig({ variant: "low-rank" }));
    const { config } = plan({ variant: "low-rank", raw: null, nHead: 2, metadata });
    expect(config).toMatchObject({ variant: "low-rank", qk_ranks: [2, 2] });
    expect(plan({ variant: "low-rank", raw: null, nHead: 2 }).config.variant).toBe("symmetric");
  });

  it.each(names)("the variant %s is read in torch.nn.Linear's orientation too", (variant) => {
    const result = plan({ variant, layout: "linear" });
    expect(result.tensors.get("h.0.attn.c_attn.weight")).toMatchObject({ shape: [8, 16], transposed: true });
  });

  it("the stated variant is taken with one head, where two of them look the same", () => {
    const options = { heads: 1, variant: "noise-per-head" } as const;
    expect(plan(options).config.variant).toBe("noise-per-head");
    expect(plan({ ...options, raw: null, nHead: 1 }).config.variant).toBe("noise-shared");
  });

  it("the variant of nfc.json is taken", () => {
    expect(plan({ variant: "symmetric", raw: null, nHead: 2, recordVariant: "symmetric" }).config.variant).toBe(
      "symmetric",
    );
  });

  it("a variant that nfc.json contradicts is refused", async () => {
    const error = await refused({ variant: "symmetric", raw: null, nHead: 2, recordVariant: "noise-distance" });
    expect(error.code).toBe("mismatch");
    expect(error.message).toBe("m.safetensors: nfc.json says noise-distance, but the tensors are those of symmetric");
  });

  it("a compact variant that nfc.json calls dense is refused, and the reverse", async () => {
    const tied = await refused({ variant: "symmetric", raw: null, nHead: 2, recordVariant: "dense" });
    expect(tied.message).toContain("nfc.json says dense, but the tensors are those of symmetric");
    const dense = await refused({ recordVariant: "symmetric" });
    expect(dense.message).toContain("nfc.json says symmetric, but the tensors are those of dense");
  });

  it("a variant that config.json contradicts is refused", async () => {
    const error = await refused({ variant: "symmetric", raw: tinyHfConfig({ variant: "noise-shared" }) });
    expect(error.message).toContain("config.json says noise-shared, but the tensors are those of symmetric");
  });

  it("different variants in nfc.json and config.json are refused", async () => {
    const error = await refused({ variant: "symmetric", recordVariant: "noise-shared" });
    expect(error.message).toContain("nfc.json says noise-shared, but config.json says symmetric");
  });

  it("noise of a shape that fits no variant is refused", async () => {
    const edit = reshaping("h.0.attn.noise_mean", [2, 31]);
    const error = await refused({ variant: "noise-distance", raw: null, nHead: 2, edit });
    expect(error.message).toContain("h.0.attn.noise_mean [2, 31], noise_log_std [2] fit no variant with 2 heads");
  });

  it("half of the noise parameters is refused", async () => {
    const edit = without(/noise_log_std/);
    const error = await refused({ variant: "noise-shared", raw: null, nHead: 2, edit });
    expect(error.message).toContain("h.0.attn.noise_mean [1, 1], noise_log_std absent fit no variant");
  });

  it("the missing noise of one layer is refused by name", async () => {
    const error = await refused({ variant: "noise-shared", edit: without(/^h\.1\..*noise_mean/) });
    expect(error.message).toBe("m.safetensors: missing h.1.attn.noise_mean");
  });

  it("dense attention with noise is refused", async () => {
    const edit = adding(["h.0.attn.noise_mean", [1, 1]]);
    expect((await refused({ edit })).message).toContain(
      "c_attn is that of dense attention, but there are noise tensors",
    );
  });

  it("the variant noise-distance needs 17 positions", async () => {
    const error = await refused({ variant: "noise-distance", positions: 16 });
    expect(error.message).toBe("config.json: n_positions 16 is too short for noise-distance, which needs 17");
    expect(plan({ variant: "noise-distance", positions: 17 }).config.n_positions).toBe(17);
  });
});
