// nfc devices: says which devices ONNX Runtime computes on here, what runs on them, and how fast they are.
import { Command } from "commander";
import { listLimits, WORK } from "../../inference/devices/abilities.ts";
import type { ProbedDevice } from "../../inference/devices/probe-devices.ts";
import { formatList } from "../../report/render/format.ts";
import { alignTable } from "../../report/render/text.ts";
import { addCommonFlags, type CommonFlags } from "../options.ts";
import { Progress } from "../progress.ts";
import { type Context, printResult } from "../terminal.ts";

interface DevicesFlags extends CommonFlags {
  test: boolean;
}

const HELP = `
Devices: cpu; webgpu is any GPU (Vulkan, Direct3D 12, Metal) with nothing but its driver; cuda, dml (DirectML) and
coreml are other ways to some GPUs. Where onnxruntime-node has none of a device, or the driver is missing, the reason is
printed, and what to do.
The test multiplies matrices and runs a training step of two layers like GPT-2's, on each device that opens, in turn;
the first run, in which a GPU compiles its programs, does not count. No data but the results leaves the device.

Examples:
  $ nfc devices
  $ nfc devices --no-test --json
  $ nfc distill out/nf --teacher gpt2/ --data train.txt --device webgpu
  $ nfc distill out/nf --teacher gpt2/ --data train.txt --device auto    # the fastest, tried with this model`;

export function devicesCommand(context: Context): Command {
  const command = new Command("devices").option("--no-test", "do not measure the speed").addHelpText("after", HELP);
  return addCommonFlags(command).action((flags: DevicesFlags) => run(context, flags));
}

async function run({ io, signal }: Context, flags: DevicesFlags): Promise<void> {
  const { probeDevices } = await import("../../inference/devices/probe-devices.ts");
  const progress = await Progress.open(io, flags);
  let states: ProbedDevice[];
  try {
    let done = 0;
    const onDevice = (device: string) =>
      progress.show({ phase: "testing", done: done++, total: null, unit: "steps", detail: device, brief: true });
    states = await probeDevices({ test: flags.test, threads: flags.threads, onDevice, signal });
  } finally {
    progress.stop();
  }
  const devices = states.map((state) => ({
    ...state,
    runs: state.opens ? WORK : [],
    limits: state.opens ? listLimits(state.device) : [],
  }));
  printResult(io, flags, { platform: `${process.platform} ${process.arch}`, devices }, () =>
    format(states, flags.test),
  );
}

function format(states: readonly ProbedDevice[], tested: boolean): string {
  const opened = states.filter(({ opens }) => opens);
  const heading = ["device", "here", ...(tested ? ["GFLOP/s", "times the CPU", "step", "times the CPU"] : [])];
  const rows = states.map((state) => [state.device, describeState(state), ...(tested ? describeSpeed(state) : [])]);
  const uses = opened.map(({ device }) => {
    const limits = listLimits(device);
    return [`${device} runs ${formatList(WORK)}`, ...limits].join("; ");
  });
  const remedies = states.flatMap(({ device, hint }) => (hint ? [`for ${device}, ${hint}`] : []));
  return [...alignTable([heading, ...rows], { align: "llr", rulesBefore: [1] }), "", ...uses, ...remedies].join("\n");
}

function describeState({ opens, reason, verdict }: ProbedDevice): string {
  return opens ? `yes${verdict === null ? "" : `: ${verdict}`}` : `no: ${reason}`;
}

function describeSpeed({ products, step }: ProbedDevice): string[] {
  if (!products) return [];
  const speed = [products.gflops.toPrecision(3), products.ratio.toPrecision(3)];
  return step ? [...speed, `${(1000 * step.seconds).toPrecision(3)} ms`, step.ratio.toPrecision(3)] : speed;
}
