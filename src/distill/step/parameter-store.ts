// Values, gradients and AdamW moments of a model's parameters, the update, and the mean of their values over steps.
import { countElements } from "../../formats/dtype.ts";
import { ROUNDING_SCRATCH } from "../../graph/quantize/rounding-kernel.ts";
import { makeFloat32Tensor, type Tensor } from "../../graph/session.ts";
import { isNoiseParameter } from "../../model/parameters.ts";
import type { WeightForm } from "../../model/weight-forms.ts";
import { allocate, type Region } from "../kernels/memory.ts";
import { type FixedGrid, roundInMemory, shapeGrid } from "../kernels/round-weight.ts";
import {
  type AdamWSettings,
  betweenSwaps,
  isDecayed,
  type MoveSettings,
  type ParameterRequest,
  type ParameterState,
  type StatePart,
} from "./parameter-state.ts";

/**
 * The arrays of one parameter. `total` is the sum of the gradients of a step: an array of its own where gradients are
 * accumulated, else `gradient` itself. `average` is the mean of the values over some steps, empty where none is kept.
 * All but `value` and `rounded` are empty for a frozen parameter.
 */
export interface ParameterSlot {
  name: string;
  shape: readonly number[];
  value: Float32Array;
  gradient: Float32Array;
  moment1: Float32Array;
  moment2: Float32Array;
  total: Float32Array;
  average: Float32Array;
  /** What graphs read: `value` itself, or an array of its own where the parameter has a form. */
  rounded: Float32Array;
}

interface StoreOptions {
  accumulate?: boolean | undefined;
  average?: boolean | undefined;
  bankBytes?: number | undefined;
}

/** value, gradient, both moments, average, rounded values, grids, and a total where it is apart from the gradient */
type StoredArrays = [...Seven, Float32Array?];
type Seven = [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array, Float32Array, Float32Array];

interface Entry extends Pick<Region, "kernels" | "shared"> {
  slot: ParameterSlot;
  trained: boolean;
  form: WeightForm | null;
  grid: FixedGrid | null;
}

/**
 * Arrays begin as zeros in WebAssembly memory of up to 4 GiB each. They can be fed to ONNX Runtime and be its
 * preallocated outputs. Sums run in a fixed order: the same calls give the same bits.
 */
export class ParameterStore implements ParameterState {
  readonly names: readonly string[];
  readonly trained: readonly string[];
  private readonly entries = new Map<string, Entry>();
  private readonly hasTotals: boolean;
  readonly hasAverages: boolean;
  rounds = true;

  /**
   * @param options `accumulate`: totals apart from the gradients; `average`: means of the values; `bankBytes`: the most
   * that one memory holds
   * @throws NfcError "unsupported" if a parameter exceeds a memory, or memory lacks
   */
  constructor(specs: readonly ParameterRequest[], options: StoreOptions = {}) {
    this.hasTotals = options.accumulate ?? false;
    this.hasAverages = options.average ?? false;
    this.names = specs.map((spec) => spec.name);
    this.trained = specs.filter((spec) => spec.trained).map((spec) => spec.name);
    const lengths = ({ shape, trained, form, fixedGrid }: ParameterRequest) => {
      const size = countElements(shape);
      const apart = trained ? size : 0;
      const totals = this.hasTotals ? [apart] : [];
      return [
        size,
        apart,
        apart,
        apart,
        this.hasAverages ? apart : 0,
        form ? size : 0,
        form && fixedGrid ? countElements(shapeGrid(form) ?? [0]) : 0,
        ...totals,
      ];
    };
    const requests = specs.map((spec) => ({ name: spec.name, lengths: lengths(spec) }));
    const regions = allocate(requests, options.bankBytes, specs.some(({ form }) => form) ? ROUNDING_SCRATCH : 0);
    for (const [index, { name, shape, trained, form = null }] of specs.entries()) {
      const { arrays, ...region } = regions[index] as Region;
      const [value, gradient, moment1, moment2, average, own, grids, total = gradient] = arrays as StoredArrays;
      const slot = { name, shape, value, gradient, moment1, moment2, total, average, rounded: form ? own : value };
      this.entries.set(name, {
        ...region,
        slot,
        trained,
        form,
        grid: grids.length > 0 ? { values: grids, known: false } : null,
      });
    }
  }

  slot(name: string): ParameterSlot {
    return this.entry(name).slot;
  }

  value(name: string): Float32Array {
    return this.slot(name).value;
  }

  shape(name: string): readonly number[] {
    return this.slot(name).shape;
  }

  shapePart(name: string, part: StatePart): readonly number[] | null {
    const { form, grid } = this.entry(name);
    if (part === "grid") return form && grid ? shapeGrid(form) : null;
    return this.shape(name);
  }

  setRounding(on: boolean): void {
    if (this.rounds === on) return;
    this.rounds = on;
    for (const [name, { grid }] of this.entries) {
      if (grid) grid.known = false;
      this.round(name);
    }
  }

