// Vitest reporter: prints "N passed, N failed, N skipped" as the last line, for CI systems that do not read vitest's summary.
import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node";

const SLOW = "slow";

export default class ClosingLineReporter implements Reporter {
  private filter = "";

  onInit(vitest: Pick<Vitest, "config">): void {
    this.filter = vitest.config.tagsFilter?.join() ?? "";
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    let leftOut = 0;
    for (const module of modules) {
      let ran = 0;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        ran += 1;
        // The run was not asked for them; a skipped test is one that could not run here.
        if (state === "skipped" && this.leavesOut(test)) leftOut += 1;
        else if (state !== "pending") count[state] += 1;
      }
      // A file that fails before its first test must not look like a pass.
      if (module.state() === "failed" && ran === 0) count.failed += 1;
    }
    if (leftOut > 0 && this.filter !== SLOW)
      process.stdout.write(`\n${leftOut} slow tests were left out; npm run test:slow runs them\n`);
    process.stdout.write(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
  }

  private leavesOut({ tags }: Pick<TestCase, "tags">): boolean {
    if (this.filter === SLOW) return !tags.includes(SLOW);
    return this.filter === `!${SLOW}` && tags.includes(SLOW);
  }
}
