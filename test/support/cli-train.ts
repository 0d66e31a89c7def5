// What the tests of the training commands share: a student made from the fixture, a cache, and a short run's flags.
import { beforeAll } from "vitest";
import { converted } from "./fixture.ts";

export const SHORT = ["--steps", "3", "--batch-size", "2", "--length", "32", "--eval-every", "2", "--threads", "1"];

/** A noise-distance student in a test's folder, made before its tests; `output` gives a new name at each call. */
export function studentForTests(path: (...parts: string[]) => string) {
  const student = path("student");
  let count = 0;
  beforeAll(async () => {
    await converted({ output: student, variant: "noise-distance" });
  });
  return { student, cache: ["--cache", path("cache")], output: () => path(`out${count++}`) };
}