  /** A parameter where it lies: a session that is fed it sees every update. */
  parameter(name: string): Tensor {
    return makeFloat32Tensor(this.slot(name).rounded, this.shape(name));
  }

  gradient(name: string): Tensor {
    const { gradient, shape } = this.slot(name);
    return makeFloat32Tensor(gradient, shape);
  }

  /** total += gradient. Without accumulation the gradient is the total, and there is nothing to do. */
  accumulate(names: readonly string[]): void {
    if (!this.hasTotals) return;
    for (const name of names) {
      const { kernels, slot } = this.entry(name);
      kernels.addInto(slot.total.byteOffset, slot.gradient.byteOffset, slot.total.length);
    }
  }

  /** Zeroes every total. Without accumulation there is nothing to do: each step overwrites the gradients. */
  clearTotals(): void {
    if (!this.hasTotals) return;
    for (const { slot } of this.entries.values()) slot.total.fill(0);
  }

  /** √Σ total² over the named parameters */
  gradientNorm(names: readonly string[]): number {
    let sum = 0;
    for (const name of names) {
      const { kernels, slot } = this.entry(name);
      sum += kernels.sumOfSquares(slot.total.byteOffset, slot.total.length);
    }
    return Math.sqrt(sum);
  }

  move(names: readonly string[], { noiseLr, ...settings }: MoveSettings): void {
    for (const name of names)
      this.update(name, {
        ...settings,
        lr: isNoiseParameter(name) ? noiseLr : settings.lr,
        decay: isDecayed(name, this.shape(name)) ? settings.decay : 0,
      });
  }

  /** One AdamW step from the total, as torch.optim.AdamW takes it (kernels.as.ts) */
  update(name: string, settings: AdamWSettings): void {
    const { kernels, slot, trained } = this.entry(name);
    if (!trained) throw new Error(`${name} is frozen`);
    const { lr, beta1, beta2, epsilon, decay, step, gradientScale } = settings;
    kernels.adamw(
      slot.value.byteOffset,
      slot.total.byteOffset,
      slot.moment1.byteOffset,
      slot.moment2.byteOffset,
      slot.value.length,
      lr,
      beta1,
      beta2,
      epsilon,
      decay,
      1 - beta1 ** step,
      1 - beta2 ** step,
      gradientScale,
    );
    this.round(name);
  }

  resetMoments(names: readonly string[]): void {
    for (const name of names) {
      const { moment1, moment2 } = this.slot(name);
      moment1.fill(0);
      moment2.fill(0);
    }
  }

  addToAverage(count: number): void {
    for (const name of this.trained) {
      const { kernels, slot } = this.entry(name);
      kernels.mixInto(slot.average.byteOffset, slot.value.byteOffset, slot.average.length, 1 / count);
    }
  }

  withAverage<T>(work: () => Promise<T>): Promise<T> {
    return betweenSwaps(() => this.swapAverage(), work);
  }

  private swapAverage(): void {
    for (const name of this.trained) {
      const { kernels, slot } = this.entry(name);
      kernels.swap(slot.average.byteOffset, slot.value.byteOffset, slot.average.length);
      this.round(name);
    }
  }

  /** Makes what graphs read of a parameter from its value. */
  private round(name: string): void {
    const entry = this.entry(name);
    const { slot, form, grid } = entry;
    if (!form) return;
    if (this.rounds) roundInMemory(entry, { values: slot.value, into: slot.rounded, form, name, grid });
    else slot.rounded.set(slot.value);
  }

  /**
   * gradient[indices[r]] += rows[r], rows [R, width], in the order of the rows: the gradient of an embedding.
   * The caller keeps the indices in bounds, and clears a gradient that nothing else writes.
   */
  addRows(name: string, rows: Float32Array, indices: Int32Array): void {
    const { gradient, shape } = this.slot(name);
    const width = shape.at(-1) as number;
    for (let row = 0; row < indices.length; row++) {
      const to = (indices[row] as number) * width;
      const from = row * width;
      for (let i = 0; i < width; i++) gradient[to + i] = (gradient[to + i] as number) + (rows[from + i] as number);
    }
  }

  /** The array itself: it is seen to change. */
  async read(name: string, part: StatePart): Promise<Float32Array> {
    return part === "grid" ? this.fixedGrid(name).values : this.slot(name)[part];
  }

  /** The array itself: it is seen to change. */
  async readRounded(name: string): Promise<Float32Array> {
    return this.slot(name).rounded;
  }

  async fill(name: string, part: StatePart, read: (into: Float32Array) => Promise<unknown>): Promise<void> {
    await read(await this.read(name, part));
    if (part === "grid") this.fixedGrid(name).known = true;
    if (part === "value") this.round(name);
  }

  private fixedGrid(name: string): FixedGrid {
    const { grid } = this.entry(name);
    if (grid === null) throw new Error(`${name} has no fixed grid`);
    return grid;
  }

  /** The memory goes with the store. */
  async close(): Promise<void> {}

  private entry(name: string): Entry {
    const entry = this.entries.get(name);
    if (entry === undefined) throw new Error(`no parameter ${name}`);
    return entry;
  }
}
