// The lines that nfc export prints: the files with their sizes, their check and their loss, and the bits of a mixed file.
import type { ExportResult } from "../export/export-model.ts";
import { formatBytes, formatPercent } from "../report/render/format.ts";
import { alignTable } from "../report/render/text.ts";

/** One line for the folder, the table of ONNX files, and what they are beside it. */
export function formatResult({ folder, files, onnx, exports }: ExportResult): string {
  const lines = [`${folder}: ${files.join(", ")}`];
  if (exports.length > 0) lines.push(...alignTable(formatTable(onnx, exports), { align: "llrrrrr", rulesBefore: [1] }));
  for (const { mixed } of onnx) if (mixed) lines.push(describeMixed(mixed));
  if (onnx.some(({ verification }) => verification === null))
    lines.push("the files load and draw fresh noise at each run");
  return lines.join("\n");
}

/** mixed, within 4 MB: 8 bits in wte.weight, h.0.attn.c_attn.weight; 4 bits in 23 more */
function describeMixed({ budget, bits }: NonNullable<ExportResult["onnx"][number]["mixed"]>): string {
  const widths = [...new Set(bits.values())].sort((a, b) => b - a);
  const named = widths.map((width) => [...bits].filter(([, own]) => own === width).map(([name]) => name));
  const parts = widths.map((width, i) => {
    const names = named[i] as string[];
    const most = names.length === Math.max(...named.map(({ length }) => length));
    return `${width} bits in ${most ? `${names.length} ${names.length === 1 ? "matrix" : "matrices"}` : names.join(", ")}`;
  });
  return `mixed${budget === undefined ? "" : `, within ${formatBytes(budget)}`}: ${parts.join("; ")}`;
}

function formatTable(onnx: ExportResult["onnx"], exports: ExportResult["exports"]): string[][] {
  const measured = exports.some(({ perplexity }) => perplexity);
  const rows = exports.map(({ precision, file, bytes, perplexity }) => {
    const verification = onnx.find((each) => each.precision === precision)?.verification;
    const worst = verification ? verification.worst.toExponential(1) : "";
    const quality = perplexity
      ? [
          perplexity.perplexity.toFixed(3),
          perplexity.kl?.toFixed(4) ?? "",
          perplexity.agreement === null ? "" : formatPercent(100 * perplexity.agreement),
        ]
      : ["", "", ""];
    return [precision, file, formatBytes(bytes), worst, ...(measured ? quality : [])];
  });
  return [["precision", "file", "size", "verified", ...(measured ? ["perplexity", "KL", "agreement"] : [])], ...rows];
}
