// Writes the report of a conversion as JSON, and reads it back as another program would.
import { readFile, writeFile } from "node:fs/promises";
import { convert, createReport, openCheckpoint } from "noiseformer-compiler";
import { formatReport, parseReport } from "noiseformer-compiler/report";

const base = await openCheckpoint("fixtures/tiny-gpt2");
await convert(base, { output: "out/symmetric", variant: "symmetric", strategy: "spectral" });
const tied = await openCheckpoint("out/symmetric");
await writeFile("out/report.json", formatReport(createReport(base, tied)));
await Promise.all([base.close(), tied.close()]);

const report = parseReport(JSON.parse(await readFile("out/report.json", "utf8")), "out/report.json");
console.log(report.total.parameters.percent.toFixed(2), report.perplexity);
