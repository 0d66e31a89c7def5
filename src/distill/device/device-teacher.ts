// Runs the teacher on a device: its weights and hidden states stay there.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { DeviceMemory } from "../../graph/device-memory.ts";
import type { DeviceTensor } from "../../graph/device-tensor.ts";
import { Graph } from "../../graph/ir.ts";
import { makeFloat32Tensor, Session, type SessionOptions } from "../../graph/session.ts";
import { openAll } from "../../io/open-all.ts";
import { gpt2 } from "../../model/gpt2.ts";
import { makeParameterLookup } from "../../model/layers.ts";
import { isUsedAtMean, listParameters, nameHead } from "../../model/parameters.ts";
import { nameTeacherChunk, STEP } from "../step/step-graph.ts";
import type { TeacherSource } from "../teacher/teacher.ts";
import { declareResidentInputs, makeInt32Tensor } from "./resident-graph.ts";

/** Uploads a frozen model's weights, as far as its logits depend on them, under their names. */
export async function uploadWeights(
  { config, readF32 }: Pick<Checkpoint, "config" | "readF32">,
  memory: DeviceMemory,
): Promise<Map<string, DeviceTensor>> {
  const weights = new Map<string, DeviceTensor>();
  for (const { name, shape } of listParameters(config))
    if (isUsedAtMean(name, config))
      weights.set(name, await memory.upload(makeFloat32Tensor(await readF32(name), shape)));
  return weights;
}

/** Opens a frozen model in float32, whose distribution the student learns; its noise is at the mean. */
export async function openDeviceTeacher(
  checkpoint: Checkpoint,
  memory: DeviceMemory,
  { batch, length, session: options }: { batch: number; length: number; session: SessionOptions },
): Promise<TeacherSource> {
  const { config } = checkpoint;
  const graph = new Graph();
  const { inputs } = declareResidentInputs(graph, batch, length);
  graph.output(gpt2(config, makeParameterLookup(graph, config), inputs, { kind: "mean" }).hidden, "hidden");
  const weights = await uploadWeights(checkpoint, memory);
  const { session, hidden } = await openAll(async (keep) => ({
    session: keep(await Session.withInputs(graph, options)),
    hidden: await memory.zeros([batch * length, config.n_embd]),
  }));
  const own = Object.fromEntries([...weights].filter(([name]) => session.inputNames.includes(name)));
  const head = weights.get(nameHead(config)) as DeviceTensor;
  return {
    input: { kind: "hidden", n_embd: config.n_embd, precision: "fp32" },
    async feeds(ids) {
      await session.run({ ...own, input_ids: makeInt32Tensor(ids) }, { hidden });
      return { [STEP.teacherHidden]: hidden, [nameTeacherChunk(0)]: head };
    },
    async close() {
      await session.close();
      for (const tensor of [...weights.values(), hidden]) memory.dispose(tensor);
    },
  };
}
