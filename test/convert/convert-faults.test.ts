// A disk that is full at any one call of a conversion: told as such, nothing is left, an existing output is untouched.
import { cpSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ConvertOptions } from "../../src/convert/convert-options.ts";
import { NfcError } from "../../src/errors.ts";
import { withFault } from "../io/faults.ts";
import { converted, digest, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("convert-faults");
let count = 0;

function workplace(): { parent: string; out: string } {
  const parent = path(`w${count++}`);
  mkdirSync(parent);
  return { parent, out: join(parent, "out") };
}

const WAYS: [string, Partial<ConvertOptions>][] = [
  ["one file", {}],
  [
    "shards, with calibration text",
    {
      variant: "noise-distance",
      strategy: "calibrated",
      calibration: [TEXT],
      calibrationTokens: 64,
      maxShardSize: 200_000,
    },
  ],
];

describe.each(WAYS)("converting to a full disk: %s", (_, options) => {
  it("a conversion to a full disk reports it and leaves nothing behind, whichever call fails", async () => {
    const { out } = workplace();
    const { calls, error } = await withFault(0, "", () => converted({ output: out, ...options }));
    expect(error).toBeUndefined();
    expect(calls).toBeGreaterThan(15);
    for (let failing = 1; failing <= calls; failing++) {
      const place = workplace();
      const fault = await withFault(failing, "ENOSPC", () => converted({ output: place.out, ...options }));
      expect(fault.error, `call ${failing}`).toBeInstanceOf(NfcError);
      expect((fault.error as NfcError).message).toMatch(/^\/.+: disk full$/);
      // Never the temporary folder, which is gone.
      expect((fault.error as NfcError).message).not.toContain(".nfc-tmp-");
      expect(readdirSync(place.parent)).toEqual([]);
    }
  });

  it("a conversion to a full disk leaves an existing output as it was, or the whole new one", async () => {
    const first = workplace();
    await converted({ output: first.out, variant: "noise-shared" });
    const old = digest(first.out);
    const kept = path(`old-${count}`);
    cpSync(first.out, kept, { recursive: true });
    const action = () => converted({ output: first.out, force: true, ...options });
    const { calls } = await withFault(0, "", action);
    const fresh = digest(first.out);
    for (let failing = 1; failing <= calls; failing += 3) {
      const { parent, out } = workplace();
      cpSync(kept, out, { recursive: true });
      const fault = await withFault(failing, "ENOSPC", () => converted({ output: out, force: true, ...options }));
      expect(fault.error).toBeInstanceOf(NfcError);
      expect([old, fresh]).toContainEqual(digest(out));
      // Only removing the old output may fail once the new one is in place: it is mentioned, and the next run mends it.
      const late = (fault.error as NfcError).message.includes("could not be removed");
      if (!late) expect(readdirSync(parent)).toEqual(["out"]);
    }
  });
});
