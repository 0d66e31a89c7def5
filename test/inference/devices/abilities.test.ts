// What nfc devices says of each device.
import { expect, test } from "vitest";
import { listLimits } from "../../../src/inference/devices/abilities.ts";

test("files that compute in float16 need an adapter for it, and no others", () => {
  expect(listLimits("webgpu")).toContain("q4f16 and fp16 exports need an adapter with 16-bit floats (shader-f16)");
});

test("the CPU has no limits", () => expect(listLimits("cpu")).toEqual([]));
