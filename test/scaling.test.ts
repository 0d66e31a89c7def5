// docs/scaling.md has the figures of its formulas, and its measured steps are those of the benchmarks' page.
import { readFileSync } from "node:fs";
import { expect, it, test } from "vitest";
import * as cost from "../src/distill/cost.ts";
import { countParameters } from "../src/model/parameters.ts";

const page = readFileSync("docs/scaling.md", "utf8");
const rates = JSON.parse(readFileSync("docs/scaling-rates.json", "utf8"));
const { renderScaling } = await import(new URL("../scripts/make-scaling.mjs", import.meta.url).href);
const functions = { ...cost, countParameters };

test("docs/scaling.md is what npm run docs:scaling writes", () => {
  expect(page).toBe(renderScaling(page, rates, functions));
});

test("another rate, and another formula, change the page", () => {
  const faster = structuredClone(rates);
  faster.places[0].step.seconds /= 2;
  expect(renderScaling(page, faster, functions)).not.toBe(page);
  const countTokenFlops: typeof cost.countTokenFlops = (options) => ({ ...cost.countTokenFlops(options), teacher: 0 });
  expect(renderScaling(page, rates, { ...functions, countTokenFlops })).not.toBe(page);
});

it.each([
  ["a table that the script does not make", page.replace("<!-- work -->", "<!-- works -->"), "works"],
  ["a table that has no place", page.replace("<!-- disk -->", ""), "disk"],
])("%s is refused by its name", (_, broken, name) => {
  expect(() => renderScaling(broken, rates, functions)).toThrow(name);
});

it.each<[string, RegExp]>([
  ["two cores", /\| B = 1, T = 512 \| ([\d.]+) s .*?\| ([\d.]+) GB/],
  ["one GPU through WebGPU", /\| time, median of six +\| ([\d.]+) s .*\n\| GPU memory, largest +\| ([\d.]+) GB/],
  [
    "torchrun",
    /\| time, median of six +\| [\d.]+ s +\| ([\d.]+) s .*\n\| GPU memory, largest +\| [\d.]+ GB +\| ([\d.]+) GB/,
  ],
])("the measured step of %s is that of docs/benchmarks.md", (name, row) => {
  const [, seconds, gigabytes] = (row.exec(readFileSync("docs/benchmarks.md", "utf8")) ?? []).map(Number);
  const { step } = rates.places.find((place: { name: string }) => place.name === name);
  expect({ seconds: step.seconds, gigabytes: step.peakBytes / 1e9 }).toEqual({ seconds, gigabytes });
});
