// Long computations leave room for what happens meanwhile.
import { expect, it } from "vitest";
import { runInPieces } from "../../src/convert/pieces.ts";

it("a timer that is due runs between two pieces, and an abort ends the computation there", async () => {
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 0);
  let pieces = 0;
  function* work(): Generator<void, number> {
    for (; pieces < 1e6; pieces++) yield;
    return pieces;
  }
  await expect(runInPieces(work(), abort.signal)).rejects.toMatchObject({ code: "aborted" });
  expect(pieces).toBeLessThan(1e6);
});

it("gives the result of the computation", async () => {
  function* work(): Generator<void, string> {
    yield;
    return "done";
  }
  expect(await runInPieces(work())).toBe("done");
});
