// The speed test: what it computes, what it compares, and which device it chooses.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { NfcError } from "../../../src/errors.ts";
import type { Value } from "../../../src/graph/ir.ts";
import { type Device, Session, type SessionOptions, type Tensor, type Tensors } from "../../../src/graph/session.ts";
import { chooseDevice } from "../../../src/inference/devices/choose-device.ts";
import { probeDevices, SOFTWARE } from "../../../src/inference/devices/probe-devices.ts";
import { buildModelStep, buildProductChain, computeDistance } from "../../../src/inference/devices/speed-graphs.ts";
import { VARIANTS } from "../../../src/model/variants.ts";
import { failureOf } from "../../support/failure.ts";
import { tinyModelConfig } from "../../support/make-checkpoint.ts";

/** How this machine's webgpu behaves, which the CPU plays; null where there is none. */
type Pretended = {
  /** Times as slow as the CPU. */
  slow?: number;
  /** The CPU itself is slowed down instead. */
  fast?: boolean;
  /** What its results are multiplied by. */
  factor?: number;
  full?: boolean;
  /** Why it does not open. */
  reason?: string;
} | null;

const machine = vi.hoisted(() => ({ webgpu: null as Pretended, now: 0 }));
const CPU_SLOWED = 4;
/** The machine has a clock of its own, on which a run takes as long as products of its weights, [N, N] each, do. */
const SECONDS_A_PRODUCT = 5e-9; // times N³

vi.mock("../../../src/graph/session.ts", async (original) => {
  const real = await original<typeof import("../../../src/graph/session.ts")>();
  class Played {
    static async withWeights(...[graph, weightOf, options = {}]: Parameters<typeof Session.withWeights>) {
      let seconds = 0;
      const count = (parameter: Value) => {
        const weights = weightOf(parameter);
        seconds += SECONDS_A_PRODUCT * weights.length ** 1.5;
        return weights;
      };
      const session = await real.Session.withWeights(graph, count, { ...options, device: "cpu" });
      return new Played(session, seconds, options);
    }
    private readonly session: Session;
    private readonly seconds: number;
    private readonly options: SessionOptions;
    constructor(session: Session, seconds: number, options: SessionOptions) {
      this.session = session;
      this.seconds = seconds;
      this.options = options;
    }
    async run(feeds: Tensors) {
      const { slow = 1, fast = false, factor = 1, full = false } = machine.webgpu ?? {};
      const other = this.options.device === "webgpu";
      if (other && full) throw new NfcError("device", "webgpu: its memory is full");
      const outputs = await this.session.run(feeds);
      machine.now += 1000 * this.seconds * (other ? slow : fast ? CPU_SLOWED : 1);
      if (other)
        for (const { data } of Object.values(outputs))
          (data as Float32Array).forEach((x, i) => {
            data[i] = x * factor;
          });
      return outputs;
    }
    close() {
      return this.session.close();
    }
  }
  return {
    ...real,
    Session: Played,
    listProviders: async () => (machine.webgpu ? ["cpu", "webgpu"] : ["cpu"]),
    checkDevice: async (device: Device) => {
      const reason = device === "webgpu" ? machine.webgpu?.reason : device === "cpu" ? undefined : "not built";
      const hint = device === "webgpu" ? "install it, or leave out --device webgpu" : `leave out --device ${device}`;
      if (reason) throw new NfcError("unsupported", `${device}: ${reason}`, { hint });
    },
  };
});

const config = tinyModelConfig({ width: 32, heads: 4, positions: 16, vocab: 61 });

