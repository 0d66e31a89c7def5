// Refuses half precision where a device has none, before anything is read or written.
import { NfcError } from "../errors.ts";
import { Graph } from "./ir.ts";
import { matmul } from "./ops.ts";
import { checkDevice, makeFloat32Tensor, Session, type SessionOptions } from "./session.ts";

/**
 * For fp16, computes a product in it on the device, since an adapter does not say otherwise whether it has such floats.
 * @throws NfcError "unsupported" for an adapter that has none; "usage" for the CPU, which has them in its memory alone;
 * otherwise as `checkDevice`
 */
export async function checkProducts(
  products: SessionOptions["products"],
  { device = "cpu", halfOnCpu = false }: SessionOptions = {},
): Promise<void> {
  if (products !== "fp16") return;
  if (device === "cpu") {
    if (halfOnCpu) return;
    throw new NfcError("usage", "half precision is for devices with 16-bit floats, and the CPU computes in 32", {
      hint: "leave out --device-precision fp16, or give --device",
    });
  }
  await checkDevice(device);
  const graph = new Graph();
  const x = graph.input("x", "float32", [4, 4]);
  graph.output(matmul(x, x), "y");
  const session = await Session.withInputs(graph, { device, products: "fp16" });
  try {
    await session.run({ x: makeFloat32Tensor(new Float32Array(16), [4, 4]) });
  } catch (cause) {
    if (!(cause instanceof NfcError) || cause.code !== "unsupported") throw cause;
    throw new NfcError("unsupported", `${device}: this adapter has no 16-bit floats (shader-f16)`, {
      hint: "leave out --device-precision fp16",
      cause,
    });
  } finally {
    await session.close();
  }
}
