// A run that diverges stops at once, says where, and keeps a checkpoint from before.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openSafetensors } from "../../src/formats/safetensors/reader.ts";
import { failureOf } from "../support/failure.ts";
import { digest, opened } from "../support/fixture.ts";
import { poison } from "../support/poison.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { metricsOf, signalAt, type Workshop, workshop } from "../support/training.ts";

const path = temporaryFolder("diverge");
let shop: Workshop;

beforeAll(async () => {
  shop = await workshop(path);
});

/** Learns too fast: fails in one of its first steps, but not in the first two. */
const RECKLESS = { steps: 30, lr: 1.5, noiseLr: 1, warmup: 20, clip: 0, transferSteps: 0, evalEvery: 30 };

describe("a learning rate that is far too high", () => {
  it("a diverged run ends with the step, the parts of the loss and the last checkpoint, which holds finite numbers", async () => {
    const student = await shop.student("noise-distance");
    const options = { output: path("fast"), settings: RECKLESS, saveEvery: 1 };
    const failure = await failureOf(() => shop.distil(student, options));
    expect(failure.code).toBe("diverged");
    const [, step = "", kept = ""] =
      /^step (\d+): the run has diverged \(loss \S+, nll \S+, kl \S+, noise_kl \S+, gradient norm \S+\); last checkpoint: step (\d+) in \S+fast\.run$/.exec(
        failure.message,
      ) ?? [];
    expect(Number(step)).toBeGreaterThan(2);
    // The parameters of the checkpoint before are those that the failed step began with: their loss was never good.
    expect(Number(kept)).toBe(Number(step) - 2);
    expect(failure.hint).toContain("--lr");
    const checkpoint = join(path("fast.run"), "checkpoint");
    expect(JSON.parse(readFileSync(join(checkpoint, "state.json"), "utf8")).step).toBe(Number(kept));
    const reader = await openSafetensors(join(checkpoint, "model.safetensors"));
    for (const name of reader.tensors.keys()) expect((await reader.readF32(name)).every(Number.isFinite)).toBe(true);
    await reader.close();
    expect(metricsOf(path("fast.run")).filter((line) => "loss" in line)).toHaveLength(Number(step) - 1);
    expect(existsSync(path("fast"))).toBe(false);
    // It goes on from there, to the same end.
    const before = digest(checkpoint);
    const again = await failureOf(() => shop.distil(student, { ...options, resume: true }));
    expect(again.message).toBe(failure.message);
    expect(digest(checkpoint)).toEqual(before);
  });

  it("a divergence is noticed in the second step, before any checkpoint", async () => {
    const student = await shop.student("symmetric");
    const options = { output: path("faster"), settings: { ...RECKLESS, lr: 1e30, warmup: 0 }, saveEvery: 1 };
    const { code, message } = await failureOf(() => shop.distil(student, options));
    expect(code).toBe("diverged");
    expect(message).toMatch(/^step 2: .*; no checkpoint yet in \S+faster\.run$/);
  });

  it("a divergence is noticed by the evaluation after the last step", async () => {
    const settings = { lr: 1e30, warmup: 0, steps: 1 };
    const { code, message } = await failureOf(() =>
      shop.run("finetune", shop.base, { output: path("last"), settings }),
    );
    expect(code).toBe("diverged");
    expect(message).toContain("step 1: the run has diverged (the loss on held-out text is not finite)");
  });

  it("a divergence is noticed in the transfer of attention", async () => {
    const student = await shop.student("symmetric");
    const settings = { transferSteps: 4, transferLr: 1e30 };
    const { code, message } = await failureOf(() => shop.distil(student, { output: path("transfer"), settings }));
    expect(code).toBe("diverged");
    expect(message).toMatch(/^step 2: the run has diverged \(loss \S+, attention_kl \S+, gradient norm \S+\)/);
  });
});

describe("models with a NaN", () => {
  it("a checkpoint in which somebody wrote a NaN is refused", async () => {
    const options = { output: path("poisoned"), settings: { steps: 6, evalEvery: 6 } };
    await failureOf(() => shop.run("finetune", shop.base, { ...options, ...signalAt(3) }));
    await poison(path("poisoned.run", "checkpoint"), "value/h.1.mlp.c_fc.weight");
    const { code, message } = await failureOf(() => shop.run("finetune", shop.base, { ...options, resume: true }));
    expect(code).toBe("invalid-file");
    expect(message).toContain(path("poisoned.run", "checkpoint", "model.safetensors"));
  });

  it("a NaN in the model to train or in the teacher is refused before anything is written", async () => {
    const [student, teacher] = [await shop.student("symmetric"), path("bad-teacher")];
    await shop.run("finetune", shop.base, { output: teacher, settings: { steps: 1 } });
    await poison(teacher, "h.0.ln_1.weight");
    const own = await failureOf(() => shop.run("finetune", teacher, { output: path("nan") }));
    expect([own.code, own.message]).toEqual(["invalid-file", `${teacher}: its loss is not finite`]);
    const other = await failureOf(() =>
      opened(teacher, (checkpoint) => shop.run("distill", student, { output: path("nan"), teacher: checkpoint })),
    );
    expect([other.code, other.message]).toEqual(["invalid-file", `${teacher}: its loss is not finite`]);
    expect(existsSync(path("nan.run"))).toBe(false);
  });
});
