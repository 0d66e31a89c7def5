// Chooses the device on which a model's steps are fastest, by a test of a few seconds.
import { DEVICES, type Device, listProviders } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import { Comparison, openDevice, SOFTWARE } from "./probe-devices.ts";
import type { Work } from "./speed-graphs.ts";
import type { SpeedOptions } from "./speed-test.ts";

export interface DeviceChoice {
  device: Device;
  /** One line: the choice, and what it was made by. */
  line: string;
}

/**
 * The fastest device of those that open. Where no device but the CPU opens, nothing is measured.
 * @param config of the model whose step is timed
 * @throws NfcError "missing-dependency" when onnxruntime-node does not load; "aborted"
 */
export async function chooseDevice(
  config: ModelConfig,
  { work, ...options }: SpeedOptions & { work: Work },
): Promise<DeviceChoice> {
  const providers = await listProviders();
  const comparison = new Comparison(config, options, work);
  const [measured, closed]: [string[], string[]] = [[], []];
  let best: { device: Device; ratio: number } = { device: "cpu", ratio: 1 };
  for (const device of DEVICES.filter((name) => name !== "cpu" && providers.includes(name))) {
    const { opens, reason } = await openDevice(device, providers);
    if (!opens) {
      closed.push(`${device} does not open (${reason})`);
      continue;
    }
    const { step, verdict } = await comparison.judge(device);
    const ratio = verdict === null ? (step?.ratio ?? 0) : 0;
    if (ratio > best.ratio) best = { device, ratio };
    measured.push(describe(device, verdict, ratio));
  }
  const [other = "there is no other device", ...more] = measured.length > 0 ? measured : closed;
  const why =
    best.device === "cpu" ? [other, ...more].join("; ") : `${showTimes(best.ratio)} the CPU's speed ${ON_STEP}`;
  return { device: best.device, line: `${best.device}: ${why}` };
}

const ON_STEP = "on this model's step";

function describe(device: Device, verdict: string | null, ratio: number): string {
  if (verdict === null) return `${device} has ${showTimes(ratio)} its speed ${ON_STEP}`;
  return verdict === SOFTWARE ? `${device} is ${verdict}` : `${device} is out (${verdict})`;
}

/** "12.3 times", "0.42 times" */
function showTimes(ratio: number): string {
  return `${ratio < 1 ? ratio.toFixed(2) : ratio.toFixed(1)} times`;
}
