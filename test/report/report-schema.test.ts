// Reports that users hand us: each fault is named by its key; the published JSON Schemas are those of the code.
import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { createReport } from "../../src/report/report.ts";
import { formatReport, parseReport } from "../../src/report/report-schema.ts";
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

type Spoil = (report: ReturnType<typeof written>) => void;

/** What can be wrong in a report, by case. */
const SPOILS = {
  version: (report) => {
    report.format = "nfc-report/2";
  },
  missingKey: (report) => {
    delete report.after.config.n_layer;
  },
  unknownGroup: (report) => {
    report.groups[1].group = "attention.z";
  },
  negativeCount: (report) => {
    report.before.embedding.bytes = -1;
  },
  hash: (report) => {
    report.after.provenance.source.files[0].sha256 = "abc";
  },
  difference: (report) => {
    report.total.parameters.difference += 1;
  },
  groups: (report) => {
    report.groups.shift();
  },
  layers: (report) => {
    report.layers.pop();
  },
  bytes: (report) => {
    report.after.bytes += 4;
  },
} satisfies Record<string, Spoil>;
type Case = keyof typeof SPOILS;

async function refusal(wrong: Case) {
  const report = written();
  SPOILS[wrong](report);
  return failureOf(() => parseReport(report, "r.json"));
}

describe("parseReport", () => {
  test("a report is read back as it was written, without keys that a later version added", () => {
    expect(parseReport({ ...written(), later: 1 }, "r.json")).toEqual(written());
  });

  test("a report of another version is refused as unsupported", async () => {
    const failure = await refusal("version");
    expect(failure.code).toBe("unsupported");
    expect(failure.message).toContain("nfc-report/2");
  });

  test("another JSON file is refused at its format", async () => {
    const failure = await failureOf(() => parseReport({ model_type: "gpt2" }, "config.json"));
    expect(failure).toMatchObject({ code: "invalid-file", message: expect.stringMatching(/^config\.json: format: /) });
    expect(failure.hint).toContain("schema/nfc-report-1.schema.json");
  });

  test("a value that is no object is refused", async () => {
    const failure = await failureOf(() => parseReport("x", "r.json"));
    expect(failure.code).toBe("invalid-file");
    expect(failure.message).toMatch(/^r\.json: content: .*expected object/);
  });

  test.each<[string, Case, string]>([
    ["with a missing key", "missingKey", "after.config.n_layer"],
    ["with an unknown group", "unknownGroup", "groups.1.group"],
    ["with a negative count", "negativeCount", "before.embedding.bytes"],
    ["with a malformed hash", "hash", "after.provenance.source.files.0.sha256"],
    ["whose difference is not after - before", "difference", "total.parameters.difference"],
    ["whose groups do not add up to the total", "groups", "groups"],
    ["whose layers do not add up to the total", "layers", "layers"],
    ["whose models do not have the total", "bytes", "after.bytes"],
  ])("a report %s is refused at the key in question", async (_, wrong, key) => {
    const { code, message } = await refusal(wrong);
    expect(code).toBe("invalid-file");
    expect(message.startsWith(`r.json: ${key}: `), message).toBe(true);
  });

  test.each<[Case, string]>([
    ["version", 'r.json: format "nfc-report/2" is not nfc-report/1'],
    ["hash", "r.json: after.provenance.source.files.0.sha256: must be 64 hexadecimal digits"],
    ["difference", "r.json: total.parameters.difference: must be after - before, -136, and is -135"],
    ["groups", "r.json: groups: parameters before: 1760, but total.parameters.before is 2008"],
    ["layers", "r.json: layers: parameters before: 1744, but total.parameters.before is 2008"],
    ["bytes", "r.json: after.bytes: bytes after: 7492, but total.bytes.after is 7488"],
  ])("the refusal of a spoilt report is one exact sentence: %s", async (wrong, sentence) => {
    expect((await refusal(wrong)).message).toBe(sentence);
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
