// nfc devices, and --device: it reaches every session of the commands that have it, and each refuses one that is not there.
import { existsSync } from "node:fs";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { type Device, Session, type SessionOptions } from "../../src/graph/session.ts";
import { nfc, ok, refused } from "../support/cli.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { writeSst2 } from "../support/task-data.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("devices");
const [tied, exported, tuned] = [path("tied"), path("onnx"), path("tuned")];
const data = writeSst2(path("glue/SST-2"), { train: 32, dev: 8 });
let count = 0;
const fresh = () => path(`output-${count++}`);

/** A device that the builds of onnxruntime-node for this platform lack. */
const ABSENT: Device = process.platform === "win32" ? "coreml" : "dml";

const calibrated = ["--calibration", TEXT, "--calibration-tokens", "256"];
const COMMANDS: Record<string, () => string[]> = {
  "eval of a checkpoint": () => ["eval", tied, "--text", TEXT, "--against", MODEL, "--no-record"],
  "eval of an export": () => ["eval", exported, "--text", TEXT, "--against", MODEL, "--no-record"],
  "eval --task": () => ["eval", tuned, "--task", "sst2", "--data", data, "--no-record"],
  "generate from a checkpoint": () => ["generate", tied, "--prompt", "Anna", "-n", "2"],
  "generate from an export": () => ["generate", exported, "--prompt", "Anna", "-n", "2"],
  glue: () => ["glue", "--models", MODEL, "--tasks", "sst2", "--data", path("glue"), "-o", fresh(), "--epochs", "1"],
  plan: () => [
    "plan",
    MODEL,
    ...calibrated,
    "--tokens",
    "256",
    "-o",
    fresh(),
    "--axes",
    "mlp,vo-rank",
    "--floor",
    "90%",
  ],
  "convert --calibration": () => ["convert", MODEL, "-o", fresh(), ...calibrated],
  "convert --layers --mlp --repair": () => {
    const cuts = ["--variant", "low-rank", "--vo-rank", "50%", "--layers", "1", "--mlp", "75%", "--repair"];
    return ["convert", MODEL, "-o", fresh(), ...calibrated, ...cuts];
  },
};
const NAMES = Object.keys(COMMANDS);

beforeAll(async () => {
  await ok("convert", MODEL, "-o", tied, "--variant", "symmetric", "--tie", "mean", "-q");
  await ok("export", tied, "--onnx", "--precision", "fp32,int8", "-o", exported, "-q");
  await ok("finetune", MODEL, "--task", "sst2", "--data", data, "--epochs", "1", "-o", tuned, "-q");
});

describe("--device", () => {
  it.each(NAMES)("reaches every session of nfc %s", async (name) => {
    const seen: (Device | undefined)[] = [];
    const spies = (["withInputs", "withWeights", "withFileWeights", "fromFile"] as const).map((maker) => {
      const make = Session[maker].bind(Session) as (...args: unknown[]) => Promise<Session>;
      return vi.spyOn(Session, maker).mockImplementation((...args: unknown[]) => {
        seen.push((args.at(-1) as SessionOptions).device);
        return make(...args);
      });
    });
    try {
      await ok(...(COMMANDS[name] as () => string[])(), "--device", "cpu", "--threads", "1", "-q");
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
    expect(seen.length).toBeGreaterThan(0);
    expect(new Set(seen)).toEqual(new Set(["cpu"]));
  });

  it.each(NAMES)("of nfc %s that is not there is refused in one line", async (name) => {
    const line = [...(COMMANDS[name] as () => string[])(), "--device", ABSENT];
    expect(await refused(line)).toMatch(
      new RegExp(`^onnxruntime-node has no ${ABSENT} on \\S+ \\S+, only on \\w+; leave out --device ${ABSENT}$`),
    );
    const output = line[line.indexOf("-o") + 1] as string;
    if (line.includes("-o")) expect(existsSync(output)).toBe(false);
  });

  it("of another name is refused with the names that there are", async () => {
    expect(await refused(["eval", tied, "--text", TEXT, "--device", "gpu"])).toContain(
      "option '--device <name>' argument 'gpu' is invalid: Allowed choices are cpu, cuda, webgpu, dml, coreml, auto",
    );
  });

  it("is refused for a conversion that runs no model", async () => {
    expect(await refused(["convert", MODEL, "-o", fresh(), "--device", "auto"])).toBe(
      "--device is where the model runs on text; give --calibration FILE too",
    );
  });
});

describe("nfc devices", () => {
  it("--no-test lists all devices, and why and how one does not open", async () => {
    const { platform, devices } = JSON.parse((await ok("devices", "--no-test", "--json")).stdout);
    expect(platform).toBe(`${process.platform} ${process.arch}`);
    expect(devices.map(({ device }: { device: Device }) => device)).toEqual(["cpu", "cuda", "webgpu", "dml", "coreml"]);
    expect(devices[0]).toMatchObject({ built: true, opens: true, reason: null, products: null, step: null });
    const absent = devices.find(({ device }: { device: Device }) => device === ABSENT);
    expect(absent).toMatchObject({ built: false, opens: false, runs: [], hint: null });
    expect(absent.reason).toMatch(/^onnxruntime-node has no \w+ on /);
    for (const { opens, reason } of devices) expect(reason === null).toBe(opens);
  });

  it("--no-test prints a line for each device, and what runs on those that open", async () => {
    const { stdout } = await ok("devices", "--no-test");
    expect(stdout).toMatch(
      /^device +here\n-+ +-+\ncpu +yes\ncuda +(yes|no: .+)\nwebgpu +(yes|no: .+)\ndml .+\ncoreml .+\n\n/,
    );
    expect(stdout).toContain("cpu runs train, eval, generate, glue, plan and calibration\n");
  });

  it("takes no argument", async () => {
    expect((await nfc(["devices", "cpu"])).code).toBe(2);
  });
});
