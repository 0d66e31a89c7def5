// Makes a model with random weights, from which pretraining starts: GPT-2's initialization, in any variant.
import { dirname } from "node:path";
import { type Checkpoint, makeMemoryCheckpoint } from "../checkpoint/checkpoint.ts";
import { checkHeads, completeConfig, parseConfig, requireSize, type Size } from "../checkpoint/config-file.ts";
import { resolveTokenIds } from "../checkpoint/token-ids.ts";
import { GPT2_VOCABULARY, readTokenizer } from "../checkpoint/tokenizer.ts";
import { NfcError } from "../errors.ts";
import { countElements } from "../formats/dtype.ts";
import { readJsonFile } from "../io/json.ts";
import type { ModelConfig } from "../model/config.ts";
import { findParameterKind, listParameters } from "../model/parameters.ts";
import { countNeededPositions, type Variant } from "../model/variants.ts";
import { NoiseBuffers } from "./step/noise.ts";

/** GPT-2's standard deviation of weights. */
const STD = 0.02;

export interface FreshOptions {
  /** config.json of a GPT-2 (n_layer, n_head, n_embd, n_positions at least). */
  config: string;
  /** The variant of config.json unless given. */
  variant?: Variant | undefined;
  /** Folder of the tokenizer; config.json's unless given. */
  tokenizerFolder?: string | undefined;
  seed: number;
}

/**
 * Weights N(0, 0.02²), those that write into the residual stream N(0, 0.02²/(2·n_layer)), norms 1, biases 0, the
 * noise's mean 0 and σ = 1. Nothing is written: the checkpoint lives in memory.
 * @throws NfcError "invalid-file" naming what config.json lacks
 */
export async function makeFreshModel(options: FreshOptions): Promise<Checkpoint> {
  const raw = (await readJsonFile(options.config)) as Record<string, unknown>;
  const folder = options.tokenizerFolder ?? dirname(options.config);
  const config = await readFreshConfig(raw, options, folder);
  const values = drawWeights(config, options.seed);
  const none = (name: string): never => {
    throw new NfcError("not-found", `${options.config}: a ${config.variant} model has no tensor ${name}`);
  };
  const empty = {
    tensors: new Map(),
    readF32: async (name: string) => none(name),
    chunks: none,
    close: async () => undefined,
  };
  const file = { path: options.config, files: [options.config], byteLength: 0, metadata: {}, warnings: [] };
  const base: Checkpoint = {
    ...empty,
    source: options.config,
    folder,
    reader: { ...empty, ...file, readBytes: none },
    config,
    rawConfig: raw,
    notes: [],
    record: null,
  };
  return makeMemoryCheckpoint(base, new Map([...values].map(([name, numbers]) => [name, () => numbers])));
}

async function readFreshConfig(
  raw: Record<string, unknown>,
  { config: file, variant }: FreshOptions,
  folder: string,
): Promise<ModelConfig> {
  const parsed = parseConfig(raw, file);
  const size = (key: Size) =>
    requireSize(parsed, key, 'a config needs at least {"n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 256}');
  const sizes = {
    ...{ n_layer: size("n_layer"), n_head: size("n_head"), n_embd: size("n_embd"), n_positions: size("n_positions") },
    vocab_size: parsed.vocab_size ?? (await readTokenizer(folder))?.size ?? GPT2_VOCABULARY,
  };
  checkHeads(parsed, sizes);
  const config = completeConfig(parsed, sizes, {
    bias: raw.bias !== false,
    ...(variant && { variant }),
    ...resolveTokenIds(parsed, sizes.vocab_size, []),
  });
  const needed = countNeededPositions(config.variant);
  if (sizes.n_positions < needed) {
    const fact = `n_positions ${sizes.n_positions} is too short for ${config.variant}, which needs ${needed}`;
    throw new NfcError("unsupported", `${file}: ${fact}`);
  }
  return config;
}

function drawWeights(config: ModelConfig, seed: number): Map<string, Float32Array> {
  const specs = listParameters(config);
  const drawn = specs.filter(({ name }) => initialDeviation(name, config) !== null);
  const noise = new NoiseBuffers(
    drawn.map(({ shape }) => countElements(shape)),
    seed,
  );
  noise.draw(0);
  const normals = new Map(drawn.map(({ name }, i) => [name, noise.arrays[i] as Float32Array]));
  return new Map(
    specs.map(({ name, shape }) => {
      const std = initialDeviation(name, config);
      const draws = normals.get(name);
      if (std === null || !draws) return [name, new Float32Array(countElements(shape)).fill(isNorm(name) ? 1 : 0)];
      return [name, draws.map((value) => std * value)];
    }),
  );
}

const isNorm = (name: string) => findParameterKind(name) === "norm" && name.endsWith(".weight");

/** Standard deviation of a parameter's first values; null where they are constant. */
function initialDeviation(name: string, { n_layer }: ModelConfig): number | null {
  if (isNorm(name) || !name.endsWith(".weight")) return null;
  return name.endsWith("c_proj.weight") ? STD / Math.sqrt(2 * n_layer) : STD;
}
