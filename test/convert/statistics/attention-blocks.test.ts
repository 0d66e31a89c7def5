// Attention in blocks of rows against the model's own attention, which knows all scores of a window at once.
import { describe, expect, test } from "vitest";
import { attendInBlocks, listRowBlocks } from "../../../src/convert/statistics/attention-blocks.ts";
import { matmul, reduceSum } from "../../../src/graph/ops.ts";
import { embedWindows, openLayerSession } from "../../../src/inference/layerwise.ts";
import { uniform } from "../../numeric/matrices.ts";
import { opened } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("attention-blocks");

test("the rows of a window are cut evenly, into as few blocks as their size allows", () => {
  expect(listRowBlocks(40)).toEqual([{ first: 0, end: 40 }]);
  expect(listRowBlocks(256)).toEqual([{ first: 0, end: 256 }]);
  expect(listRowBlocks(257)).toEqual([
    { first: 0, end: 129 },
    { first: 129, end: 257 },
  ]);
  expect(listRowBlocks(836).map(({ first, end }) => end - first)).toEqual([209, 209, 209, 209]);
});

describe("attention in blocks", () => {
  const LENGTH = 301;

  test.each(["dense", "noise-distance", "pairwise"] as const)(
    "gives what the attention of a %s model gives",
    async (variant) => {
      const folder = await writeCheckpoint(at(variant), { variant, positions: LENGTH, vocab: 50 });
      await opened(folder, async (checkpoint) => {
        const random = uniform(6);
        const ids = Int32Array.from({ length: LENGTH }, () => Math.floor(((random() + 1) / 2) * 50));
        const hidden = await embedWindows(checkpoint, [ids]);
        const whole = await openLayerSession(checkpoint, 0, {
          outputs: (graph, { output, attention }) => {
            const { probabilities, present } = attention;
            graph.output(output, "output");
            graph.output(reduceSum(probabilities, [2]), "received");
            graph.output(matmul(probabilities, present.value), "mixed");
          },
        });
        const cut = await openLayerSession(checkpoint, 0, {
          attend: attendInBlocks,
          windowLength: LENGTH,
          outputs: (graph, { output, attention: { received, mixed } }) => {
            for (const [name, value] of Object.entries({ output, received, mixed })) graph.output(value, name);
          },
        });
        const [expected, found] = [await whole.run(hidden), await cut.run(hidden)];
        for (const name of ["output", "received", "mixed"]) {
          const [a, b] = [expected[name]?.data as Float32Array, found[name]?.data as Float32Array];
          expect(b.length).toBe(a.length);
          const largest = a.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
          for (const [i, value] of a.entries())
            expect(Math.abs((b[i] as number) - value), `${name} ${i}`).toBeLessThan(1e-5 * largest);
        }
        await whole.close();
        await cut.close();
      });
    },
  );
});
