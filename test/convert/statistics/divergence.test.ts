// The divergence of models from a reference against arithmetic in float64, and the windows that have none.
import { expect, it } from "vitest";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { DivergenceMeter } from "../../../src/convert/statistics/divergence.ts";
import type { Hidden } from "../../../src/inference/layerwise.ts";
import { uniform } from "../../numeric/matrices.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL, opened } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { dot, normed, softmax } from "./arithmetic.ts";

const at = temporaryFolder("divergence");

async function measured<T>(checkpoint: Checkpoint, use: (meter: DivergenceMeter) => Promise<T>): Promise<T> {
  const meter = await DivergenceMeter.open(checkpoint, { threads: 1, device: "cpu", signal: undefined });
  try {
    return await use(meter);
  } finally {
    await meter.close();
  }
}

it("the divergence of models is the mean KL to the reference and the mean loss of the next tokens", async () => {
  const folder = await writeCheckpoint(at("own-head"), { head: "own" });
  await opened(folder, async (checkpoint) => {
    const { n_embd: C } = checkpoint.config;
    const windows = [Int32Array.of(3, 1, 4, 1, 5, 9), Int32Array.of(2, 6, 5)];
    const random = uniform(7);
    const draw = (): Hidden[] =>
      windows.map(({ length }) => ({ batch: 1, length, x: Float32Array.from({ length: length * C }, () => random()) }));
    const [reference, ...models] = [draw(), draw(), draw()] as const;
    const head = await checkpoint.readF32("lm_head.weight"); // [V, C]
    /** The probabilities of the token after each position, the windows side by side. */
    const predict = async (stream: readonly Hidden[]) => {
      const rows: number[][] = [];
      for (const { x } of stream) rows.push(...(await normed(checkpoint, "ln_f", x)).slice(0, -1));
      const logit = (row: number[], token: number) => dot(row, [...head.subarray(token * C, (token + 1) * C)]);
      return rows.map((row) => softmax(Array.from({ length: head.length / C }, (_, token) => logit(row, token))));
    };
    const labels = windows.flatMap((ids) => [...ids.subarray(1)]);
    const right = await predict(reference);
    const found = await measured(checkpoint, (meter) => meter.measure(windows, reference, models));
    expect(found.length).toBe(2);
    for (const [m, { kl, nll }] of found.entries()) {
      const [sums, count] = [{ kl: 0, nll: 0 }, labels.length];
      for (const [i, q] of (await predict(models[m] as Hidden[])).entries()) {
        sums.nll -= Math.log(q[labels[i] as number] as number);
        for (const [token, p] of (right[i] as number[]).entries()) sums.kl += p * Math.log(p / (q[token] as number));
      }
      expect(sums.kl / count).toBeGreaterThan(0.1);
      expect(kl).toBeCloseTo(sums.kl / count, 5);
      expect(nll).toBeCloseTo(sums.nll / count, 5);
    }
  });
});

it.each([
  ["no windows", []],
  ["a window of one token", [Int32Array.of(1)]],
])("%s have no loss", async (_, windows) => {
  await opened(MODEL, async (checkpoint) => {
    const error = await failureOf(() => measured(checkpoint, (meter) => meter.measure(windows, [], [])));
    expect(error.message).toBe("windows of one token have no next token to measure the loss of");
  });
});
