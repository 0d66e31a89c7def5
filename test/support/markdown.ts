// The project's pages, and what stands in their fences.
import { readdirSync, readFileSync } from "node:fs";

/** Paths of all pages of this repository. */
export const PAGES = [
  ...["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"],
  ...(readdirSync("docs", { recursive: true }) as string[])
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name.replaceAll("\\", "/")}`)
    .sort(),
];

export interface Fence {
  /** What stands behind the opening backticks. */
  language: string;
  text: string;
}

/** The fenced blocks of a page, in order. */
export function readFences(page: string): Fence[] {
  const found = readFileSync(page, "utf8").matchAll(/^```(\S*)[^\n]*\n([\s\S]*?)^```$/gm);
  return [...found].map(([, language, text]) => ({ language: language as string, text: text as string }));
}

const NUMBER = /\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?/g;
const TOLERANCE = 0.05;

/** Whether two lines differ in their numbers alone, and in those little: kernels round differently on other CPUs. */
export function areAlike(a: string, b: string): boolean {
  if (a.replace(NUMBER, "#") !== b.replace(NUMBER, "#")) return false;
  const numbers = (text: string) => (text.match(NUMBER) ?? []).map((found) => Number(found.replaceAll(",", "")));
  const others = numbers(b);
  return numbers(a).every((value, i) => Math.abs(value - (others[i] as number)) <= TOLERANCE * Math.max(1, value));
}
