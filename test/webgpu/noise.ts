// The noise graph on WebGPU: the kernel's bits, and every node on the device.
import { describe, expect, it } from "vitest";
import { readPlacement } from "../support/both-devices.ts";
import { expectKernelBits } from "../support/noise-graph.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { SOFTWARE_GPU, WHY_NO_GPU } from "../support/webgpu.ts";

const inFolder = temporaryFolder("webgpu-noise");

describe.skipIf(!SOFTWARE_GPU)(`the noise on WebGPU${WHY_NO_GPU}`, () => {
  it("the noise graph gives the kernel's bits on WebGPU, and no node of it runs on the CPU", async () => {
    const profile = inFolder("profile");
    await expectKernelBits(7, [0, 1, 2 ** 20], { device: "webgpu", profile });
    const { device, host } = readPlacement(profile);
    expect(host).toEqual([]);
    expect(device).toBeGreaterThan(0);
  });
});
