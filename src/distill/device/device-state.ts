// The parameters of a run in the memory of a device: they are moved there, and read back to be saved.
import { countElements } from "../../formats/dtype.ts";
import { DeviceMemory } from "../../graph/device-memory.ts";
import type { DeviceTensor } from "../../graph/device-tensor.ts";
import { ROUNDING_SCRATCH } from "../../graph/quantize/rounding-kernel.ts";
import { makeFloat32Tensor, type SessionOptions } from "../../graph/session.ts";
import type { WeightForm } from "../../model/weight-forms.ts";
import { allocate, type Region } from "../kernels/memory.ts";
import { type FixedGrid, type RoundedWeight, roundInMemory, shapeGrid } from "../kernels/round-weight.ts";
import {
  betweenSwaps,
  type MoveSettings,
  type ParameterRequest,
  type ParameterState,
  type StatePart,
} from "../step/parameter-state.ts";
import {
  buildMean,
  buildMove,
  buildTotal,
  type GroupBuilder,
  type GroupPart,
  makeMoveScalars,
} from "./group-graphs.ts";
import { GroupRunner } from "./group-runner.ts";

interface StateOptions {
  /** Totals apart from the gradients. */
  accumulate?: boolean | undefined;
  /** Means of the values. */
  average?: boolean | undefined;
}

/** A parameter that is trained for a form: what graphs read of it, and the host's arrays in which it is rounded. */
interface Rounded {
  weight: RoundedWeight;
  region: Region;
  tensor: DeviceTensor;
}

/**
 * Each array is a buffer of its own. An update writes new values, and moments, to spare buffers, which then change places
 * with those that were read: no run reads and writes the same one. Values are rounded on the host, so that they are the
 * exporter's to the bit: each step reads those that have a form down, and writes them up again.
 */
export class DeviceState implements ParameterState {
  readonly names: readonly string[];
  readonly trained: readonly string[];
  readonly hasAverages: boolean;
  /** Where further tensors of the run are made. */
  readonly memory: DeviceMemory;
  private readonly shapes: ReadonlyMap<string, readonly number[]>;
  private readonly parts: Record<GroupPart, Map<string, DeviceTensor>>;
  private readonly groups: GroupRunner;
  private readonly hasTotals: boolean;
  private readonly rounded = new Map<string, Rounded>();
  rounds = true;
  /** 0 until the first micro-batch of a step is in the totals. */
  private keep = 0;

  private constructor(
    specs: readonly ParameterRequest[],
    { accumulate, average }: StateOptions,
    session: SessionOptions,
  ) {
    this.names = specs.map(({ name }) => name);
    this.trained = specs.filter(({ trained }) => trained).map(({ name }) => name);
    this.shapes = new Map(specs.map(({ name, shape }) => [name, shape]));
    this.hasTotals = accumulate ?? false;
    this.hasAverages = average ?? false;
    this.memory = new DeviceMemory(session);
    const gradient = new Map<string, DeviceTensor>();
    const total = this.hasTotals ? new Map<string, DeviceTensor>() : gradient;
    this.parts = { value: new Map(), gradient, total, moment1: new Map(), moment2: new Map(), average: new Map() };
    this.groups = new GroupRunner(this.memory, this.parts, session);
  }

  /** A state of zeros. @param session names the device */
  static async open(
    specs: readonly ParameterRequest[],
    options: StateOptions,
    session: SessionOptions,
  ): Promise<DeviceState> {
    const state = new DeviceState(specs, options, session);
    const { value, gradient, total, moment1, moment2, average } = state.parts;
    const kept = [
      gradient,
      moment1,
      moment2,
      ...(state.hasTotals ? [total] : []),
      ...(state.hasAverages ? [average] : []),
    ];
    try {
      for (const { name, shape, trained } of specs)
        for (const part of [value, ...(trained ? kept : [])]) part.set(name, await state.memory.zeros(shape));
      for (const spec of specs)
        if (spec.form)
          state.rounded.set(spec.name, {
            ...prepareRounding(spec, spec.form),
            tensor: await state.memory.zeros(spec.shape),
          });
    } catch (error) {
      await state.close();
      throw error;
    }
    return state;
  }

  shape(name: string): readonly number[] {
    return this.shapes.get(name) as readonly number[];
  }

  shapePart(name: string, part: StatePart): readonly number[] | null {
    if (part !== "grid") return this.shape(name);
    const { form, grid } = this.rounded.get(name)?.weight ?? {};
    return form && grid ? shapeGrid(form) : null;
  }

