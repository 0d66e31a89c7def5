// The self-check of an export: it passes what is right, and catches other weights, numbers that are none, and bad files.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { LOGIT_TOLERANCE, verifyOnnx, verifySampled } from "../../../src/export/onnx/verify.ts";
import { exported } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { converted, MODEL, opened } from "../../support/fixture.ts";
import { tinyTensors, type WriteTinyOptions, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("verify");
const options = { threads: 1 };

async function file(model: string, name: string): Promise<string> {
  await exported(model, path(name));
  return `${path(name)}/onnx/model.onnx`;
}

describe("verifyOnnx", () => {
  it("verifyOnnx accepts the model's own export, well within the tolerance", async () => {
    const onnx = await file(MODEL, "own");
    const { worst, tolerance } = await opened(MODEL, (checkpoint) => verifyOnnx(onnx, checkpoint, options));
    expect(worst).toBeLessThan(tolerance / 2);
    expect(tolerance).toBeGreaterThanOrEqual(LOGIT_TOLERANCE);
    expect(tolerance).toBeLessThan(10 * LOGIT_TOLERANCE);
  });

  it("the tolerance scales with large logits", async () => {
    const big = await writeCheckpoint(path("big"), { tensors: scaled("ln_f.weight", 1000) });
    const onnx = await file(big, "big-onnx");
    const { tolerance } = await opened(big, (checkpoint) => verifyOnnx(onnx, checkpoint, options));
    expect(tolerance).toBeGreaterThan(100 * LOGIT_TOLERANCE);
  });

  it("the prompts of the check are no longer than the model's positions", async () => {
    const short = await writeCheckpoint(path("short"), { positions: 5 });
    const { onnx } = await exported(short, path("short-onnx"));
    expect(onnx[0]?.verification?.positions).toBe(2 * 4 + 2 * 3 + 4 * 1);
  });

  it("another model's export is refused", async () => {
    const other = await writeCheckpoint(path("other"), { seed: 2 });
    const onnx = await file(await writeCheckpoint(path("this"), {}), "this-onnx");
    const error = await failureOf(() => opened(other, (checkpoint) => verifyOnnx(onnx, checkpoint, options)));
    expect(error.code).toBe("mismatch");
    expect(error.message).toMatch(/^\S+\/model\.onnx: its logits differ from the model's by \S+ \(allowed: \S+\)$/);
  });

  it.each([
    ["the tied attention", "h.1.attn.c_attn.weight"],
    ["the MLP", "h.0.mlp.c_proj.bias"],
    ["the positions", "wpe.weight"],
    ["the last norm", "ln_f.bias"],
    ["the distance means", "h.0.attn.noise_mean"],
  ])("a change of one in a hundred in %s is noticed", async (_, name) => {
    const variant = "noise-distance";
    const onnx = await file(await writeCheckpoint(path(`plain ${name}`), { variant }), `onnx ${name}`);
    const changed = await writeCheckpoint(path(`changed ${name}`), {
      variant,
      tensors: scaled(name, 1.01, { variant }),
    });
    const error = await failureOf(() => opened(changed, (checkpoint) => verifyOnnx(onnx, checkpoint, options)));
    expect(error.code).toBe("mismatch");
  });

  it("a model with weights that are not finite is refused, and blamed", async () => {
    const onnx = await file(await writeCheckpoint(path("sound"), {}), "sound-onnx");
    const nan = await writeCheckpoint(path("nan"), { tensors: scaled("h.0.mlp.c_fc.bias", Number.NaN) });
    const error = await failureOf(() => opened(nan, (checkpoint) => verifyOnnx(onnx, checkpoint, options)));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toBe(`${nan}: its logits are not finite`);
    expect(error.hint).toBe("the checkpoint is damaged");
  });

  it("a file whose weights are not finite is refused when the model's are", async () => {
    const model = await writeCheckpoint(path("good"), {});
    const onnx = await file(model, "good-onnx");
    const bytes = readFileSync(onnx);
    // A value of ln_f.weight, found by its bytes, becomes NaN.
    const weight = tinyTensors().find(({ name }) => name === "ln_f.weight")?.bytes as Uint8Array;
    const at = bytes.indexOf(Buffer.from(weight));
    expect(at).toBeGreaterThan(0);
    bytes.writeFloatLE(Number.NaN, at);
    mkdirSync(path("poisoned"));
    writeFileSync(path("poisoned", "model.onnx"), bytes);
    const error = await failureOf(() => opened(model, (c) => verifyOnnx(path("poisoned", "model.onnx"), c, options)));
    expect(error.code).toBe("mismatch");
    expect(error.message).toContain("differ from the model's by Infinity");
  });

  it("a file that is no ONNX is refused", async () => {
    writeFileSync(path("broken.onnx"), "no protobuf");
    const error = await failureOf(() => opened(MODEL, (c) => verifyOnnx(path("broken.onnx"), c, options)));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toBe(`${path("broken.onnx")}: byte 0 begins a field of unknown kind 6`);
  });

  it("a graph whose external data is missing is refused", async () => {
    await exported(MODEL, path("external"), { weights: "external" });
    mkdirSync(path("lost"));
    copyFileSync(path("external", "onnx/model.onnx"), path("lost", "model.onnx"));
    const error = await failureOf(() => opened(MODEL, (c) => verifyOnnx(path("lost", "model.onnx"), c, options)));
    expect(error.code).toBe("invalid-file");
  });

  it("verifyOnnx stops when its signal fires", async () => {
    const onnx = await file(MODEL, "aborted");
    const signal = AbortSignal.abort();
    const error = await failureOf(() => opened(MODEL, (c) => verifyOnnx(onnx, c, { ...options, signal })));
    expect(error.code).toBe("aborted");
  });
});

describe("verifySampled", () => {
  const model = async (name: string, noiseStd: number) => {
    const output = path(name);
    await converted({ output, variant: "noise-shared", noiseStd });
    return output;
  };

  it("verifySampled accepts a graph that draws noise", async () => {
    const noisy = await model("noisy", 1);
    await exported(noisy, path("noisy-onnx"), { noise: { kind: "generated", seed: 1 } });
    await opened(noisy, (checkpoint) => verifySampled(path("noisy-onnx", "onnx/model.onnx"), checkpoint, options));
  });

  it("verifySampled refuses a graph that draws no noise", async () => {
    const noisy = await model("quiet", 1);
    const onnx = await file(noisy, "quiet-onnx");
    const error = await failureOf(() => opened(noisy, (checkpoint) => verifySampled(onnx, checkpoint, options)));
    expect(error.code).toBe("mismatch");
    expect(error.message).toBe(`${onnx}: two runs give equal logits, so no noise is drawn`);
  });

  it("verifySampled refuses weights that are not finite", async () => {
    const variant = "noise-shared";
    const nan = await writeCheckpoint(path("nan-noise"), {
      variant,
      tensors: scaled("h.0.mlp.c_fc.bias", Number.NaN, { variant }),
    });
    const noise = { kind: "generated", seed: 1 } as const;
    const error = await failureOf(() => exported(nan, path("nan-noise-onnx"), { noise }));
    expect(error.code).toBe("mismatch");
    expect(error.message).toContain("its logits are not finite");
  });
});

/** The tensors of a tiny checkpoint with one of them multiplied. */
function scaled(name: string, factor: number, tiny: WriteTinyOptions = {}) {
  return tinyTensors(tiny).map((tensor) => {
    if (tensor.name !== name) return tensor;
    const values = new Float32Array(tensor.bytes.slice().buffer).map((value) => value * factor);
    return { ...tensor, bytes: new Uint8Array(values.buffer) };
  });
}
