// Times graphs on a device against the CPU; the first run, in which a device compiles its programs, is left out.
import { throwIfAborted } from "../../errors.ts";
import { type Device, Session, type SessionOptions, type Tensor } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import { buildModelStep, buildProductChain, computeDistance, type SpeedGraph, type Work } from "./speed-graphs.ts";

export interface SpeedOptions extends Pick<SessionOptions, "threads"> {
  signal?: AbortSignal | undefined;
}

/** Products of square matrices: the rate at the largest size that was tried. */
export interface ProductSpeed {
  /** Rows and columns. */
  size: number;
  /** Seconds of one product. */
  seconds: number;
  gflops: number;
}

/** The step of a model, or as many of its layers as fit the test. */
export interface StepSpeed {
  seconds: number;
  gflops: number;
  tokens: number;
  layers: number;
}

type Outputs = Record<string, Tensor>;

/** Runs are repeated for this long, at most this many times. */
const BUDGET_SECONDS = 0.8;
const MAX_RUNS = 20;
/** A product of this time is large enough to be timed; the next larger one would take eight times as long. */
const ENOUGH_SECONDS = 0.05;
const SIZES = [256, 512, 1024, 2048, 4096];

/** Larger relative errors are no rounding: exp, tanh and sums of other orders differ by 10⁻⁶ to 10⁻⁴. */
const MAX_DISTANCE = 1e-2;

/** What the devices are compared with, measured once. */
export interface Baseline<T> {
  speed: T;
  outputs: Outputs;
}

/** Products on one device, of growing size until they take long enough. `outputs` are those of the smallest. */
export async function timeProducts(device: Device, options: SpeedOptions): Promise<Baseline<ProductSpeed>> {
  let outputs: Outputs | undefined;
  for (const size of SIZES) {
    const chain = buildProductChain(size);
    const timed = await timeGraph(chain, device, options);
    outputs ??= timed.outputs;
    const last = timed.seconds > ENOUGH_SECONDS || size === SIZES.at(-1);
    const gflops = chain.flops / timed.seconds / 1e9;
    const seconds = (2 * size ** 3) / (gflops * 1e9);
    if (last) return { speed: { size, seconds, gflops }, outputs };
  }
  throw new Error("no size was timed");
}

/** The step of a model on one device. */
export async function timeModelStep(
  config: ModelConfig,
  work: Work,
  device: Device,
  options: SpeedOptions,
): Promise<Baseline<StepSpeed>> {
  const { tokens, layers, ...step } = buildModelStep(config, work);
  const { seconds, outputs } = await timeGraph(step, device, options);
  return { speed: { seconds, gflops: step.flops / seconds / 1e9, tokens, layers }, outputs };
}

/** Whether a device has computed what the CPU has. */
export function agrees({ outputs }: Baseline<unknown>, reference: Baseline<unknown>): boolean {
  return computeDistance(outputs, reference.outputs) <= MAX_DISTANCE;
}

/** The median of the runs after the first one. */
async function timeGraph(
  { graph, feeds, weightOf }: SpeedGraph,
  device: Device,
  { threads, signal }: SpeedOptions,
): Promise<{ seconds: number; outputs: Outputs }> {
  throwIfAborted(signal);
  const session = await Session.withWeights(graph, weightOf, { device, threads });
  try {
    const outputs = await session.run(feeds);
    const times: number[] = [];
    let total = 0;
    while (times.length < MAX_RUNS && total < BUDGET_SECONDS) {
      throwIfAborted(signal);
      const started = performance.now();
      await session.run(feeds);
      const seconds = (performance.now() - started) / 1000;
      times.push(seconds);
      total += seconds;
    }
    times.sort((a, b) => a - b);
    return { seconds: times[Math.floor(times.length / 2)] as number, outputs };
  } finally {
    await session.close();
  }
}
