// Runs graphs over the arrays of parameters, a group after the other, so that spare buffers are few.
import { countElements } from "../../formats/dtype.ts";
import type { DeviceMemory } from "../../graph/device-memory.ts";
import type { DeviceTensor } from "../../graph/device-tensor.ts";
import type { Graph } from "../../graph/ir.ts";
import { makeFloat32Tensor, Session, type SessionOptions, type Tensor } from "../../graph/session.ts";
import { SessionCache } from "../../graph/session-cache.ts";
import type { GroupBuilder, GroupPart } from "./group-graphs.ts";
import { buildGroup, buildSquares, nameInput, packBySize, readOutput } from "./pack-graphs.ts";

type Shapes = ReadonlyMap<string, readonly number[]>;

export class GroupRunner {
  private readonly memory: DeviceMemory;
  private readonly parts: Readonly<Record<GroupPart, Map<string, DeviceTensor>>>;
  private readonly options: SessionOptions;
  /** By what they do, and to which shapes: layers that are alike share one. */
  private readonly sessions = new SessionCache();
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
    for (const group of groupBySize(names, shapes)) {
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
    const session = await this.open(`norm ${names.join()}`, () => buildSquares(totals.map(({ shape }) => shape)));
    const feeds = Object.fromEntries(totals.map((tensor, i) => [nameInput("total", i), tensor]));
    const { squares } = await session.run(feeds);
    return Math.sqrt((squares as Tensor).data[0] as number);
  }

  async close(): Promise<void> {
    await this.sessions.close();
  }

  private session(group: readonly string[], shapes: Shapes, builder: GroupBuilder): Promise<Session> {
    const members = group.map((name) => ({ name, shape: shapes.get(name) as readonly number[] }));
    const key = members.map((member) => `${builder.treatment(member)} [${member.shape}]`);
    return this.open(`${builder.kind} ${key}`, () => buildGroup(members, builder));
  }

  private open(key: string, build: () => Graph): Promise<Session> {
    return this.sessions.open(key, () => Session.withInputs(build(), this.options));
  }

  private async takeSpare(shape: readonly number[]): Promise<DeviceTensor> {
    return this.spares.get(String(shape))?.pop() ?? (await this.memory.zeros(shape));
  }

  private putSpare(tensor: DeviceTensor): void {
    const key = String(tensor.shape);
    this.spares.set(key, [...(this.spares.get(key) ?? []), tensor]);
  }
}

/** The layer that a parameter belongs to. */
const LAYER = /^h\.\d+\./;

/** Elements below which a parameter costs the time of its programs' starts, and joins those of all layers. */
const SMALL = 2 ** 16;
/** Elements of a group: a run has a price of its own, and each group's new arrays need 64 MiB of spare buffers. */
const GROUP_ELEMENTS = 2 ** 24;

/** All small parameters, and the others layer by layer, several layers in one group as long as it holds them. */
function groupBySize(names: readonly string[], shapes: Shapes): string[][] {
  const size = (name: string) => countElements(shapes.get(name) as readonly number[]);
  const small = names.filter((name) => size(name) < SMALL);
  const units = new Map<string, string[]>();
  for (const name of names.filter((each) => size(each) >= SMALL)) {
    const unit = LAYER.exec(name)?.[0] ?? name;
    units.set(unit, [...(units.get(unit) ?? []), name]);
  }
  const total = (unit: readonly string[]) => unit.reduce((sum, name) => sum + size(name), 0);
  const groups = packBySize([...units.values()], { size: total, limit: GROUP_ELEMENTS });
  return [...(small.length > 0 ? [small] : []), ...groups.map((group) => group.flat())];
}
