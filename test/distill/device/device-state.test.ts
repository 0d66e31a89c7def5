// Steps with parameters in tensors of a device, run on the CPU provider, against those in the host's memory.
import { describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { DeviceState } from "../../../src/distill/device/device-state.ts";
import { RunFolder } from "../../../src/distill/run-folder.ts";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";
import { countElements } from "../../../src/formats/dtype.ts";
import { makeFloat32Tensor, Session } from "../../../src/graph/session.ts";
import { compareSteps, runSteps, STEPS_CASES } from "../../support/device-steps.ts";
import { tinyModelConfig, tinyValues } from "../../support/make-checkpoint.ts";
import { SLOW } from "../../support/slow.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("device-state");
const session = { threads: 1 };

describe("parameters on a device", () => {
  it.each(STEPS_CASES)("take the same steps: $name", async (given) => {
    const host = await runSteps(given, 6, { session, onHost: true });
    const device = await runSteps(given, 6, { session });
    const { losses, values, worst } = compareSteps(host, device);
    expect(Object.keys(device.values)).toEqual(Object.keys(host.values));
    expect(losses).toBeLessThan(1e-4);
    expect(values, worst).toBeLessThan(1e-3);
    expect(Object.values(host.moved).some((moved) => moved > 1e-3)).toBe(true);
  });
});

describe("a step on a device", () => {
  /** As many layers, and tokens of a batch, as the 5.9 M-parameter model of the documentation has. */
  const dense = tinyModelConfig({ layers: 6, heads: 1, width: 8, positions: 256, vocab: 61 });
  const base = { dense, batch: { batchSize: 16, length: 256 } };

  it("sends tokens and a few scalars to the device, and takes losses and a norm from it", async () => {
    const traffic = { up: 0, down: 0 };
    const seen: { up: number; down: number }[] = [];
    const onStep = () => seen.push({ ...traffic });
    await runSteps({ name: "base", student: { variant: "noise-distance" }, ...base }, 2, {
      session: { traffic },
      onStep,
    });
    const [first, second] = seen as [typeof traffic, typeof traffic];
    const tokens = 4 * 16 * 256;
    expect(second.up - first.up).toBeGreaterThanOrEqual(3 * tokens); // for the teacher, for the student, and as labels
    expect(second.up - first.up).toBeLessThan(64_000);
    expect(second.down - first.down).toBeGreaterThanOrEqual(3 * 4);
    expect(second.down - first.down).toBeLessThan(1000);
  });

  it.each(STEPS_CASES.filter(({ name }) => /micro-batches|mean of the values|hidden/.test(name)))(
    "leaves nothing behind on it, however many there are: $name",
    SLOW,
    async (given) => {
      const held: number[] = [];
      await runSteps({ ...given, settings: { ...given.settings, steps: 200 } }, 200, {
        session,
        onStep: (_, tensors) => held.push(tensors),
      });
      expect(held).toHaveLength(200);
      expect(held[199]).toBe(held[4]);
    },
  );

  it("holds nothing of the transfer once training has begun", async () => {
    const held = async (transferSteps: number) => {
      const tensors: number[] = [];
      const given = { name: "transfer", student: { variant: "symmetric" as const }, settings: { transferSteps } };
      await runSteps(given, 5, { session, onStep: (_, count) => tensors.push(count) });
      return tensors[4];
    };
    expect(await held(2)).toBe(await held(0));
  });

  it("is saved as the host's are, so that either goes on with the other's run", async () => {
    const specs = [
      { name: "h.0.mlp.c_fc.weight", shape: [4, 8], trained: true },
      { name: "h.0.mlp.c_fc.bias", shape: [8], trained: true },
      { name: "wpe.weight", shape: [3, 4], trained: false },
    ];
    const moves = {
      lr: 0.1,
      noiseLr: 0.1,
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      decay: 0.1,
      step: 1,
      gradientScale: 1,
    };
    const state = await DeviceState.open(specs, { average: true }, session);
    for (const { name, shape } of specs.slice(0, 2)) {
      const values = tinyValues(name, countElements(shape));
      await state.fill(name, "value", async (into) => into.set(values));
      await state.memory.write(makeFloat32Tensor(values, shape), state.gradient(name));
    }
    await state.move(state.trained, moves);
    await state.addToAverage(2);
    const folder = new RunFolder(path("out"), z.object({ step: z.int(), metricsBytes: z.int() }));
    await folder.claim();
    await folder.create({ seed: 0 });
    await folder.save(state, { step: 1, metricsBytes: 0 });
    const host = new ParameterStore(specs, { average: true });
    expect(await folder.load(host)).toEqual({ step: 1, metricsBytes: 0 });
    const again = await DeviceState.open(specs, { average: true }, session);
    await folder.load(again);
    for (const name of state.trained)
      for (const part of ["value", "moment1", "moment2", "average"] as const) {
        const saved = await state.read(name, part);
        expect(saved.some((x) => x !== 0)).toBe(true);
        expect(await host.read(name, part)).toEqual(saved);
        expect(await again.read(name, part)).toEqual(saved);
      }
    const [onHost, onDevice] = [host, again].map((each) =>
      each.withAverage(async () => (await each.read("h.0.mlp.c_fc.bias", "value")).slice()),
    );
    expect(await onDevice).toEqual(await onHost);
    await folder.release();
    await Promise.all([state.close(), again.close()]);
  });

  it("moves large arrays layer by layer, and small ones together, as the host moves each", SLOW, async () => {
    const layer = (i: number) => [
      { name: `h.${i}.mlp.c_fc.weight`, shape: [256, 300], trained: true },
      { name: `h.${i}.mlp.c_fc.bias`, shape: [300], trained: true },
      { name: `h.${i}.mlp.c_proj.weight`, shape: [300, 256], trained: true },
      { name: `h.${i}.attn.noise_mean`, shape: [4, 8], trained: true },
    ];
    // Too large for a group with anything else, so that there are several.
    const specs = [{ name: "wte.weight", shape: [2 ** 16, 256], trained: true }, ...layer(0), ...layer(1)];
    const moves = { lr: 0.1, noiseLr: 0.2, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, decay: 0.1, step: 3 };
    const settings = { ...moves, gradientScale: 0.5 };
    const state = await DeviceState.open(specs, {}, session);
    const host = new ParameterStore(specs, {});
    for (const { name, shape } of specs) {
      const [values, gradient] = [0, 1].map((draw) => tinyValues(`${name} ${draw}`, countElements(shape)));
      for (const each of [state, host])
        await each.fill(name, "value", async (into) => into.set(values as Float32Array));
      await state.memory.write(makeFloat32Tensor(gradient as Float32Array, shape), state.gradient(name));
      (host.gradient(name).data as Float32Array).set(gradient as Float32Array);
    }
    host.clearTotals();
    host.accumulate(host.trained);
    const [own, expected] = [await state.gradientNorm(state.trained), host.gradientNorm(host.trained)];
    expect(Math.abs(own - expected)).toBeLessThan(1e-6 * expected);
    await state.move(state.trained, settings);
    host.move(host.trained, settings);
    for (const { name } of specs)
      for (const part of ["value", "moment1", "moment2"] as const) {
        const [moved, wanted] = [await state.read(name, part), await host.read(name, part)];
        const worst = moved.reduce((most, x, i) => Math.max(most, Math.abs(x - (wanted[i] as number))), 0);
        expect(worst, `${part} of ${name}`).toBeLessThan(1e-6);
      }
    await state.close();
  });

  it("shows a value that is not finite in the norm, before anything moves", async () => {
    const state = await DeviceState.open([{ name: "w", shape: [2, 2], trained: true }], {}, session);
    await state.memory.write(makeFloat32Tensor(Float32Array.of(1, Number.NaN, 1, 1), [2, 2]), state.gradient("w"));
    expect(await state.gradientNorm(["w"])).toBeNaN();
    await state.memory.write(makeFloat32Tensor(Float32Array.of(3, 0, 0, 4), [2, 2]), state.gradient("w"));
    expect(await state.gradientNorm(["w"])).toBe(5);
    await state.close();
  });

  it("forgets an overflow where totals begin anew", async () => {
    const state = await DeviceState.open([{ name: "w", shape: [2], trained: true }], { accumulate: true }, session);
    const add = async (...values: number[]) => {
      await state.memory.write(makeFloat32Tensor(Float32Array.from(values), [2]), state.gradient("w"));
      await state.accumulate(["w"]);
    };
    await add(Number.POSITIVE_INFINITY, 1);
    expect(await state.gradientNorm(["w"])).toBe(Number.POSITIVE_INFINITY);
    state.clearTotals();
    await add(1, 2);
    await add(2, 2);
    expect(await state.gradientNorm(["w"])).toBe(5);
    await state.close();
  });

  it("frees everything after a session that did not open", async () => {
    const state = await DeviceState.open([{ name: "w", shape: [2], trained: true }], {}, session);
    vi.spyOn(Session, "withInputs").mockRejectedValueOnce(new Error("no room for the program"));
    await expect(state.gradientNorm(["w"])).rejects.toThrow("no room");
    vi.restoreAllMocks();
    expect(await state.gradientNorm(["w"])).toBe(0);
    await state.close();
    expect(state.memory.count).toBe(0);
  });
});
