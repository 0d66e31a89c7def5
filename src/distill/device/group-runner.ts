// Runs graphs over the arrays of parameters, a group after the other, so that spare buffers are few.
import type { DeviceMemory } from "../../graph/device-memory.ts";
import type { DeviceTensor } from "../../graph/device-tensor.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { reduceSum, single } from "../../graph/ops.ts";
import { makeFloat32Tensor, Session, type SessionOptions, type Tensor } from "../../graph/session.ts";
import { concat, reshape } from "../../graph/shape-ops.ts";
import type { GroupBuilder, GroupPart } from "./group-graphs.ts";

type Shapes = ReadonlyMap<string, readonly number[]>;

export class GroupRunner {
  private readonly memory: DeviceMemory;
  private readonly parts: Readonly<Record<GroupPart, Map<string, DeviceTensor>>>;
  private readonly options: SessionOptions;
  /** By what they do, and to which shapes: layers that are alike share one. */
  private readonly sessions = new Map<string, Promise<Session>>();
  /** Buffers that nothing is in, by shape. */
  private readonly spares = new Map<string, DeviceTensor[]>();

  constructor(memory: DeviceMemory, parts: GroupRunner["parts"], options: SessionOptions) {
    this.memory = memory;
    this.parts = parts;
    this.options = options;
  }

  /** Lets the builder's arrays take the place of those that are there. */
  async replace(
    names: readonly string[],
    shapes: Shapes,
    builder: GroupBuilder,
    scalars: Readonly<Record<string, number>>,
  ): Promise<void> {
    const fed = Object.entries(scalars).map(([name, value]): [string, Tensor] => {
      return [name, makeFloat32Tensor(new Float32Array([value]), [])];
    });
    for (const group of groupByLayer(names)) {
      const session = await this.session(group, shapes, builder);
      const tensors = (part: GroupPart, i: number) => this.parts[part].get(group[i] as string) as DeviceTensor;
      const inputs = builder.reads.flatMap((part) =>
        group.map((_, i): [string, DeviceTensor] => [nameInput(part, i), tensors(part, i)]),
      );
      const feeds = Object.fromEntries([...inputs, ...fed.filter(([name]) => session.inputNames.includes(name))]);
      const into: Record<string, DeviceTensor> = {};
      for (const output of session.outputNames)
        into[output] = await this.takeSpare(tensors(...readOutput(output)).shape);
      await session.run(feeds, into);
      for (const [output, made] of Object.entries(into)) {
        const [part, i] = readOutput(output);
        this.putSpare(tensors(part, i));
        this.parts[part].set(group[i] as string, made);
      }
    }
  }

  /** √Σ total² over the named parameters */
  async measureNorm(names: readonly string[]): Promise<number> {
    const totals = names.map((name) => this.parts.total.get(name) as DeviceTensor);
    const session = await this.open(`norm ${names.join()}`, () => buildSquares(totals));
    const feeds = Object.fromEntries(totals.map((tensor, i) => [nameInput("total", i), tensor]));
    const { squares } = await session.run(feeds);
    return Math.sqrt((squares as Tensor).data[0] as number);
  }

  async close(): Promise<void> {
    for (const session of this.sessions.values()) await (await session).close();
    this.sessions.clear();
  }

  private session(group: readonly string[], shapes: Shapes, builder: GroupBuilder): Promise<Session> {
    const members = group.map((name) => ({ name, shape: shapes.get(name) as readonly number[] }));
    const key = members.map(({ name, shape }) => `${name.replace(LAYER, "")} [${shape}]`);
    return this.open(`${builder.kind} ${key}`, () => buildGroup(members, builder));
  }

  private open(key: string, build: () => Graph): Promise<Session> {
    const known = this.sessions.get(key) ?? Session.withInputs(build(), this.options);
    this.sessions.set(key, known);
    return known;
  }

  private async takeSpare(shape: readonly number[]): Promise<DeviceTensor> {
    return this.spares.get(String(shape))?.pop() ?? (await this.memory.zeros(shape));
  }

  private putSpare(tensor: DeviceTensor): void {
    const key = String(tensor.shape);
    this.spares.set(key, [...(this.spares.get(key) ?? []), tensor]);
  }
}

const LAYER = /^h\.\d+\./;

/** The parameters of each layer, and those outside of all. */
function groupByLayer(names: readonly string[]): string[][] {
  const groups = new Map<string, string[]>();
  for (const name of names) {
    const layer = LAYER.exec(name)?.[0] ?? "";
    groups.set(layer, [...(groups.get(layer) ?? []), name]);
  }
  return [...groups.values()];
}

/** An array of the i-th parameter of a group. */
const nameInput = (part: GroupPart, i: number) => `${part}/${i}`;
const nameOutput = (part: GroupPart, i: number) => `new/${part}/${i}`;

function readOutput(name: string): [GroupPart, number] {
  const [, part, i] = name.split("/") as [string, GroupPart, string];
  return [part, Number(i)];
}

function buildGroup(members: readonly { name: string; shape: readonly number[] }[], builder: GroupBuilder): Graph {
  const graph = new Graph();
  const scalars = new Map<string, Value>();
  const scalar = (name: string) => {
    const value = scalars.get(name) ?? graph.input(name, "float32", []);
    scalars.set(name, value);
    return value;
  };
  for (const [i, { name, shape }] of members.entries()) {
    const inputs = new Map(builder.reads.map((part) => [part, graph.input(nameInput(part, i), "float32", shape)]));
    const made = builder.build(name, (part) => inputs.get(part) as Value, scalar);
    for (const [part, value] of Object.entries(made)) graph.output(value, nameOutput(part as GroupPart, i));
  }
  return graph;
}

/** Σ x² over all tensors, rows first, so that long sums are made of short ones: "squares" [1] */
function buildSquares(tensors: readonly DeviceTensor[]): Graph {
  const graph = new Graph();
  const sums = tensors.map(({ shape }, i) => {
    const x = graph.input(nameInput("total", i), "float32", shape);
    const kept = shape.slice(0, -1);
    const axes = graph.ints([shape.length - 1]);
    const attributes = { keepdims: { int: 0 } };
    const rows = single({ op: "ReduceSumSquare", inputs: [x, axes], dtype: "float32", shape: kept, attributes });
    const sum =
      kept.length === 0
        ? rows
        : reduceSum(
            rows,
            kept.map((_, axis) => axis),
          ); // []
    return reshape(sum, [1]);
  });
  graph.output(reduceSum(concat(sums, 0), [0], true), "squares");
  return graph;
}
