// Finds out which devices open here, and compares those with the CPU by a test of a few seconds.
import { NfcError } from "../../errors.ts";
import { checkDevice, DEVICES, type Device, listProviders } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import {
  agrees,
  type Baseline,
  type ProductSpeed,
  type SpeedOptions,
  type StepSpeed,
  timeModelStep,
  timeProducts,
} from "./speed-test.ts";

/** A rate, and how many times the CPU's it is. */
type Compared<T> = T & { ratio: number };

/** What is known of a device. */
export interface ProbedDevice {
  device: Device;
  /** Whether this build of onnxruntime-node has it. */
  built: boolean;
  opens: boolean;
  /** Why it does not open, and what to do; null where it does. */
  reason: string | null;
  hint: string | null;
  /** Null where it was not tested. */
  products: Compared<ProductSpeed> | null;
  step: Compared<StepSpeed> | null;
  /** What the test says of it; null where that is nothing special. */
  verdict: string | null;
}

export interface ProbeOptions extends SpeedOptions {
  /** False opens the devices only. */
  test?: boolean | undefined;
  onDevice?: ((device: Device) => void) | undefined;
}

/** A step like that of GPT-2 small, of two layers and a small vocabulary. */
const TYPICAL: ModelConfig = {
  variant: "dense",
  n_layer: 2,
  n_head: 12,
  n_embd: 768,
  n_inner: 3072,
  n_positions: 1024,
  vocab_size: 4096,
  layer_norm_epsilon: 1e-5,
  activation: "gelu_tanh",
  scale_attn_weights: true,
  scale_attn_by_inverse_layer_idx: false,
  bias: true,
  tied_head: true,
};

/**
 * Adapters made of software computed products at 1/316 of the CPU's rate where this was measured, and small training
 * steps at 1/25 to 1/50. A GPU below a tenth would gain nothing either.
 */
const SOFTWARE_RATIO = 0.1;
export const SOFTWARE = "a software adapter, or one slower than the CPU";
const WRONG = "computes other numbers than the CPU: update its driver";

/** @throws NfcError "missing-dependency" when onnxruntime-node does not load; "aborted" */
export async function probeDevices({ test = true, onDevice, ...options }: ProbeOptions = {}): Promise<ProbedDevice[]> {
  const built = await listProviders();
  const states: ProbedDevice[] = [];
  for (const device of DEVICES) {
    onDevice?.(device);
    states.push({ ...(await openDevice(device, built)), products: null, step: null, verdict: null });
  }
  if (!test) return states;
  const comparison = new Comparison(TYPICAL, options);
  for (const [i, state] of states.entries()) {
    if (!state.opens) continue;
    onDevice?.(state.device);
    states[i] = { ...state, ...(await comparison.judge(state.device)) };
  }
  return states;
}

type Opening = Pick<ProbedDevice, "device" | "built" | "opens" | "reason" | "hint">;

/** Opens a device with a graph of one op. */
export async function openDevice(device: Device, providers: readonly Device[]): Promise<Opening> {
  const built = providers.includes(device);
  try {
    await checkDevice(device);
    return { device, built, opens: true, reason: null, hint: null };
  } catch (error) {
    if (!(error instanceof NfcError) || error.code === "aborted") throw error;
    const { message, hint } = error;
    return { device, built, opens: false, reason: message.replace(`${device}: `, ""), hint: dropFlag(hint, device) };
  }
}

/** The way out without "leave out --device X", which is none where no device was asked for. */
function dropFlag(hint: string | undefined, device: Device): string | null {
  return hint?.replace(new RegExp(`(, or )?leave out --device ${device}$`), "") || null;
}

type Judgement = Pick<ProbedDevice, "products" | "step" | "verdict">;

/** Measures devices by the CPU, which is measured once. */
export class Comparison {
  private readonly config: ModelConfig;
  private readonly options: SpeedOptions;
  private readonly work: "train" | "run";
  private cpu: { products: Baseline<ProductSpeed>; step: Baseline<StepSpeed> } | null = null;

  constructor(config: ModelConfig, options: SpeedOptions, work: "train" | "run" = "train") {
    this.config = config;
    this.options = options;
    this.work = work;
  }

  /** A device that is slow at products, or wrong, is not tested further: its step might take minutes. */
  async judge(device: Device): Promise<Judgement> {
    this.cpu ??= { products: await this.products("cpu"), step: await this.step("cpu") };
    try {
      return await this.measure(device, this.cpu);
    } catch (error) {
      if (device === "cpu" || !(error instanceof NfcError) || error.code === "aborted") throw error;
      return { products: null, step: null, verdict: error.message.replace(`${device}: `, "") };
    }
  }

  private async measure(device: Device, cpu: NonNullable<Comparison["cpu"]>): Promise<Judgement> {
    if (device === "cpu")
      return { products: compare(cpu.products, cpu.products), step: compare(cpu.step, cpu.step), verdict: null };
    const products = await this.products(device);
    const judged = { products: compare(products, cpu.products), step: null };
    if (!agrees(products, cpu.products)) return { ...judged, verdict: WRONG };
    if (judged.products.ratio < SOFTWARE_RATIO) return { ...judged, verdict: SOFTWARE };
    const step = await this.step(device);
    return { ...judged, step: compare(step, cpu.step), verdict: agrees(step, cpu.step) ? null : WRONG };
  }

  private products(device: Device) {
    return timeProducts(device, this.options);
  }

  private step(device: Device) {
    return timeModelStep(this.config, this.work, device, this.options);
  }
}

function compare<T extends { gflops: number }>({ speed }: Baseline<T>, reference: Baseline<T>): Compared<T> {
  return { ...speed, ratio: speed.gflops / reference.speed.gflops };
}
