// Vitest sequencer: the files that take longest begin first, so that no worker is left with one of them at the end.
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The longest first. All other files follow in vitest's own order. */
const LONG = [
  "/test/cli/faults/distill.test.ts",
  "/test/cli/faults/",
  "/test/webgpu/",
  "/test/cli/train-kill.test.ts",
  "/test/distill/resume.test.ts",
  "/test/distill/half-precision.test.ts",
  "/test/export/card/browser-snippet.test.ts",
  "/test/cli/",
];

function rank({ moduleId }: TestSpecification): number {
  const place = LONG.findIndex((part) => moduleId.includes(part));
  return place < 0 ? LONG.length : place;
}

export default class LongFirstSequencer extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