describe("the graphs of the speed test", () => {
  it("the chain multiplies a matrix by another four times", async () => {
    const chain = buildProductChain(16);
    const session = await Session.withWeights(chain.graph, chain.weightOf);
    const { row } = (await session.run(chain.feeds)) as { row: Tensor };
    await session.close();
    const weights = chain.weightOf(chain.graph.parameter("b", [16, 16]));
    let expected = Float64Array.from(weights.subarray(0, 16)); // the first row of A, which equals B
    for (let i = 0; i < 4; i++)
      expected = expected.map((_, c) => expected.reduce((sum, x, k) => sum + x * (weights[k * 16 + c] as number), 0));
    expect(row.shape).toEqual([1, 16]);
    for (const [c, value] of (row.data as Float32Array).entries()) expect(value).toBeCloseTo(expected[c] as number, 5);
    expect(chain.flops).toBe(4 * 2 * 16 ** 3);
  });

  it.each(VARIANTS)("a step of a %s model runs, forward and with gradients that are not 0", async (variant) => {
    const model = tinyModelConfig({ variant, width: 32, heads: 4, positions: 16, vocab: 61 });
    for (const work of ["run", "train"] as const) {
      const step = buildModelStep(model, work);
      expect([step.tokens, step.layers]).toEqual([work === "train" ? 1024 : 128, model.n_layer]);
      const session = await Session.withWeights(step.graph, step.weightOf);
      const outputs = await session.run(step.feeds);
      await session.close();
      for (const [name, { data }] of Object.entries(outputs))
        expect(Math.hypot(...(data as Float32Array)), name).toBeGreaterThan(0);
      expect(Object.keys(outputs).length > 1).toBe(work === "train");
    }
  });

  it("a large model is tested with as many of its layers as fit", () => {
    const large = {
      ...config,
      n_layer: 48,
      n_embd: 1600,
      n_inner: 6400,
      n_head: 25,
      n_positions: 1024,
      vocab_size: 50257,
    };
    const { layers, tokens, flops } = buildModelStep(large, "train");
    expect(layers).toBeLessThan(4);
    expect(tokens).toBe(179);
    expect(flops).toBeLessThan(1.2e11);
    expect(buildModelStep({ ...large, n_positions: 300 }, "run").tokens).toBe(128);
  });

  it("outputs are compared by their relative distance, and NaN is far", () => {
    const tensor = (...data: number[]) => ({
      x: { dtype: "float32", data: Float32Array.from(data), shape: [2] } as const,
    });
    expect(computeDistance(tensor(3, 4.5), tensor(3, 4))).toBeCloseTo(0.1);
    expect(computeDistance(tensor(Number.NaN, 4), tensor(3, 4))).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("the comparison of devices", () => {
  beforeEach(() => {
    vi.spyOn(performance, "now").mockImplementation(() => machine.now);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it.each<[string, Pretended, Device, RegExp]>([
    ["there is no other", null, "cpu", /^cpu: there is no other device$/],
    ["it does not open", { reason: "no driver" }, "cpu", /^cpu: webgpu does not open \(no driver\)$/],
    ["it is as slow as software", { slow: 60 }, "cpu", new RegExp(`^cpu: webgpu is ${SOFTWARE}$`)],
    ["it is slower", { slow: 3 }, "cpu", /^cpu: webgpu has 0\.33 times its speed on this model's step$/],
    ["it is faster", { fast: true }, "webgpu", /^webgpu: 4\.0 times the CPU's speed on this model's step$/],
    [
      "it computes nonsense",
      { fast: true, factor: 2 },
      "cpu",
      /^cpu: webgpu is out \(computes other numbers than the CPU: update/,
    ],
    ["its memory is full", { fast: true, full: true }, "cpu", /^cpu: webgpu is out \(its memory is full\)$/],
  ])("the CPU or the other device is chosen: %s", async (_, pretended, device, line) => {
    machine.webgpu = pretended;
    const choice = await chooseDevice(config, { work: "run", threads: 1 });
    expect(choice.line).toMatch(line);
    expect(choice.device).toBe(device);
  });

  it("a device that is as slow as software is named, and its step is not tried", async () => {
    machine.webgpu = { slow: 60 };
    const webgpu = (await probeDevices({ threads: 1 })).find(({ device }) => device === "webgpu");
    expect(webgpu).toMatchObject({ built: true, opens: true, step: null, verdict: SOFTWARE });
    expect(webgpu?.products?.ratio).toBeCloseTo(1 / 60);
  });

  it("without the test devices are opened only, and a way out is kept without the flag that nobody gave", async () => {
    machine.webgpu = { reason: "no driver" };
    const states = await probeDevices({ test: false });
    expect(states.every(({ products, step }) => products === null && step === null)).toBe(true);
    expect(states.find(({ device }) => device === "webgpu")).toMatchObject({ reason: "no driver", hint: "install it" });
    expect(states.find(({ device }) => device === "cuda")).toMatchObject({ built: false, hint: null });
  });

  it("an aborted test ends", async () => {
    machine.webgpu = { fast: true };
    const error = await failureOf(() => chooseDevice(config, { work: "run", signal: AbortSignal.abort() }));
    expect(error.code).toBe("aborted");
  });
});
