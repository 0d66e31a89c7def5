// Whatever names, shapes and configurations come in, a plan comes out, or an NfcError of one line.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseConfig } from "../../../src/checkpoint/config-file.ts";
import { type PlanInput, planCheckpoint, type SourceTensor } from "../../../src/checkpoint/naming/plan.ts";
import { NfcError } from "../../../src/errors.ts";
import { DTYPE_BITS, type Dtype } from "../../../src/formats/dtype.ts";
import { listParameters } from "../../../src/model/parameters.ts";
import { VARIANTS } from "../../../src/model/variants.ts";
import { tinyHfConfig, tinyTensors } from "../../support/make-checkpoint.ts";

const RUNS = { numRuns: 1000 };

/** The plan, or null after a proper refusal; anything else thrown fails the property. */
function tryPlan(input: Omit<PlanInput, "file" | "config">, raw: unknown): void {
  try {
    const config = raw === undefined ? null : parseConfig(raw, "config.json");
    const plan = planCheckpoint({ ...input, file: "f", config });
    const expected = listParameters(plan.config).map(({ name, shape }) => `${name} ${shape}`);
    expect([...plan.tensors.values()].map(({ name, shape }) => `${name} ${shape}`)).toEqual(expected);
  } catch (error) {
    if (!(error instanceof NfcError)) throw error;
    expect(error.message).not.toMatch(/[\r\n]/);
  }
}

const dtype = fc.constantFrom(...(Object.keys(DTYPE_BITS) as Dtype[]));
const dimension = fc.oneof(fc.constantFrom(0, 1, 2, 8, 16, 24, 32), fc.maxSafeNat());
const shape = fc.array(dimension, { maxLength: 4 });
const knownName = fc.constantFrom(
  ...tinyTensors({ variant: "noise-distance", head: "own", masks: true }).map(({ name }) => name),
);
const prefixed = fc
  .tuple(fc.constantFrom("", "transformer.", "module.", "_orig_mod.", "model.", "state_dict."), knownName)
  .map(([prefix, name]) => prefix + name);
const tensor: fc.Arbitrary<SourceTensor> = fc.record({
  name: fc.oneof(prefixed, fc.string({ unit: "binary" })),
  dtype,
  shape,
});
const configValue = fc.oneof(fc.jsonValue(), fc.integer(), fc.double(), fc.constantFrom(...VARIANTS, "gelu", "gpt2"));
const configKey = fc.constantFrom(
  ...Object.keys(tinyHfConfig()),
  "nfc_variant",
  "tie_word_embeddings",
  "eos_token_id",
  "n_ctx",
);
const config = fc.oneof(fc.constant(undefined), fc.jsonValue(), fc.dictionary(configKey, configValue));
const options = fc.record(
  {
    nHead: fc.oneof(fc.integer(), fc.double()),
    trimVocab: fc.oneof(fc.boolean(), fc.integer(), fc.double()),
    tokenizerSize: fc.nat(),
    recordVariant: fc.constantFrom(...VARIANTS),
    metadata: fc.dictionary(fc.oneof(prefixed, fc.string()), fc.oneof(prefixed, fc.string({ unit: "binary" }))),
  },
  { requiredKeys: [] },
);

describe("planning hostile checkpoints", () => {
  it("arbitrary tensor lists and configs lead to a plan or an NfcError", () => {
    fc.assert(
      fc.property(fc.uniqueArray(tensor, { selector: ({ name }) => name }), config, options, (tensors, raw, rest) => {
        tryPlan({ ...rest, tensors }, raw);
      }),
      RUNS,
    );
  });

  it("a good checkpoint with one thing changed leads to a plan or an NfcError", () => {
    const good = fc.record({
      variant: fc.constantFrom(...VARIANTS),
      layout: fc.constantFrom("conv1d" as const, "linear" as const),
      head: fc.constantFrom("none" as const, "copy" as const, "own" as const, "only" as const),
      bias: fc.boolean(),
    });
    const change = fc.record({
      at: fc.nat(),
      tensor,
      kind: fc.constantFrom("remove", "replace", "reshape", "add", "none"),
    });
    const edits = fc.dictionary(configKey, configValue, { maxKeys: 2 });
    fc.assert(
      fc.property(good, change, edits, options, (base, { at, tensor: other, kind }, edit, rest) => {
        const tensors = tinyTensors(base) as unknown as SourceTensor[];
        const index = at % tensors.length;
        const old = tensors[index] as SourceTensor;
        if (kind === "remove") tensors.splice(index, 1);
        if (kind === "replace") tensors[index] = other;
        if (kind === "reshape") tensors[index] = { ...old, shape: other.shape };
        if (kind === "add" && tensors.every(({ name }) => name !== other.name)) tensors.push(other);
        tryPlan({ ...rest, tensors }, { ...tinyHfConfig(base), ...edit });
      }),
      RUNS,
    );
  });
});
