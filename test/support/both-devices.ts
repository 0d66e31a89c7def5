// Runs one graph on the CPU and on WebGPU: how far the outputs are apart, and where ONNX Runtime placed the nodes.
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Graph } from "../../src/graph/ir.ts";
import { identity } from "../../src/graph/ops.ts";
import { Session, type Tensor, type Tensors } from "../../src/graph/session.ts";

/** Opens a session on WebGPU: ONNX Runtime keeps compiled programs only as long as any is open. */
export function keepPrograms(): Promise<Session> {
  const graph = new Graph();
  graph.output(identity(graph.input("x", "float32", [1])), "y");
  return Session.withInputs(graph, { device: "webgpu", threads: 1 });
}

export interface Comparison {
  /** The largest ‖webgpu − cpu‖₂/‖cpu‖₂ of an output, and its name; infinite where one is not finite. */
  error: number;
  output: string;
  /** Whether two runs gave the same bits. */
  repeats: boolean;
  placement: Placement;
}

export interface Placement {
  /** Nodes that WebGPU ran, and copies between the two memories, which the runtime adds. */
  device: number;
  copies: number;
  /** Nodes that the CPU ran, each with the shapes of its results: `Cast int32[1]`. */
  host: string[];
}

/** @param prefix of the profile's file, which is read and removed */
export async function compareDevices(graph: Graph, feeds: Tensors, prefix: string): Promise<Comparison> {
  const cpu = await Session.withInputs(graph, { threads: 1 });
  const expected = await cpu.run(feeds);
  await cpu.close();
  const gpu = await Session.withInputs(graph, { device: "webgpu", threads: 1, profile: prefix });
  const [first, second] = [await gpu.run(feeds), await gpu.run(feeds)];
  await gpu.close();
  return {
    ...compareOutputs(first, expected),
    repeats: Object.keys(expected).every((name) => Buffer.from(bytesOf(first[name])).equals(bytesOf(second[name]))),
    placement: readPlacement(prefix),
  };
}

function bytesOf(tensor: Tensor | undefined): Uint8Array {
  const { buffer, byteOffset, byteLength } = (tensor as Tensor).data;
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The largest error of an output against the expected one, and its name. */
export function compareOutputs(outputs: Tensors, expected: Tensors): { error: number; output: string } {
  const names = Object.keys(expected);
  const errors = names.map((name) => measureError(outputs[name] as Tensor, expected[name] as Tensor));
  const error = Math.max(...errors);
  return { error, output: names[errors.indexOf(error)] as string };
}

/** ‖a − b‖₂/‖b‖₂, or ‖a‖₂ where b is zero; infinite where the two differ in dtype or shape, or a is not finite. */
function measureError(a: Tensor, b: Tensor): number {
  if (a.dtype !== b.dtype || String(a.shape) !== String(b.shape)) return Number.POSITIVE_INFINITY;
  let [difference, size] = [0, 0];
  for (const [i, value] of b.data.entries()) {
    difference += (Number(a.data[i]) - Number(value)) ** 2;
    size += Number(value) ** 2;
  }
  const error = Math.sqrt(difference / (size || 1));
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

interface ProfileEvent {
  cat: string;
  name: string;
  args: { op_name: string; provider: string; node_index: string; output_type_shape: Record<string, number[]>[] };
}

/** Reads where each node ran from the profiles that begin with `prefix`, one a session, and removes them. */
export function readPlacement(prefix: string): Placement {
  const names = readdirSync(dirname(prefix)).filter((name) => name.startsWith(`${basename(prefix)}_`));
  const nodes = names.flatMap((name) => readNodes(join(dirname(prefix), name)));
  const isCopy = ({ op_name }: ProfileEvent["args"]) => op_name.startsWith("Memcpy");
  const own = nodes.filter((node) => !isCopy(node));
  const onHost = own.filter(({ provider }) => provider === "CPUExecutionProvider");
  const describe = (types: Record<string, number[]>) =>
    Object.entries(types).map(([dtype, shape]) => `${dtype}[${shape}]`);
  return {
    device: own.length - onHost.length,
    copies: nodes.filter(isCopy).length,
    host: onHost.map(({ op_name, output_type_shape }) => [op_name, ...output_type_shape.flatMap(describe)].join(" ")),
  };
}

/** The nodes of a session that ran, once each. */
function readNodes(file: string): ProfileEvent["args"][] {
  const events = JSON.parse(readFileSync(file, "utf8")) as ProfileEvent[];
  rmSync(file);
  const ran = events.filter(({ cat, name }) => cat === "Node" && name.endsWith("_kernel_time"));
  return [...new Map(ran.map(({ args }) => [args.node_index, args])).values()];
}
