// Writes schema/*.json from the zod schemas of the build: npm run build && node scripts/make-schemas.mjs
import { writeFile } from "node:fs/promises";
import { makeSchemaFiles } from "../dist/schemas.js";

for (const { name, text } of makeSchemaFiles()) {
  await writeFile(new URL(`../schema/${name}`, import.meta.url), text);
  console.log(`schema/${name}`);
}
