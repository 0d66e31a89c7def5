// Parses sizes and growths: "80 MB", "2GiB", "1 %".

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
};

/** "500MB", "1.5 GB", "2GiB" in bytes: MB = 10⁶, MiB = 2²⁰; null for anything else. */
export function parseBytes(text: string): number | null {
  const [, number = "", unit = ""] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const factor = UNITS[unit.toUpperCase()];
  // 0.001 is added because 64.1e6 is 64,099,999.99… in binary.
  const bytes = Math.floor(Number(number) * (factor ?? Number.NaN) + 1e-3);
  return number === "" || !Number.isSafeInteger(bytes) || bytes < 1 ? null : bytes;
}

/** "1 %" of a base in bytes, or bytes as above ("0" and "0 %": none); null for anything else. */
export function parseGrowth(text: string): ((base: number) => number) | null {
  const [, percent] = /^\s*(\d+(?:\.\d+)?)\s*%\s*$/.exec(text) ?? [];
  if (percent !== undefined) return (base) => Math.floor((base * Number(percent)) / 100 + 1e-6);
  const bytes = text.trim() === "0" ? 0 : parseBytes(text);
  return bytes === null ? null : () => bytes;
}
