// Checkpoints made from others: tensors of the base under other names, and made ones.
import { describe, expect, it } from "vitest";
import { deriveCheckpoint, makeTensor } from "../../src/checkpoint/derived.ts";
import { collectBytes } from "../../src/checkpoint/model-folder.ts";
import { decodeFloats } from "../../src/formats/dtype.ts";
import { failureOf } from "../support/failure.ts";
import { opened } from "../support/fixture.ts";
import { tinyValues, writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const at = temporaryFolder("derived");

describe("a derived checkpoint", () => {
  it("a derived checkpoint has the base's tensors under the names asked for, byte by byte, and made ones", async () => {
    await opened(await writeCheckpoint(at("base"), { dtype: "F16", layers: 3 }), async (base) => {
      const made = Float32Array.from({ length: 8 }, (_, i) => i / 8);
      const model = deriveCheckpoint(base, { ...base.config, n_layer: 1 }, ({ name }) =>
        name === "ln_f.bias" ? makeTensor("F32", async () => made) : name.replace("h.0.", "h.2."),
      );
      expect(model.config.n_layer).toBe(1);
      expect([...model.tensors.keys()].filter((name) => name.startsWith("h."))).toHaveLength(12);
      const name = "mlp.c_fc.weight";
      expect(model.tensors.get(`h.0.${name}`)?.dtype).toBe("F16");
      expect(await collectBytes(model.chunks(`h.0.${name}`))).toEqual(await collectBytes(base.chunks(`h.2.${name}`)));
      expect(await model.readF32(`h.0.${name}`)).toEqual(await base.readF32(`h.2.${name}`));
      expect(await base.readF32(`h.2.${name}`)).not.toEqual(Float32Array.from(tinyValues(`h.0.${name}`, 256)));
      expect(await model.readF32("ln_f.bias")).toEqual(made);
      expect(decodeFloats(await collectBytes(model.chunks("ln_f.bias")), "F32")).toEqual(made);
    });
  });

  it("a number that the dtype of a made tensor cannot hold is refused by name", async () => {
    await opened(await writeCheckpoint(at("range")), async (base) => {
      const values = Float32Array.of(1, 2, 3, 65_519, 65_520, 6, 7, 8);
      const model = deriveCheckpoint(base, base.config, ({ name }) =>
        name === "ln_f.bias" ? makeTensor("F16", async () => values) : name,
      );
      const error = await failureOf(() => collectBytes(model.chunks("ln_f.bias")));
      expect(error).toMatchObject({ code: "unsupported", message: "ln_f.bias: 65520 does not fit F16" });
      values[4] = 0;
      expect(decodeFloats(await collectBytes(model.chunks("ln_f.bias")), "F16")[3]).toBe(65_504);
    });
  });

  it("a tensor of another shape than the configuration has is a fault", async () => {
    await opened(await writeCheckpoint(at("shape")), async (base) => {
      expect(() => deriveCheckpoint(base, { ...base.config, vocab_size: 5 }, ({ name }) => name)).toThrow(
        "wte.weight is [11,8], wte.weight [5,8]",
      );
    });
  });
});
