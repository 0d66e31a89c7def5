// Formats numbers and commands for people: 1,234,567, 4.7 MB, -5.70 %.

/** One megabyte, as disks, registries and model hubs count it. */
const MB = 1e6;

/** Decimals of a megabyte column: a kilobyte is the smallest amount that it shows. */
const MB_DECIMALS = 3;

/** An integer with a comma every three digits: 1,234,567. The locale of the machine plays no part. */
export function formatThousands(value: number): string {
  return value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** An integer with its sign, and 0 without one: +288, -7,087,104, 0. */
export function formatSigned(value: number): string {
  return value > 0 ? `+${formatThousands(value)}` : formatThousands(value);
}

/** Bytes in the largest decimal unit up to MB (10^6 bytes): 96 B, 1.2 kB, 497.8 MB, 6,230.4 MB. */
export function formatBytes(bytes: number): string {
  const size = Math.abs(bytes);
  if (size < 1000) return `${bytes} B`;
  if (size < MB) return `${(bytes / 1000).toFixed(1)} kB`;
  return `${groupDigits((bytes / MB).toFixed(1))} MB`;
}

/** Bytes as a number for a column in MB; amounts under half a kilobyte are <0.001, not 0. */
export function formatMegabytes(bytes: number): string {
  if (bytes === 0) return "0";
  const text = groupDigits((Math.abs(bytes) / MB).toFixed(MB_DECIMALS));
  const sign = bytes < 0 ? "-" : "";
  return Number(text) === 0 ? `${sign}<0.001` : sign + text;
}

/** As {@link formatMegabytes}, with a plus sign where there is more. */
export function formatSignedMegabytes(bytes: number): string {
  return bytes > 0 ? `+${formatMegabytes(bytes)}` : formatMegabytes(bytes);
}

/** A percentage with two decimals: 31.02 %. */
export function formatPercent(percent: number): string {
  return `${percent.toFixed(2)} %`;
}

/** Accuracy and F1 in percent, correlations as they are, as GLUE's papers print them. */
export function formatMetric(name: string, value: number | null): string {
  if (value === null) return "undefined";
  return name === "accuracy" || name === "f1" ? `${(100 * value).toFixed(2)} %` : value.toFixed(3);
}

/** A change in percent: -5.70 %, +0.01 %. */
export function formatSignedPercent(percent: number): string {
  return percent > 0 ? `+${formatPercent(percent)}` : formatPercent(percent);
}

/** "1 file", "2 files". */
export function formatCount(count: number, noun: string): string {
  return `${formatThousands(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** "1:02:03", "4:05" */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Commas in the whole part of a decimal number. */
function groupDigits(decimal: string): string {
  const [whole = "", fraction] = decimal.split(".");
  const text = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? text : `${text}.${fraction}`;
}

/** "uint8, q4 and q4f16", of two and more */
export function formatList(names: readonly string[]): string {
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
