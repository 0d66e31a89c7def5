// Cuts one after another, where a later one fails while an earlier one is still at work.
import { setTimeout } from "node:timers/promises";
import { expect, it, vi } from "vitest";
import { makeSmaller } from "../../src/convert/make-smaller.ts";
import { TensorScratch } from "../../src/convert/tensor-scratch.ts";
import { settleAll } from "../../src/io/settle.ts";
import { MODEL, opened } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("make-smaller");

it("a cut that fails ends the others before its fault is told", async () => {
  const scratch = await TensorScratch.create(path("tensors"));
  let writing = 0;
  const put = scratch.put.bind(scratch);
  vi.spyOn(scratch, "put").mockImplementation(async (name, values) => {
    writing++;
    await setTimeout(300);
    await put(name, values);
    writing--;
  });
  const attention = { variant: "symmetric", strategy: "mean" } as const;
  const vocabulary = { text: [path("missing.txt")] as [string] };
  await opened(MODEL, async (checkpoint) => {
    vi.spyOn(checkpoint, "readF32");
    const made = makeSmaller(checkpoint, { attention, vocabulary }, { scratch, text: null, threads: 1 });
    await expect(made).rejects.toMatchObject({ code: "not-found" });
    expect(writing).toBe(0);
    const reads = vi.mocked(checkpoint.readF32).mock.calls.length;
    await setTimeout(500);
    expect(vi.mocked(checkpoint.readF32).mock.calls.length).toBe(reads);
  });
  await scratch.remove();
});

it("of several faults the first is told, once nothing runs any more", async () => {
  let running = true;
  const late = setTimeout(50).then(() => {
    running = false;
    throw new Error("late");
  });
  const early = setTimeout(5).then(() => Promise.reject(new Error("early")));
  await expect(settleAll([late, early])).rejects.toThrow("early");
  expect(running).toBe(false);
});
