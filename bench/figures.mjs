// Appends figures of a benchmark, one JSON line each, to the file that NFC_BENCH_FIGURES names, if it names one.
import { appendFileSync } from "node:fs";

export function record(figures) {
  const file = process.env.NFC_BENCH_FIGURES;
  if (file) appendFileSync(file, `${JSON.stringify(figures)}\n`);
}
