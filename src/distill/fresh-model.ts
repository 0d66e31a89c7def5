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
import { getDefaultRank, getHeadSize } from "../model/head-widths.ts";
import { findParameterKind, listParameters } from "../model/parameters.ts";
import { refuseShortPositions, VARIANT_TRAITS, type Variant } from "../model/variants.ts";
import { NoiseBuffers } from "./step/noise.ts";

/** GPT-2's standard deviation of weights. */
const STD = 0.02;

export interface FreshOptions {
  /** config.json of a GPT-2 (n_layer, n_head, n_embd, n_positions at least). */
  config: string;
  /** The variant of config.json unless given. */
  variant?: Variant | undefined;
  /** Numbers of q and of k in each head of every layer, for a low-rank model; those of config.json, else D/2 unless given. */
  qkRank?: number | undefined;
  /** Folder of the tokenizer; config.json's unless given. */
  tokenizerFolder?: string | undefined;
  seed: number;
}

/**
 * Weights N(0, 0.02²), those that write into the residual stream N(0, 0.02²/(2·n_layer)), norms 1, biases 0, the
 * noise's mean 0 and σ = 1. The forms of pairwise attention are the identity, so that it begins as symmetric attention.
 * Nothing is written: the checkpoint lives in memory.
 * @throws NfcError "invalid-file" naming what config.json lacks, "usage" for a rank that the model cannot have
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
  { config: file, variant, qkRank }: FreshOptions,
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
  const rank = qkRank === undefined ? {} : { qk_ranks: checkRank(qkRank, variant ?? parsed.variant ?? "dense", sizes) };
  const config = completeConfig({ ...parsed, ...rank }, sizes, {
    bias: raw.bias !== false,
    ...(variant && { variant }),
    ...resolveTokenIds(parsed, sizes.vocab_size, []),
  });
  refuseShortPositions(file, config);
  return config;
}

/** @throws NfcError "usage" for a variant that has no ranks, and for one that is no whole number from 1 to the size of a head */
function checkRank(rank: number, variant: Variant, sizes: Pick<ModelConfig, "n_embd" | "n_head">): number {
  if (!VARIANT_TRAITS[variant].narrow)
    throw new NfcError("usage", `--qk-rank is for low-rank models, and this one is ${variant}`, {
      hint: "leave it out, or take --variant low-rank",
    });
  const size = getHeadSize(sizes);
  if (Number.isInteger(rank) && rank >= 1 && rank <= size) return rank;
  throw new NfcError("usage", `--qk-rank ${rank} is not from 1 to n_embd / n_head = ${size}`, {
    hint: `take ${getDefaultRank(sizes)}, with which the model has as many parameters as a tied one`,
  });
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
      if (findParameterKind(name) === "attention form") return [name, makeIdentities(shape)];
      const std = initialDeviation(name, config);
      const draws = normals.get(name);
      if (std === null || !draws) return [name, new Float32Array(countElements(shape)).fill(isNorm(name) ? 1 : 0)];
      return [name, draws.map((value) => std * value)];
    }),
  );
}

/** An identity matrix for each head: [H, D, D] */
function makeIdentities(shape: readonly number[]): Float32Array {
  const size = shape.at(-1) as number;
  return Float32Array.from({ length: countElements(shape) }, (_, i) => ((i % size ** 2) % (size + 1) === 0 ? 1 : 0));
}

const isNorm = (name: string) => findParameterKind(name) === "norm" && name.endsWith(".weight");

/** Standard deviation of a parameter's first values; null where they are constant. */
function initialDeviation(name: string, { n_layer }: ModelConfig): number | null {
  if (isNorm(name) || !name.endsWith(".weight")) return null;
  return name.endsWith("c_proj.weight") ? STD / Math.sqrt(2 * n_layer) : STD;
}
