// Which layer of a teacher each layer of a student came from, by the cuts in nfc.json.
import { describe, expect, it } from "vitest";
import type { NfcRecord } from "../../src/checkpoint/nfc-record.ts";
import { findTeacherLayers } from "../../src/distill/teacher-layers.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { failureOf } from "../support/failure.ts";
import { tinyModelConfig } from "../support/make-checkpoint.ts";

const modelOf = (layers: number): ModelConfig => tinyModelConfig({ layers });
const find = (layers: number, teacher: number, cuts: NfcRecord["cuts"] | null) => {
  const record = cuts ? ({ cuts } as NfcRecord) : null;
  return findTeacherLayers({ config: modelOf(layers), record, source: "out/cut" }, modelOf(teacher));
};
const cut = (from: number, kept: unknown) => ({ axis: "layers", from, kept });

describe("the layers of a teacher", () => {
  it.each<[string, number, number, NfcRecord["cuts"] | null, readonly number[] | null]>([
    ["of a model as deep", 3, 3, null, [0, 1, 2]],
    ["of a model as deep, whatever was cut before", 2, 2, [cut(4, [0, 3])], [0, 1]],
    ["of the model that was cut", 2, 4, [cut(4, [0, 3])], [0, 3]],
    ["of the model before two cuts", 2, 6, [cut(6, [0, 1, 4, 5]), { axis: "mlp" }, cut(4, [1, 3])], [1, 5]],
    ["of the model between two cuts", 2, 4, [cut(6, [0, 1, 4, 5]), cut(4, [1, 3])], [1, 3]],
    ["of any other model", 2, 5, [cut(4, [0, 3])], null],
    ["where nothing is recorded", 2, 4, null, null],
    ["where no layers were cut", 2, 4, [{ axis: "mlp" }], null],
    ["where the record is of another model", 2, 4, [cut(4, [0, 1, 3])], null],
  ])("are found: %s", (_, layers, teacher, cuts, expected) => {
    expect(find(layers, teacher, cuts)).toEqual(expected);
  });

  it.each<[string, unknown]>([
    ["that falls", [1, 0]],
    ["with a layer twice", [1, 1]],
    ["beyond the model", [0, 4]],
    ["of no numbers", ["0", "1"]],
    ["of nothing", []],
    ["that is missing", undefined],
  ])("a list of kept layers %s is refused", async (_, kept) => {
    const { code, message } = await failureOf(async () => find(2, 4, [cut(4, kept)]));
    expect(code).toBe("invalid-file");
    expect(message).toMatch(/^out\/cut\/nfc\.json: a cut of layers: /);
  });

  it("the record of a model is left as it is", () => {
    const cuts = [cut(6, [0, 1, 4, 5]), cut(4, [1, 3])];
    find(2, 6, cuts);
    expect(cuts.map(({ from }) => from)).toEqual([6, 4]);
  });
});
