// Connects the session of a training graph to the parameter store: it reads parameters there, and writes gradients.
import { makeFloat32Tensor, type Session, type Tensor } from "../../graph/session.ts";
import type { ParameterStore } from "./parameter-store.ts";
import { nameGradient, STEP } from "./step-graph.ts";

export interface StoreBinding {
  /** The parameters that the session reads, by their names. */
  parameters: Record<string, Tensor>;
  /** The session writes its gradients here: to the store's arrays, and one for the rows of the embedding. */
  gradients: Record<string, Tensor>;
  /**
   * Completes the embeddings' gradients after a run on `ids` [B·T]: adds the rows to wte's, and clears wpe's beyond T.
   * wte's gradient is cleared first, unless the graph has written the head's part of it.
   */
  addEmbeddingRows(ids: Int32Array, options?: { hasHeadGradient?: boolean | undefined }): void;
}

/** The graph has the outputs of `outputModelGradients`, for `batch` windows of `length` tokens. */
export function bindStore(
  session: Session,
  store: ParameterStore,
  { batch, length, width }: { batch: number; length: number; width: number },
): StoreBinding {
  const parameters: Record<string, Tensor> = {};
  for (const name of session.inputNames) if (store.names.includes(name)) parameters[name] = makeParameter(store, name);
  const gradients: Record<string, Tensor> = {};
  for (const name of store.trained) {
    if (!session.outputNames.includes(nameGradient(name))) continue;
    const { gradient, shape } = store.slot(name);
    gradients[nameGradient(name)] =
      name === "wpe.weight"
        ? makeFloat32Tensor(gradient.subarray(0, length * width), [length, width])
        : makeFloat32Tensor(gradient, shape);
  }
  const rows = new Float32Array(session.outputNames.includes(STEP.embeddingRows) ? batch * length * width : 0);
  if (rows.length > 0) gradients[STEP.embeddingRows] = makeFloat32Tensor(rows, [batch * length, width]);
  return {
    parameters,
    gradients,
    addEmbeddingRows(ids, { hasHeadGradient = false } = {}) {
      if (store.trained.includes("wpe.weight")) store.slot("wpe.weight").gradient.fill(0, length * width);
      if (rows.length === 0) return;
      if (!hasHeadGradient) store.slot("wte.weight").gradient.fill(0);
      store.addRows("wte.weight", rows, ids);
    },
  };
}

/** A parameter where it lies: a session that is fed it sees every update. */
export function makeParameter(store: ParameterStore, name: string): Tensor {
  return makeFloat32Tensor(store.value(name), store.slot(name).shape);
}
