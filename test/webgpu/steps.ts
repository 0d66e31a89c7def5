// Training steps whose parameters stay on WebGPU: the host's losses and values, the same bits twice, memory that stays flat.
import { describe, expect, it } from "vitest";
import { DeviceMemory } from "../../src/graph/device-memory.ts";
import { Graph } from "../../src/graph/ir.ts";
import { reduceSum, scale, shift } from "../../src/graph/ops.ts";
import { makeFloat32Tensor, Session } from "../../src/graph/session.ts";
import { compareSteps, runSteps, STEPS_CASES, type StepsCase, shrink } from "../support/device-steps.ts";
import { SLOW, slowUnless } from "../support/slow.ts";
import { SOFTWARE_GPU, WHY_NO_GPU } from "../support/webgpu.ts";

const device = "webgpu";
/** Batches above a thousand rows take minutes; graphs.ts has a head in pieces. */
const CASES = STEPS_CASES.filter(({ batch }) => batch === undefined).map(shrink);
/** Training with noise and a teacher, and a transfer. */
const QUICK = ["noise-distance", "transfer of outputs"];
/** Transfer and training, noise, a teacher; and heads of their own widths, without noise. */
const TWICE = ["transfer of probabilities", "low-rank"];

/** Every variant makes 20 steps; 5 show what a setting changes. */
const countSteps = ({ settings }: StepsCase) => (settings ? 5 : 20);

describe.skipIf(!SOFTWARE_GPU)(`steps on WebGPU${WHY_NO_GPU}`, { timeout: 120_000 }, () => {
  for (const given of CASES)
    it(`are the host's: ${given.name}`, slowUnless(QUICK.includes(given.name)), async () => {
      const steps = countSteps(given);
      const host = await runSteps(given, steps, { session: { threads: 1 }, onHost: true });
      const { losses, values, worst } = compareSteps(
        host,
        await runSteps(given, steps, { session: { device, threads: 1 } }),
      );
      expect(losses).toBeLessThan(1e-4);
      expect(values, worst).toBeLessThan(1e-3);
    });

  it.each(CASES.filter(({ name }) => TWICE.includes(name)))("have the same bits twice: $name", SLOW, async (given) => {
    const [first, second] = [
      await runSteps(given, 5, { session: { device, threads: 1 } }),
      await runSteps(given, 5, { session: { device, threads: 1 } }),
    ];
    expect(second.reports).toEqual(first.reports);
    expect(second.values).toEqual(first.values);
  });

  it("buffers are read, written, and freed: 200 runs between two of them leave memory flat", async () => {
    const memory = new DeviceMemory({ device });
    const [side, size] = [512, 512 * 512];
    const graph = new Graph();
    const x = graph.input("x", "float32", [side, side]);
    graph.output(shift(scale(x, 0.5), 1), "y"); // x → x/2 + 1 goes to 2
    graph.output(reduceSum(scale(x, 1 / size), [0, 1]), "mean");
    const session = await Session.withInputs(graph, { device });
    const matrix = (value: number) => makeFloat32Tensor(new Float32Array(size).fill(value), [side, side]);
    let [from, to] = [await memory.upload(matrix(3)), await memory.zeros([side, side])];
    const bytes: number[] = [];
    for (let run = 0; run < 200; run++) {
      const { mean, y } = await session.run({ x: from }, { y: to });
      expect(y).toBeUndefined();
      if (run === 1) expect(mean?.data[0]).toBeCloseTo(2.5, 5);
      [from, to] = [to, from];
      if (run === 20 || run === 199) bytes.push(process.memoryUsage().rss);
    }
    const readAll = async () => new Set((await memory.read(from)) as Float32Array);
    expect(await readAll()).toEqual(new Set([2]));
    await memory.write(matrix(7), from);
    expect(await readAll()).toEqual(new Set([7]));
    expect((bytes[1] as number) - (bytes[0] as number)).toBeLessThan(50 * 2 ** 20); // 180 buffers of 1 MiB would be kept
    const onCpu = await Session.withInputs(graph);
    await expect(onCpu.run({ x: from })).rejects.toThrow("a tensor that lies on webgpu was given to a session on cpu");
    await memory.close();
    await Promise.all([session.close(), onCpu.close()]);
  });
});
