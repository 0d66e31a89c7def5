// A disk that is full at any one call of an export: told as such, nothing is left, an existing output is untouched.
import { cpSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NfcError } from "../../src/errors.ts";
import { withFault } from "../io/faults.ts";
import { exported } from "../support/exported.ts";
import { digest } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("export-faults");
let count = 0;
let model = "";

beforeAll(async () => {
  model = await writeCheckpoint(path("model"));
});

function workplace(): { parent: string; out: string } {
  const parent = path(`w${count++}`);
  mkdirSync(parent);
  return { parent, out: join(parent, "out") };
}

describe.each(["inline", "external", "shared"] as const)("an export with weights %s on a full disk", (weights) => {
  it("any failing write ends in an error and leaves nothing", async () => {
    const { out } = workplace();
    const { calls, error } = await withFault(0, "", () => exported(model, out, { weights }));
    expect(error).toBeUndefined();
    expect(calls).toBeGreaterThan(15);
    for (let failing = 1; failing <= calls; failing++) {
      const place = workplace();
      const fault = await withFault(failing, "ENOSPC", () => exported(model, place.out, { weights }));
      expect(fault.error, `call ${failing}`).toBeInstanceOf(NfcError);
      expect((fault.error as NfcError).message).toMatch(/^\/.+: disk full$/);
      // Never the temporary folder, which is gone.
      expect((fault.error as NfcError).message).not.toContain(".nfc-tmp-");
      expect(readdirSync(place.parent)).toEqual([]);
    }
  });

  it("any failing write leaves an existing output as it was, or the new one complete", async () => {
    const first = workplace();
    await exported(model, first.out, { safetensors: {} });
    const old = digest(first.out);
    cpSync(first.out, path(`old-${weights}`), { recursive: true });
    const { calls } = await withFault(0, "", () => exported(model, first.out, { weights, force: true }));
    const fresh = digest(first.out);
    for (let failing = 1; failing <= calls; failing += 3) {
      const { parent, out } = workplace();
      cpSync(path(`old-${weights}`), out, { recursive: true });
      const fault = await withFault(failing, "ENOSPC", () => exported(model, out, { weights, force: true }));
      expect(fault.error).toBeInstanceOf(NfcError);
      expect([old, fresh]).toContainEqual(digest(out));
      // Only removing the old output may fail once the new one is in place: it is mentioned, and the next run mends it.
      const late = (fault.error as NfcError).message.includes("could not be removed");
      if (!late) expect(readdirSync(parent)).toEqual(["out"]);
    }
  });
});
