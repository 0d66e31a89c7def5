// The flag --device: one definition for all commands that run models, and what "auto" stands for.
import { type Command, Option } from "commander";
import { DEVICES, type Device } from "../graph/devices.ts";
import type { ModelConfig } from "../model/config.ts";
import type { CommonFlags } from "./options.ts";
import { type Context, note } from "./terminal.ts";

export interface DeviceFlags {
  device: Device | "auto";
}

export function addDeviceFlag(command: Command): Command {
  const help = "where the model runs; auto takes the fastest for it, by a test of a few seconds";
  return command.addOption(new Option("--device <name>", help).choices([...DEVICES, "auto"]).default("cpu"));
}

/**
 * Before a model is read: refuses where ONNX Runtime, or the device that was asked for, is not there.
 * @throws NfcError "missing-dependency", "unsupported", "device"
 */
export async function requireDevice({ device }: DeviceFlags): Promise<void> {
  const { checkDevice } = await import("../graph/session.ts");
  await checkDevice(device === "auto" ? "cpu" : device);
}

/** The device of a command; with "auto" it is chosen by a step of the model, and said on stderr. */
export async function resolveDevice(
  { io, signal }: Context,
  flags: CommonFlags & DeviceFlags,
  config: ModelConfig,
  work: "train" | "run",
): Promise<Device> {
  if (flags.device !== "auto") return flags.device;
  const { chooseDevice } = await import("../inference/devices/choose-device.ts");
  const { device, line } = await chooseDevice(config, { work, threads: flags.threads, signal });
  note(io, flags, line);
  return device;
}
