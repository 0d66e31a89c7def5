// Builds the graphs that GroupRunner runs: a builder's arrays of several parameters, and the sum of their squares.
import { countElements } from "../../formats/dtype.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { reduceSum, single } from "../../graph/ops.ts";
import { concat, reshape, split } from "../../graph/shape-ops.ts";
import type { GroupBuilder, GroupPart, Member } from "./group-graphs.ts";

/** An array of the i-th parameter of a group. */
export const nameInput = (part: GroupPart, i: number) => `${part}/${i}`;
const nameOutput = (part: GroupPart, i: number) => `new/${part}/${i}`;

export function readOutput(name: string): [GroupPart, number] {
  const [, part, i] = name.split("/") as [string, GroupPart, string];
  return [part, Number(i)];
}

/** Parameters that are treated alike go through the builder as one array: a program's start takes longer than most of them. */
export function buildGroup(members: readonly Member[], builder: GroupBuilder): Graph {
  const graph = new Graph();
  const scalars = new Map<string, Value>();
  const scalar = (name: string) => {
    const value = scalars.get(name) ?? graph.input(name, "float32", []);
    scalars.set(name, value);
    return value;
  };
  for (const { treatment, places } of packMembers(members, builder)) {
    const shapes = places.map((i) => (members[i] as Member).shape);
    const inputs = new Map(
      builder.reads.map((part) => {
        return [part, join(places.map((i, at) => graph.input(nameInput(part, i), "float32", shapes[at] as number[])))];
      }),
    );
    const made = builder.build(treatment, (part) => inputs.get(part) as Value, scalar);
    for (const [part, value] of Object.entries(made))
      for (const [at, own] of cut(value, shapes).entries())
        graph.output(own, nameOutput(part as GroupPart, places[at] as number));
  }
  return graph;
}

/** Elements of a pack: 32 MiB. */
const PACK_ELEMENTS = 2 ** 23;

/** The places of members of one treatment, together as long as a pack holds them. */
function packMembers(members: readonly Member[], builder: GroupBuilder): { treatment: string; places: number[] }[] {
  const places = members.map((_, place) => place);
  const member = (place: number) => members[place] as Member;
  const treatment = (place: number) => builder.treatment(member(place));
  const packs = packBySize(places, {
    size: (i) => countElements(member(i).shape),
    limit: PACK_ELEMENTS,
    kind: treatment,
  });
  return packs.map((pack) => ({ treatment: treatment(pack[0] as number), places: pack }));
}

/** Puts each item into the first pack of its kind with room for it; one above the limit has a pack of its own. */
export function packBySize<T>(
  items: readonly T[],
  { size, limit, kind = () => "" }: { size: (item: T) => number; limit: number; kind?: (item: T) => string },
): T[][] {
  const packs: { kind: string; items: T[]; filled: number }[] = [];
  for (const item of items) {
    const [of, filled] = [kind(item), size(item)];
    const open = packs.find((pack) => pack.kind === of && pack.filled + filled <= limit);
    if (!open) packs.push({ kind: of, items: [item], filled });
    else {
      open.items.push(item);
      open.filled += filled;
    }
  }
  return packs.map((pack) => pack.items);
}

/** Several arrays as one vector; one alone stays as it is. */
function join(arrays: readonly Value[]): Value {
  if (arrays.length === 1) return arrays[0] as Value;
  return concat(
    arrays.map((array) => reshape(array, [countElements(array.shape as number[])])),
    0,
  );
}

/** The inverse of `join`: arrays of these shapes. */
function cut(joined: Value, shapes: readonly (readonly number[])[]): Value[] {
  if (shapes.length === 1) return [joined];
  const parts = split(joined, shapes.map(countElements), 0);
  return parts.map((part, i) => reshape(part, shapes[i] as number[]));
}

/** Σ x² over all tensors, rows first, so that long sums are made of short ones: "squares" [1] */
export function buildSquares(shapes: readonly (readonly number[])[]): Graph {
  const graph = new Graph();
  const inputs = shapes.map((shape, i) => graph.input(nameInput("total", i), "float32", shape));
  const vectors = inputs.filter(({ shape }) => shape.length < 2);
  const matrices = inputs.filter(({ shape }) => shape.length >= 2);
  const sums = [...matrices, ...(vectors.length > 0 ? [join(vectors)] : [])].map((x) => {
    const kept = x.shape.slice(0, -1) as number[];
    const axes = graph.ints([x.shape.length - 1]);
    const attributes = { keepdims: { int: 0 } };
    const rows = single({ op: "ReduceSumSquare", inputs: [x, axes], dtype: "float32", shape: kept, attributes });
    const all = kept.map((_, axis) => axis);
    return reshape(all.length === 0 ? rows : reduceSum(rows, all), [1]);
  });
  graph.output(reduceSum(concat(sums, 0), [0], true), "squares");
  return graph;
}