  async setRounding(on: boolean): Promise<void> {
    if (this.rounds === on) return;
    this.rounds = on;
    for (const { weight } of this.rounded.values()) if (weight.grid) weight.grid.known = false;
    await this.round([...this.rounded.keys()]);
  }

  parameter(name: string): DeviceTensor {
    const rounded = this.rounds ? this.rounded.get(name) : undefined;
    return rounded?.tensor ?? this.tensor("value", name);
  }

  gradient(name: string): DeviceTensor {
    return this.tensor("gradient", name);
  }

  clearTotals(): void {
    this.keep = 0;
  }

  async accumulate(names: readonly string[]): Promise<void> {
    if (!this.hasTotals) return;
    await this.replace(names, buildTotal, { keep: this.keep });
    this.keep = 1;
  }

  gradientNorm(names: readonly string[]): Promise<number> {
    return this.groups.measureNorm(names);
  }

  async move(names: readonly string[], settings: MoveSettings): Promise<void> {
    await this.replace(names, buildMove, makeMoveScalars(settings));
    await this.round(names);
  }

  async resetMoments(names: readonly string[]): Promise<void> {
    for (const name of names)
      for (const part of ["moment1", "moment2"] as const) await this.fill(name, part, async (into) => into.fill(0));
  }

  async addToAverage(count: number): Promise<void> {
    await this.replace(this.trained, buildMean, { weight: 1 / count });
  }

  withAverage<T>(work: () => Promise<T>): Promise<T> {
    return betweenSwaps(() => this.swapAverage(), work);
  }

  async read(name: string, part: StatePart): Promise<Float32Array> {
    if (part === "grid") return this.fixedGrid(name).values;
    return (await this.memory.read(this.tensor(part, name))) as Float32Array;
  }

  async readRounded(name: string): Promise<Float32Array> {
    return (await this.memory.read(this.parameter(name))) as Float32Array;
  }

  async fill(name: string, part: StatePart, read: (into: Float32Array) => Promise<unknown>): Promise<void> {
    if (part === "grid") {
      const grid = this.fixedGrid(name);
      await read(grid.values);
      grid.known = true;
      return;
    }
    const shape = this.shape(name);
    const values = new Float32Array(countElements(shape));
    await read(values);
    await this.memory.write(makeFloat32Tensor(values, shape), this.tensor(part, name));
    if (part === "value") await this.round([name]);
  }

  async close(): Promise<void> {
    await this.groups.close();
    await this.memory.close();
  }

  private replace(names: readonly string[], builder: GroupBuilder, scalars: Readonly<Record<string, number>>) {
    return this.groups.replace(names, this.shapes, builder, scalars);
  }

  private async swapAverage(): Promise<void> {
    const { value, average } = this.parts;
    for (const name of this.trained) {
      const kept = this.tensor("average", name);
      average.set(name, this.tensor("value", name));
      value.set(name, kept);
    }
    await this.round(this.trained);
  }

  /** Makes what graphs read of these parameters from their values; without rounding they read the values. */
  private async round(names: readonly string[]): Promise<void> {
    if (!this.rounds) return;
    for (const name of names) {
      const rounded = this.rounded.get(name);
      if (!rounded) continue;
      const { weight, region, tensor } = rounded;
      weight.values.set(await this.read(name, "value"));
      roundInMemory(region, weight);
      await this.memory.write(makeFloat32Tensor(weight.into, this.shape(name)), tensor);
    }
  }

  private fixedGrid(name: string): FixedGrid {
    const grid = this.rounded.get(name)?.weight.grid;
    if (!grid) throw new Error(`${name} has no fixed grid`);
    return grid;
  }

  private tensor(part: GroupPart, name: string): DeviceTensor {
    const tensor = this.parts[part].get(name);
    if (!tensor) throw new Error(`the device holds no ${part} of ${name}`);
    return tensor;
  }
}

/** The host's arrays in which a parameter is rounded. */
function prepareRounding({ name, shape, fixedGrid }: ParameterRequest, form: WeightForm): Omit<Rounded, "tensor"> {
  const size = countElements(shape);
  const lengths = [size, size, fixedGrid ? countElements(shapeGrid(form) ?? [0]) : 0];
  const [region] = allocate([{ name, lengths }], undefined, ROUNDING_SCRATCH) as [Region];
  const [values, into, grids] = region.arrays as [Float32Array, Float32Array, Float32Array];
  const grid = grids.length > 0 ? { values: grids, known: false } : null;
  return { region, weight: { values, into, form, name, grid } };
}
