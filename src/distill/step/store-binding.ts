// Connects the session of a training graph to the parameter store: it reads parameters there, and writes gradients.
import {
  makeFloat32Tensor,
  type Operand,
  type Operands,
  type Session,
  type Tensor,
  type Tensors,
} from "../../graph/session.ts";
import type { ParameterState } from "./parameter-state.ts";
import type { ParameterStore } from "./parameter-store.ts";
import { nameGradient, STEP } from "./step-graph.ts";

export interface StoreBinding<Gradients extends Operands = Operands> {
  /** The parameters that the session reads, by their names, as they are now. */
  readParameters(): Operands;
  /** The session writes its gradients here: to the store's arrays, and one for the rows of the embedding. */
  gradients: Gradients;
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
): StoreBinding<Tensors> {
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
    readParameters: makeReader(session, store),
    gradients,
    addEmbeddingRows(ids, { hasHeadGradient = false } = {}) {
      if (store.trained.includes("wpe.weight")) store.slot("wpe.weight").gradient.fill(0, length * width);
      if (rows.length === 0) return;
      if (!hasHeadGradient) store.slot("wte.weight").gradient.fill(0);
      store.addRows("wte.weight", rows, ids);
    },
  };
}

/** Connects a session whose graph makes whole gradients to parameters on its device. */
export function bindDevice(session: Session, state: ParameterState): StoreBinding {
  const gradients = state.trained.map((name): [string, Operand] => [nameGradient(name), state.gradient(name)]);
  return {
    readParameters: makeReader(session, state),
    gradients: Object.fromEntries(gradients),
    addEmbeddingRows: () => {},
  };
}

function makeReader({ inputNames }: Session, state: ParameterState): () => Operands {
  const names = inputNames.filter((name) => state.names.includes(name));
  return () => Object.fromEntries(names.map((name) => [name, state.parameter(name)]));
}
