// The noise ε as a graph of int32 operations, for a device: the same bits as `normals` in kernels.as.ts.
import { countElements } from "../../formats/dtype.ts";
import { Graph, type Value } from "../../graph/ir.ts";
import { add, div, mul, single } from "../../graph/ops.ts";
import { gather, reshape, split } from "../../graph/shape-ops.ts";
import { KEY_WORDS, TABLE_SIZE } from "./noise.ts";

/** The draws of a row, as in kernels.as.ts */
const WIDTH = 256;

/** Names of the graph's input and of its parameter */
export const NOISE = { keys: "noise_keys", table: "noise_table" } as const;

/**
 * A graph that draws arrays of these shapes. Its input are the keys int32 [arrays, 4] (`deriveNoiseKeys`), its parameter is
 * the table float32 [65,536] (`buildNormalTable`), its outputs are `eps.0`, `eps.1`, … in the given shapes.
 */
export function buildNoiseGraph(shapes: readonly (readonly number[])[]): Graph {
  const graph = new Graph();
  const keys = graph.input(NOISE.keys, "int32", [shapes.length, KEY_WORDS]);
  const table = graph.parameter(NOISE.table, [TABLE_SIZE]);
  for (const [index, noise] of drawNormals(keys, table, shapes).entries()) graph.output(noise, `eps.${index}`);
  return graph;
}

/**
 * Draws arrays of these shapes in a graph. It uses int32 Add, Mul, Div (which truncates), Range, Split, Reshape and Gather
 * alone: bit operations, Mod and a Slice of int32 run on no device but the CPU.
 * @param keys int32 [arrays, 4]
 * @param table float32 [65,536]
 */
function drawNormals(keys: Value, table: Value, shapes: readonly (readonly number[])[]): Value[] {
  if (shapes.length === 0) return [];
  const rows = shapes.map((shape) => Math.ceil(countElements(shape) / WIDTH));
  const places = WIDTH + Math.max(...rows);
  const perArray = hashPlaces(keys, places).map((word) => {
    const doubled = add(word, word); // [arrays, places]
    return split(doubled, Array(shapes.length).fill(1), 0); // each [1, places]
  });
  return shapes.map((shape, index) => {
    const own = rows[index] as number;
    const words = perArray.map((arrays) => splitOff(arrays[index] as Value, [WIDTH, own])) as [Value, Value][];
    const [p, q] = words.map(([columns]) => columns) as [Value, Value]; // [1, 256]
    const [a, b, m] = words.map(([, word]) => add(reshape(word, [own, 1]), int32(keys, 1))) as [Value, Value, Value];
    const z = mul(add(a, p), add(b, q)); // [rows, 256]
    return add(lookUp(table, z, shape), lookUp(table, mul(z, m), shape));
  });
}

/** The first parts of these sizes along the last axis. Split, because a Slice of int32 runs on the CPU alone. */
function splitOff(x: Value, sizes: readonly number[]): Value[] {
  const rest = (x.shape.at(-1) as number) - sizes.reduce((sum, size) => sum + size, 0);
  return split(x, rest > 0 ? [...sizes, rest] : sizes, -1);
}

/**
 * Q(z) = table[z/2¹⁶], the quotient truncated, and an index below 0 counted from the end: float32 in the given shape, from
 * the first of z's elements.
 */
function lookUp(table: Value, z: Value, shape: readonly number[]): Value {
  const index = reshape(div(z, int32(z, 2 ** 16)), [countElements(z.shape as number[])]);
  return gather(table, reshape(splitOff(index, [countElements(shape)])[0] as Value, shape));
}

/** Three words a place, int32 [arrays, places]: `hashPlaces` of kernels.as.ts before it doubles */
function hashPlaces(keys: Value, places: number): [Value, Value, Value] {
  const [key0, key1, key2, key3] = split(keys, Array(KEY_WORDS).fill(1), 1) as [Value, Value, Value, Value]; // [arrays, 1]
  const bounds = [0, places, 1].map((value) => keys.graph.constant(Int32Array.of(value), [], "int32"));
  let a = reshape(single({ op: "Range", inputs: bounds, dtype: "int32", shape: [places] }), [1, places]);
  let b = add(key0, hash(a, 0x3c6ef373)); // [arrays, places]
  let c = add(key1, hash(b, 0x5be0cd19));
  a = add(add(a, hash(c, 0x1f83d9ab)), key2);
  b = add(b, key3);
  for (let round = 0; round < 2; round++) {
    b = add(b, hash(a, 0x3c6ef373));
    c = add(c, hash(b, 0x5be0cd19));
    a = add(a, hash(c, 0x1f83d9ab));
  }
  return [a, b, c];
}

/** h·2¹⁶ + h/2¹⁶ for h = y·(2y + odd), the quotient truncated */
function hash(y: Value, odd: number): Value {
  const h = mul(y, add(add(y, y), int32(y, odd)));
  return add(mul(h, int32(y, 2 ** 16)), div(h, int32(y, 2 ** 16)));
}

function int32({ graph }: Value, value: number): Value {
  return graph.constant(Int32Array.of(value), [], "int32");
}
