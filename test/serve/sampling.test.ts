// The page's choice of a token is that of nfc generate: the same candidates, and the same one for the same draw.
import { expect, it } from "vitest";
import { draw, selectCandidates } from "../../src/inference/generate/sampling.ts";
import { makeRandom } from "../../src/numeric/random.ts";

/** A module of the page, which has no types. */
const page = await import(new URL("../../assets/page/sampling.js", import.meta.url).href);

const random = makeRandom(3);
const someLogits = () => Float32Array.from({ length: 200 }, () => Math.round(40 * random()) / 4);

it.each([
  { temperature: 0.8, topK: 40, topP: 1 },
  { temperature: 1.3, topK: 0, topP: 0.7 },
  { temperature: 0.5, topK: 12, topP: 0.9 },
  { temperature: 2, topK: 300, topP: 1 },
])("a token of %o is the one that nfc generate draws", (options) => {
  const chosen = new Set<number>();
  for (let i = 0; i < 300; i++) {
    const [logits, at] = [someLogits(), random()];
    const expected = draw(selectCandidates(logits.slice(), options), at);
    expect(page.chooseToken(logits, options, () => at)).toBe(expected);
    chosen.add(expected);
  }
  expect(chosen.size).toBeGreaterThan(20);
});

it("temperature 0 takes the first of the likeliest", () => {
  const logits = Float32Array.of(0, 3, 1, 3);
  expect(page.chooseToken(logits, { temperature: 0, topK: 1, topP: 0.1 }, () => 0.99)).toBe(1);
});

it("equal seeds of the page give equal numbers, spread over [0, 1)", () => {
  const [a, b, c] = [page.makeRandom(7), page.makeRandom(7), page.makeRandom(8)];
  const numbers = Array.from({ length: 4000 }, () => a());
  expect(Array.from({ length: 4000 }, () => b())).toEqual(numbers);
  expect(c()).not.toBe(numbers[0]);
  const inTenths = Array.from({ length: 10 }, (_, i) => numbers.filter((x) => Math.floor(10 * x) === i).length);
  for (const count of inTenths) expect(Math.abs(count - 400)).toBeLessThan(80);
});
