// Draws the noise ε of a step on the device: keys of four words an array go up, nothing comes down.
import type { DeviceMemory } from "../../graph/device-memory.ts";
import { makeFloat32Tensor, Session, type SessionOptions } from "../../graph/session.ts";
import { openAll } from "../../io/open-all.ts";
import type { ModelConfig } from "../../model/config.ts";
import {
  buildNormalTable,
  deriveNoiseKeys,
  KEY_WORDS,
  type NoiseSettings,
  planNoise,
  type StepNoise,
  TABLE_SIZE,
} from "../step/noise.ts";
import { buildNoiseGraph, NOISE } from "../step/noise-graph.ts";

export interface DeviceNoise extends StepNoise {
  close(): Promise<void>;
}

/** Makes the noise of a run, the same bits as in the host's memory. */
export async function openDeviceNoise(
  config: ModelConfig,
  settings: NoiseSettings,
  { memory, session: options }: { memory: DeviceMemory; session: SessionOptions },
): Promise<DeviceNoise> {
  const { mode, shapes } = planNoise(config, settings);
  if (mode === "mean") return { mode, feeds: () => ({}), close: async () => {} };
  const { session, table, arrays } = await openAll(async (keep) => ({
    session: keep(await Session.withInputs(buildNoiseGraph(shapes), options)),
    table: await memory.upload(makeFloat32Tensor(buildNormalTable(), [TABLE_SIZE])),
    arrays: await Promise.all(shapes.map((shape) => memory.zeros(shape))),
  }));
  const eps = Object.fromEntries(arrays.map((array, layer) => [`eps.${layer}`, array]));
  return {
    mode,
    async feeds(draw) {
      const keys = { dtype: "int32", data: deriveNoiseKeys(settings.seed, draw, shapes.length) } as const;
      await session.run({ [NOISE.keys]: { ...keys, shape: [shapes.length, KEY_WORDS] }, [NOISE.table]: table }, eps);
      return eps;
    },
    async close() {
      await session.close();
      for (const tensor of [table, ...arrays]) memory.dispose(tensor);
    },
  };
}
