// Typed access to untrusted JSON objects.
import { describe, expect, it } from "vitest";
import { FieldReader, isJsonObject, quote, showName } from "../../src/checkpoint/fields.ts";
import { failureOf } from "../support/failure.ts";

const ODD = "a\n\u001b[31mb\u009bc";

describe("fields of a JSON object", () => {
  it("FieldReader does not see inherited properties", () => {
    const fields = new FieldReader({}, "f");
    expect(fields.has("constructor")).toBe(false);
    expect(fields.value("toString")).toBeUndefined();
  });

  it("the refusal of a number says what the number may be", async () => {
    const fields = new FieldReader({ n: 0 }, "f.json");
    const error = await failureOf(() => fields.integer("n", { min: 1, max: 9 }));
    expect(error.message).toBe("f.json: n is 0, expected an integer from 1 to 9");
    expect(error.hint).toBe("correct n in f.json");
  });

  it("an alias that agrees with the field is accepted", () => {
    const fields = new FieldReader({ n: 2, m: 2 }, "f");
    expect(fields.integer("n", { min: 1, max: 9, aliases: ["m"] })).toBe(2);
  });
});

describe("text in messages", () => {
  it("quote and showName show control characters as escapes, never raw", () => {
    for (const text of [quote(ODD), quote({ key: ODD }), showName(ODD)]) expect(text).toMatch(/^[\x20-\x7e]+$/);
  });

  it("quote shortens what is long", () => {
    expect(quote("x".repeat(1000)).length).toBeLessThan(200);
    expect(quote(new Array(1000).fill(0)).length).toBeLessThan(100);
  });

  it("showName leaves plain names as they are", () => {
    expect(showName("h.0.attn.c_attn.weight")).toBe("h.0.attn.c_attn.weight");
  });
});

describe("JSON values", () => {
  it("isJsonObject is true for objects only", () => {
    expect([{}, [], null, 1, "x"].map(isJsonObject)).toEqual([true, false, false, false, false]);
  });
});
