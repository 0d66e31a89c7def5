// Works through the layers of a model in the background, along its hidden states where there is text.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError, throwIfAborted } from "../../errors.ts";
import { timePhase } from "../../io/timings.ts";
import type { CutTools } from "../cut.ts";
import type { Calibration } from "./calibration.ts";

export interface LayerWork<T> {
  /** The phase that progress names. */
  phase: string;
  /** Works on one layer. `run` are the hidden states at it, null without text; their next layer is taken care of. */
  work: (layer: number, run: Calibration | null) => Promise<T>;
}

/** Work that runs in the background, one layer after another. */
export interface LayerRun<T> {
  /** Each layer, once it is done; rejected from the first fault on. */
  layers: Promise<T>[];
  /** Resolves when nothing runs any more, whether it went well or not. */
  settled: Promise<void>;
}

/** Starts the work. `tools.text`: the text that the model runs on; null where the work needs none. */
export function runLayers<T>(checkpoint: Checkpoint, { phase, work }: LayerWork<T>, tools: CutTools): LayerRun<T> {
  const total = checkpoint.config.n_layer;
  const layers: Promise<T>[] = [];
  // Loaded here, so that a conversion without text needs no ONNX Runtime.
  const open = async ({ windows }: NonNullable<CutTools["text"]>) => {
    const { Calibration } = await import("./calibration.ts");
    return Calibration.open(checkpoint, windows, tools);
  };
  const opening = tools.text ? open(tools.text) : null;
  let done = 0;
  const take = async (layer: number, turn: Promise<unknown> | null) => {
    await turn;
    tools.onProgress?.({ phase, done: done++, total, unit: "layers", detail: `h.${layer}` });
    throwIfAborted(tools.signal);
    const run = await opening;
    const result = await timePhase(phase, () => nameLayerInErrors(layer, () => work(layer, run)));
    run?.advance();
    return result;
  };
  let turn: Promise<unknown> | null = opening;
  for (const layer of listLayerOrder(total, opening !== null)) {
    layers[layer] = take(layer, turn);
    turn = layers[layer];
  }
  // Callers see the fault of the layer that they await; the fault of any other must not count as unhandled.
  return { layers, settled: Promise.allSettled(layers).then(() => undefined) };
}

/** The model's layers follow one another; without it the writer's order (by name: h.0, h.1, h.10, …) waits least. */
function listLayerOrder(total: number, running: boolean): number[] {
  const layers = Array.from({ length: total }, (_, layer) => layer);
  return running ? layers : layers.sort((a, b) => (`h.${a}.` < `h.${b}.` ? -1 : 1));
}

/** Puts the layer's name before the message of what `work` throws. */
async function nameLayerInErrors<T>(layer: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof NfcError) || error.code === "aborted") throw error;
    throw new NfcError(error.code, `h.${layer}.attn: ${error.message}`, { hint: error.hint });
  }
}
