// Kept token ids as text in nfc.json, and back.
import { describe, expect, it } from "vitest";
import { KeptIds, readVocabularyCut } from "../../src/checkpoint/kept-ids.ts";
import type { NfcRecord } from "../../src/checkpoint/nfc-record.ts";

const recordOf = (cut: object) =>
  ({ cuts: [{ axis: "layers" }, { axis: "vocabulary", ...cut }] }) as unknown as NfcRecord;

describe("the kept ids of a vocabulary", () => {
  it("are numbered in the old order, and written as ranges that are read as they were", () => {
    const kept = new KeptIds([7, 0, 2, 1, 5, 1]);
    expect(kept.ids).toEqual([0, 1, 2, 5, 7]);
    expect([kept.find(5), kept.find(6)]).toEqual([3, undefined]);
    expect(kept.format()).toBe("0-2,5,7");
    const cut = readVocabularyCut(recordOf({ from: 8, to: 5, kept: kept.format() }), "m");
    expect(cut?.kept.ids).toEqual(kept.ids);
    expect(cut?.from).toBe(8);
  });

  it("of two cuts, one after another, are those of the first model", () => {
    const second = { axis: "vocabulary", from: 5, to: 3, kept: "0,3-4" };
    const record = { cuts: [...(recordOf({ from: 8, to: 5, kept: "0-2,5,7" }).cuts ?? []), { axis: "mlp" }, second] };
    const cut = readVocabularyCut(record, "m");
    expect(cut).toMatchObject({ from: 8, kept: { ids: [0, 5, 7] } });
    expect(cut?.kept.placesIn(new KeptIds([0, 1, 5, 7]))?.ids).toEqual([0, 2, 3]);
    expect(cut?.kept.placesIn(new KeptIds([0, 1, 5]))).toBeNull();
    const other = { cuts: [...record.cuts.slice(0, -1), { ...second, from: 6 }] };
    expect(() => readVocabularyCut(other, "m")).toThrow("m: nfc.json does not say which tokens");
  });

  it("are null for a model whose vocabulary was not cut", () => {
    expect(readVocabularyCut(null, "m")).toBeNull();
    expect(readVocabularyCut({ cuts: [{ axis: "layers" }] } as unknown as NfcRecord, "m")).toBeNull();
  });

  it.each([
    ["a count that differs", { from: 8, to: 4, kept: "0-2,5,7" }],
    ["an id beyond the source", { from: 7, to: 5, kept: "0-2,5,7" }],
    ["a range that does not ascend", { from: 9, to: 4, kept: "0-2,2" }],
    ["a range backwards", { from: 9, to: 2, kept: "3-2" }],
    ["a range of billions", { from: 9, to: 2, kept: "0-4000000000" }],
    ["a vocabulary that no model has", { from: 90_000_000, to: 90_000_000, kept: "0-89999999" }],
    ["another text", { from: 9, to: 2, kept: "a" }],
    ["no text", { from: 9, to: 2 }],
  ])("refuses a record with %s", (_, cut) => {
    expect(() => readVocabularyCut(recordOf(cut), "m")).toThrow("m: nfc.json does not say which tokens");
  });
});
