// Reports that users hand us: each fault is named by its key; the published JSON Schemas are those of the code.
import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { createReport } from "../../src/report/report.ts";
import { formatReport, parseReport } from "../../src/report/schema.ts";
import { makeSchemaFiles } from "../../src/schemas.ts";
import { failureOf } from "../support/failure.ts";
import { fakeCheckpoint, recordOf, TINY } from "../support/fake-checkpoint.ts";

/** A report as it comes out of a file, to be spoilt. */
function written() {
  const before = fakeCheckpoint(TINY);
  const config = { ...TINY, variant: "noise-per-head" } as const;
  const report = createReport(before, fakeCheckpoint(config, { record: recordOf(before, config) }));
  // biome-ignore lint/suspicious/noExplicitAny: tests put anything anywhere
  return JSON.parse(formatReport(report)) as any;
}

async function refusal(spoil: (report: ReturnType<typeof written>) => void) {
  const report = written();
  spoil(report);
  return failureOf(() => parseReport(report, "r.json"));
}

describe("parseReport", () => {
  test("a report is read back as it was written, without keys that a later version added", () => {
    expect(parseReport({ ...written(), later: 1 }, "r.json")).toEqual(written());
  });

  test("a report of another version is refused as such", async () => {
    const failure = await refusal((report) => {
      report.format = "nfc-report/2";
    });
    expect(failure.code).toBe("unsupported");
    expect(failure.message).toBe('r.json: format "nfc-report/2" is not nfc-report/1');
  });

  test("another JSON file is refused at its format", async () => {
    const failure = await failureOf(() => parseReport({ model_type: "gpt2" }, "config.json"));
    expect(failure).toMatchObject({ code: "invalid-file", message: expect.stringMatching(/^config\.json: format: /) });
    expect(failure.hint).toContain("schema/nfc-report-1.schema.json");
  });

  test("a value that is no object is refused", async () => {
    expect((await failureOf(() => parseReport("x", "r.json"))).message).toMatch(/^r\.json: content: .*expected object/);
  });

  test("a report with a missing key is refused by the name of the key", async () => {
    const failure = await refusal((report) => {
      delete report.after.config.n_layer;
    });
    expect(failure.message).toMatch(/^r\.json: after\.config\.n_layer: /);
  });

  test("a report with an unknown group is refused by its place", async () => {
    const failure = await refusal((report) => {
      report.groups[1].group = "attention.z";
    });
    expect(failure.message).toMatch(/^r\.json: groups\.1\.group: /);
  });

  test("a report with a negative count is refused", async () => {
    const failure = await refusal((report) => {
      report.before.embedding.bytes = -1;
    });
    expect(failure.message).toMatch(/^r\.json: before\.embedding\.bytes: /);
  });

  test("a report with a malformed hash is refused", async () => {
    const failure = await refusal((report) => {
      report.after.provenance.source.files[0].sha256 = "abc";
    });
    expect(failure.message).toBe("r.json: after.provenance.source.files.0.sha256: must be 64 hexadecimal digits");
  });

  test("a report whose difference is not after - before is refused", async () => {
    const failure = await refusal((report) => {
      report.total.parameters.difference += 1;
    });
    expect(failure.message).toBe("r.json: total.parameters.difference: must be after - before, -136, and is -135");
  });

  test("a report whose groups do not add up to the total is refused", async () => {
    const failure = await refusal((report) => {
      report.groups.shift();
    });
    expect(failure.message).toBe("r.json: groups: parameters before: 1760, but total.parameters.before is 2008");
  });

  test("a report whose layers do not add up to the total is refused", async () => {
    const failure = await refusal((report) => {
      report.layers.pop();
    });
    expect(failure.message).toBe("r.json: layers: parameters before: 1744, but total.parameters.before is 2008");
  });

  test("a report whose models do not have the total is refused", async () => {
    const failure = await refusal((report) => {
      report.after.bytes += 4;
    });
    expect(failure.message).toBe("r.json: after.bytes: bytes after: 7492, but total.bytes.after is 7488");
  });
});

describe("the published JSON Schemas", () => {
  test.each(makeSchemaFiles())("schema/$name is what scripts/make-schemas.mjs makes", async ({ name, text }) => {
    expect(await readFile(new URL(`../../schema/${name}`, import.meta.url), "utf8")).toBe(text);
  });

  test("the report's schema accepts a report and refuses one without its totals", async () => {
    const schema = z.fromJSONSchema(JSON.parse(makeSchemaFiles()[1]?.text ?? ""));
    const { total, ...rest } = written();
    expect(total).toBeDefined();
    expect(schema.safeParse(written()).success).toBe(true);
    expect(schema.safeParse(rest).success).toBe(false);
  });

  test("the record's schema accepts the nfc.json that a conversion writes", () => {
    const schema = z.fromJSONSchema(JSON.parse(makeSchemaFiles()[0]?.text ?? ""));
    const record = recordOf(fakeCheckpoint(TINY), TINY);
    expect(schema.safeParse(record).success).toBe(true);
    expect(schema.safeParse({ ...record, variant: "sparse" }).success).toBe(false);
  });
});
