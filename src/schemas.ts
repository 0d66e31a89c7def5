// The entry point "./schemas": the zod schemas of the files that nfc writes and reads, and schema/*.json made from them.
import { z } from "zod";
import { baselineSchema } from "./check/baseline.ts";
import { sizeConfigSchema } from "./check/size-config.ts";
import { nfcRecordSchema } from "./checkpoint/nfc-record.ts";
import { planSchema } from "./convert/plan/plan-file.ts";
import { comparisonSchema } from "./report/comparison/comparison-schema.ts";
import { reportSchema } from "./report/report-schema.ts";

export { baselineSchema, comparisonSchema, nfcRecordSchema, planSchema, reportSchema, sizeConfigSchema };

/** Name and text of every file under schema/. `scripts/make-schemas.mjs` writes them. */
export function makeSchemaFiles(): { name: string; text: string }[] {
  return [
    makeSchemaFile("nfc-1.schema.json", nfcRecordSchema, "nfc.json: what nfc did to a model (nfc/1)"),
    makeSchemaFile("nfc-report-1.schema.json", reportSchema, "A report of nfc: two models compared (nfc-report/1)"),
    makeSchemaFile("nfc-comparison-1.schema.json", comparisonSchema, "Several models side by side (nfc-comparison/1)"),
    makeSchemaFile(
      "nfc-baseline-1.schema.json",
      baselineSchema,
      "nfc.baseline.json: what models weighed (nfc-baseline/1)",
    ),
    makeSchemaFile("nfc-plan-1.schema.json", planSchema, "A plan of nfc: what cuts of a model cost (nfc-plan/1)"),
    makeSchemaFile("nfc-size.schema.json", sizeConfigSchema, "nfc.size.json: which models nfc check holds to what"),
  ];
}

/** Schemas describe what is read (`io: "input"`): unknown keys are allowed there. */
function makeSchemaFile(name: string, schema: z.ZodType, title: string): { name: string; text: string } {
  const { $schema, ...rest } = z.toJSONSchema(schema, { io: "input" });
  return { name, text: `${JSON.stringify({ $schema, title, ...rest }, null, 2)}\n` };
}
