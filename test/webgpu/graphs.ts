// Every graph that runs on WebGPU: the CPU's numbers, the same bits twice, and no node left to the CPU but those named here.
import { describe, expect, it } from "vitest";
import { openSampledTeacher } from "../../src/distill/teacher/sampled.ts";
import { openTopKTeacher } from "../../src/distill/teacher/top-k.ts";
import { Session, type Tensor } from "../../src/graph/session.ts";
import { compareDevices, readPlacement } from "../support/both-devices.ts";
import { MODEL, opened } from "../support/fixture.ts";
import { buildNoisyGraph, GRAPH_CASES } from "../support/graph-cases.ts";
import { slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { SOFTWARE_GPU, WHY_NO_GPU } from "../support/webgpu.ts";

const path = temporaryFolder("webgpu");

/**
 * Sums and products of a few run-time sizes are the host's: it has to know them before it starts a program of the device.
 */
const isSizeArithmetic = (node: string) => /^(Squeeze|Cast|Add|Sub|Mul|Concat) int(32|64)\[[1-4]?\]$/.test(node);

const CASES = GRAPH_CASES.filter(({ hostOnly }) => !hostOnly);
const QUICK = /^(resident step: low-rank|transfer: hidden|resident step: gelu)/;

describe.skipIf(!SOFTWARE_GPU)(`graphs on WebGPU${WHY_NO_GPU}`, { timeout: 120_000 }, () => {
  for (const [index, { name, graph, feeds, host }] of CASES.entries())
    it(name, slowUnless(QUICK.test(name)), async () => {
      const { error, output, repeats, placement } = await compareDevices(graph, feeds, path(`profile-${index}`));
      expect(error, `relative error of ${output}`).toBeLessThan(1e-4);
      expect(repeats, "two runs give the same bits").toBe(true);
      expect(placement.device).toBeGreaterThan(3);
      if (host) expect(placement.host).toEqual(host);
      else expect(placement.host.filter((node) => !isSizeArithmetic(node))).toEqual([]);
    });

  it.each([
    ["most likely", openTopKTeacher],
    ["drawn", openSampledTeacher],
  ] as const)("the k %s tokens of a teacher, of which the host joins the places", async (kind, open) => {
    const [length, k] = [16, 5];
    const inputs = Int32Array.from({ length }, (_, i) => (37 * i) % 384);
    const prefix = path(`teacher-${kind}`);
    const options = { length, k, precision: "fp32", rowsAtOnce: 7, threads: 1 } as const;
    await opened(MODEL, async (checkpoint) => {
      const [cpu, gpu] = [
        await open(checkpoint, options),
        await open(checkpoint, { ...options, device: "webgpu", profile: prefix }),
      ];
      const [expected, got] = [await cpu.run(inputs, 0), await gpu.run(inputs, 0)];
      await cpu.close();
      await gpu.close();
      expect(got.ids).toEqual(expected.ids);
      for (const [i, value] of expected.logProbabilities.entries())
        expect(Math.abs((got.logProbabilities[i] as number) - value)).toBeLessThan(1e-4 * Math.abs(value));
    });
    const { host } = readPlacement(prefix);
    expect(host).toEqual(kind === "drawn" ? [] : [`Concat int64[${length},${k}]`]);
  });

  it("noise that the graph draws is the CPU's", async () => {
    const { graph, feeds } = buildNoisyGraph();
    const prefix = path("drawn-noise");
    const session = await Session.withInputs(graph, { device: "webgpu", threads: 1, profile: prefix });
    const { nll } = await session.run(feeds);
    await session.close();
    expect([...(nll as Tensor).data].every((value) => Number.isFinite(value))).toBe(true);
    const host = readPlacement(prefix).host.filter((node) => !isSizeArithmetic(node));
    expect(host).toEqual(Array(2).fill("RandomNormalLike float[2,1,16,16]"));
  });
});
