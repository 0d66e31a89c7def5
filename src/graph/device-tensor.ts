// A tensor in the memory of a device, which sessions on that device read and write without a copy.
import type { GraphDtype } from "./ir.ts";

/**
 * Its owner disposes of it: the garbage collector does not see how much memory it holds. On "cpu" it is an array of the
 * host, so that what works with one runs without a device too.
 */
export class DeviceTensor {
  /** One of `DEVICES`. */
  readonly device: string;
  readonly dtype: GraphDtype;
  readonly shape: readonly number[];
  /** A tensor of ONNX Runtime, or a `Tensor` on "cpu". */
  readonly content: object;

  constructor(device: string, dtype: GraphDtype, shape: readonly number[], content: object) {
    this.device = device;
    this.dtype = dtype;
    this.shape = shape;
    this.content = content;
  }

  dispose(): void {
    if ("dispose" in this.content && typeof this.content.dispose === "function") this.content.dispose();
  }
}
