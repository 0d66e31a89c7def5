// Makes tensors on a device, copies to and from them, and frees them all at the end.
import { DeviceTensor } from "./device-tensor.ts";
import { Graph, type GraphDtype } from "./ir.ts";
import { identity } from "./ops.ts";
import { Session, type SessionOptions, type Tensor, type TensorArray } from "./session.ts";
import { SessionCache } from "./session-cache.ts";

/**
 * ONNX Runtime copies between host and device only as the input or the output of a session: copies are runs of graphs
 * with one Identity, for each rank and dtype. On "cpu", arrays are copied.
 */
export class DeviceMemory {
  private readonly options: SessionOptions;
  private readonly tensors = new Set<DeviceTensor>();
  private readonly sessions = new SessionCache();

  constructor(options: SessionOptions) {
    this.options = options;
  }

  /** Makes a tensor with these elements. */
  async upload(tensor: Tensor): Promise<DeviceTensor> {
    const { dtype, shape } = tensor;
    const made = this.isHost()
      ? new DeviceTensor("cpu", dtype, shape, { ...tensor, data: tensor.data.slice() })
      : ((await (await this.session(tensor, "device")).runOnDevice({ x: tensor })).y as DeviceTensor);
    this.tensors.add(made);
    return made;
  }

  /** Makes a tensor of zeros. */
  zeros(shape: readonly number[]): Promise<DeviceTensor> {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    return this.upload({ dtype: "float32", data, shape });
  }

  /** Overwrites the elements of a tensor of the same dtype and shape. */
  async write(tensor: Tensor, into: DeviceTensor): Promise<void> {
    if (tensor.dtype !== into.dtype || String(tensor.shape) !== String(into.shape))
      throw new Error(`${tensor.dtype} [${tensor.shape}] does not fit ${into.dtype} [${into.shape}] on the device`);
    await (await this.session(tensor, "host")).run({ x: tensor }, { y: into });
  }

  /** Gives a copy of the elements. */
  async read(from: DeviceTensor): Promise<TensorArray> {
    const { y } = await (await this.session(from, "host")).run({ x: from });
    return (y as Tensor).data;
  }

  /** Tensors that are held. */
  get count(): number {
    return this.tensors.size;
  }

  /** Frees a tensor before the end. */
  dispose(tensor: DeviceTensor): void {
    if (this.tensors.delete(tensor)) tensor.dispose();
  }

  /** Frees everything. */
  async close(): Promise<void> {
    for (const tensor of this.tensors) tensor.dispose();
    this.tensors.clear();
    await this.sessions.close();
  }

  private isHost(): boolean {
    return (this.options.device ?? "cpu") === "cpu";
  }

  private session({ dtype, shape }: CopyKind, outputs: "host" | "device"): Promise<Session> {
    const key = `${dtype} ${shape.length} ${outputs}`;
    return this.sessions.open(key, () => {
      const graph = new Graph();
      const dims = shape.map((_, axis) => `d${axis}`);
      graph.output(identity(graph.input("x", dtype, dims)), "y");
      return Session.withInputs(graph, { ...this.options, outputs });
    });
  }
}

interface CopyKind {
  dtype: GraphDtype;
  shape: readonly number[];
}
