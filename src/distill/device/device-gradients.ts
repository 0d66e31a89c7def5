// Makes the gradients of micro-batches of text on a device: nothing but tokens, scalars and losses crosses the bus.
import { makeFloat32Tensor, Session, type Tensor } from "../../graph/session.ts";
import { openAll } from "../../io/open-all.ts";
import { STEP } from "../step/step-graph.ts";
import { bindDevice } from "../step/store-binding.ts";
import type { TextGradientOptions, TextGradients } from "../step/text-gradients.ts";
import { openDeviceNoise } from "./device-noise.ts";
import type { DeviceState } from "./device-state.ts";
import { buildResidentGraph, makeInt32Tensor } from "./resident-graph.ts";
import { LOSS_SCALE, PRIOR } from "./whole-gradients.ts";

export async function openDeviceGradients(
  state: DeviceState,
  { config, settings, teacher, session: sessionOptions }: TextGradientOptions,
): Promise<TextGradients> {
  const { batchSize: batch, length, temperature, noiseKl, accumulate } = settings;
  const { noise, session } = await openAll(async (keep) => {
    const drawn = keep(await openDeviceNoise(config, settings, { memory: state.memory, session: sessionOptions }));
    const trained = new Set(state.trained);
    const step = { config, batch, length, trained, noise: drawn.mode, teacher: teacher?.input ?? null, temperature };
    const scaled = settings.devicePrecision === "fp16";
    const graph = buildResidentGraph({ ...step, prior: noiseKl / accumulate, scaled });
    return { noise: drawn, session: keep(await Session.withInputs(graph, sessionOptions)) };
  });
  const { readParameters, gradients } = bindDevice(session, state);
  let prior: number | null = null;
  return {
    async run({ inputs, labels, windows }, weights, draw, scale) {
      const output = await session.run(
        {
          ...readParameters(),
          ...(await noise.feeds(draw)),
          ...(await teacher?.feeds(inputs, windows)),
          input_ids: makeInt32Tensor(inputs),
          [STEP.labels]: makeInt32Tensor(labels),
          [STEP.nllWeight]: makeScalar(weights.nll),
          ...(teacher && { [STEP.klWeight]: makeScalar(weights.kl) }),
          ...(session.inputNames.includes(LOSS_SCALE) && { [LOSS_SCALE]: makeScalar(scale) }),
        },
        gradients,
      );
      prior = readScalar(output[PRIOR]);
      return { nll: readScalar(output[STEP.nll]) ?? 0, kl: readScalar(output[STEP.kl]) ?? 0 };
    },
    addPrior: () => prior,
    async close() {
      await session.close();
      await noise.close();
      await teacher?.close();
    },
  };
}

const makeScalar = (value: number) => makeFloat32Tensor(new Float32Array([value]), []);
const readScalar = (tensor: Tensor | undefined): number | null => (tensor ? (tensor.data[0] as number) : null);
