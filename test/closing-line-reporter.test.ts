// The closing line: what it counts, and what it leaves out of a run that was asked for some tests alone.
import { afterEach, describe, expect, it, vi } from "vitest";
import type { TestModule } from "vitest/node";
import ClosingLineReporter from "./closing-line-reporter.ts";

interface Made {
  state: "passed" | "failed" | "skipped" | "pending";
  tags?: string[];
}

/** A test file with these tests, as vitest reports it. */
function fileOf(tests: readonly Made[], state = "passed"): TestModule {
  const all = tests.map(({ state, tags = [] }) => ({ tags, result: () => ({ state }) }));
  return { state: () => state, children: { allTests: () => all } } as unknown as TestModule;
}

afterEach(() => {
  vi.restoreAllMocks();
});

/** What is printed at the end of a run with this filter of tags. */
function close(modules: readonly TestModule[], ...tagsFilter: string[]): string {
  let printed = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += text;
    return true;
  });
  const reporter = new ClosingLineReporter();
  reporter.onInit({ config: { ...(tagsFilter.length > 0 && { tagsFilter }) } } as never);
  reporter.onTestRunEnd(modules);
  vi.restoreAllMocks();
  return printed;
}

const slow = ["slow"];
const TESTS: readonly Made[] = [
  { state: "passed" },
  { state: "passed" },
  { state: "failed" },
  { state: "skipped" },
  { state: "pending" },
];

describe("the closing line", () => {
  it("counts what passed, failed and was skipped, over all files", () => {
    expect(close([fileOf(TESTS, "failed"), fileOf([{ state: "passed", tags: slow }])])).toBe(
      "\n3 passed, 1 failed, 1 skipped\n",
    );
  });

  it("counts a file that fails before its first test", () => {
    expect(close([fileOf([], "failed"), fileOf([])])).toBe("\n0 passed, 1 failed, 0 skipped\n");
  });

  it("of npm test says how many slow tests were left out, and does not count them as skipped", () => {
    const left: Made[] = [
      { state: "skipped", tags: slow },
      { state: "skipped", tags: slow },
    ];
    expect(close([fileOf([...TESTS, ...left], "failed")], "!slow")).toBe(
      "\n2 slow tests were left out; npm run test:slow runs them\n\n2 passed, 1 failed, 1 skipped\n",
    );
  });

  it("of npm run test:slow counts the slow tests alone, those that could not run as skipped", () => {
    const tests: Made[] = [
      { state: "skipped" },
      { state: "passed", tags: slow },
      { state: "skipped", tags: slow },
      { state: "failed", tags: slow },
    ];
    expect(close([fileOf(tests, "failed")], "slow")).toBe("\n1 passed, 1 failed, 1 skipped\n");
  });
});
