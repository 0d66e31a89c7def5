// All tests of ONNX Runtime's WebGPU provider in one file, and so in one process, whose sessions share compiled programs.
import { afterAll, beforeAll } from "vitest";
import type { Session } from "../../src/graph/session.ts";
import { keepPrograms } from "../support/both-devices.ts";
import { SOFTWARE_GPU } from "../support/webgpu.ts";
import "./devices.ts";
import "./exports.ts";
import "./graphs.ts";
import "./noise.ts";
import "./steps.ts";

let keeper: Session | undefined;
beforeAll(async () => {
  if (SOFTWARE_GPU) keeper = await keepPrograms();
});
afterAll(() => keeper?.close());
