// Writes the folder that Hugging Face transformers loads: weights under its names, and the code of the class of other forms than GPT-2's.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { makeFormMetadata } from "../../checkpoint/form-keys.ts";
import { makeTensorSource, writeText } from "../../checkpoint/model-folder.ts";
import { countBytes, type FloatDtype } from "../../formats/dtype.ts";
import { type TensorSource, type WriteResult, writeSafetensors } from "../../formats/safetensors/writer.ts";
import { withIoErrors } from "../../io/io-error.ts";
import type { ModelConfig } from "../../model/config.ts";
import { listParameters, type ParameterSpec } from "../../model/parameters.ts";
import { isPlainGpt2 } from "../../model/variants.ts";

const MODULE = "modeling_nfc_gpt2";
/** The Python module beside the weights of a model that is not plain GPT-2. */
export const HF_CODE_FILE = `${MODULE}.py`;
/** The path holds in src/ and dist/, where this file has the same depth. */
const CODE = fileURLToPath(new URL(`../../../assets/${HF_CODE_FILE}`, import.meta.url));

/** transformers' auto classes, and the class of the module that each loads. */
const AUTO_CLASSES = {
  AutoModel: "GPT2Model",
  AutoModelForCausalLM: "GPT2LMHeadModel",
  AutoModelForSequenceClassification: "GPT2ForSequenceClassification",
};

export interface HfFolderOptions {
  /** Dtype of all tensors; each keeps its own unless given. */
  dtype?: FloatDtype | undefined;
  maxShardSize?: number | undefined;
  onBytes?: ((written: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Keys of config.json besides those of `toHfConfig`: the class to load. A dense model is transformers' own GPT-2; another
 * keeps model_type "gpt2" and is found through auto_map with `trust_remote_code=True`.
 */
export function makeHfConfigKeys({ variant }: ModelConfig): Record<string, unknown> {
  if (isPlainGpt2(variant)) return { architectures: [AUTO_CLASSES.AutoModelForCausalLM] };
  const classes = Object.entries(AUTO_CLASSES).map(([auto, name]) => [auto, `${MODULE}.${name}`]);
  return { architectures: [AUTO_CLASSES.AutoModelForCausalLM], auto_map: Object.fromEntries(classes) };
}

/**
 * Writes the weights, c_attn compact, and the module of another form than GPT-2's below `folder`, a staging folder. transformers'
 * GPT-2 has biases everywhere: a model without gets zeros, which compute the same.
 */
export async function writeHfWeights(
  folder: string,
  checkpoint: Checkpoint,
  { dtype, ...options }: HfFolderOptions = {},
): Promise<WriteResult> {
  const sources = listParameters({ ...checkpoint.config, bias: true }).map((spec) => {
    const tensor = checkpoint.tensors.get(spec.name);
    const source = tensor ? makeTensorSource(checkpoint, tensor, dtype) : makeZeroBias(checkpoint, spec, dtype);
    return { ...source, name: toHfName(spec.name) };
  });
  if (!isPlainGpt2(checkpoint.config.variant))
    await writeText(join(folder, HF_CODE_FILE), await withIoErrors(CODE, () => readFile(CODE)));
  return writeSafetensors(folder, sources, { ...options, metadata: makeFormMetadata(checkpoint.config) });
}

/** The names under which transformers saves weights: all but the head belong to `transformer`. */
function toHfName(name: string): string {
  return name === "lm_head.weight" ? name : `transformer.${name}`;
}

function makeZeroBias(checkpoint: Checkpoint, { name, shape }: ParameterSpec, dtype?: FloatDtype): TensorSource {
  const type = dtype ?? requireTensor(checkpoint, name.replace(/bias$/, "weight")).dtype;
  return {
    name,
    dtype: type,
    shape,
    chunks: async function* () {
      yield new Uint8Array(countBytes(type, shape));
    },
  };
}
