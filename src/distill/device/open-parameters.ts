// Opens the parameters of a run where they are trained: in the host's memory, or on a device that keeps tensors.
import type { Device, SessionOptions } from "../../graph/session.ts";
import type { ParameterRequest } from "../step/parameter-state.ts";
import { ParameterStore } from "../step/parameter-store.ts";
import { DeviceState } from "./device-state.ts";

export type RunParameters = ParameterStore | DeviceState;

/** ONNX Runtime's binding for Node keeps tensors on WebGPU alone: with others, parameters are fed from the host. */
const KEEPING: readonly Device[] = ["webgpu"];

export async function openParameters(
  specs: readonly ParameterRequest[],
  options: { accumulate?: boolean | undefined; average?: boolean | undefined },
  session: SessionOptions,
): Promise<RunParameters> {
  return KEEPING.includes(session.device ?? "cpu")
    ? DeviceState.open(specs, options, { ...session, steady: true })
    : new ParameterStore(specs, options);
}
