// Sums of weights: by group, in order, and unknown where one of them is.
import { expect, test } from "vitest";
import { GROUP_NAMES, TENSOR_GROUPS } from "../../../src/report/weigh/header-tensors.ts";
import { groupBy, sumGroups, sumWeights } from "../../../src/report/weigh/weights.ts";

const WEIGHTS = [
  { group: "b", parameters: 1, bytes: 4 },
  { group: "a", parameters: null, bytes: 3 },
  { group: "b", parameters: 2, bytes: 8 },
];

test("the sum of parameters is unknown when one number is, and the sum of bytes is always known", () => {
  expect(sumWeights(WEIGHTS)).toEqual({ parameters: null, bytes: 15 });
  expect(sumWeights(WEIGHTS.filter(({ group }) => group === "b"))).toEqual({ parameters: 3, bytes: 12 });
  expect(sumWeights([])).toEqual({ parameters: 0, bytes: 0 });
});

test("groups come in the order of their first member", () => {
  expect(Object.entries(sumGroups(WEIGHTS))).toEqual([
    ["b", { parameters: 3, bytes: 12 }],
    ["a", { parameters: null, bytes: 3 }],
  ]);
  expect([...groupBy([3, 4, 5], (n) => n % 2)]).toEqual([
    [1, [3, 5]],
    [0, [4]],
  ]);
});

test("every group of parameters belongs to a group of tensors", () => {
  expect(TENSOR_GROUPS).toEqual(expect.arrayContaining(Object.values(GROUP_NAMES).map(({ tensors }) => tensors)));
});
