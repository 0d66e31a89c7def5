// Narrows the heads of those layers whose rank is below GPT-2's, in the background.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../../model/config.ts";
import { getHeadSize } from "../../model/head-widths.ts";
import type { CutTools } from "../cut.ts";
import type { LayerStatistics } from "../statistics/calibration.ts";
import { type LayerRun, runLayers } from "../statistics/layer-run.ts";

export interface Narrowing {
  /** The phase that progress names. */
  phase: string;
  /** Numbers of each head, one entry a layer; a layer of rank D is left as it is. */
  ranks: readonly number[];
  /** Narrows a layer; gives the error of each head. */
  narrow: (layer: number, rank: number, statistics: LayerStatistics | null) => Promise<number[]>;
}

/** Whether a layer's rank is below D. */
export function isNarrow(
  config: Pick<ModelConfig, "n_embd" | "n_head">,
  ranks: readonly number[],
  layer: number,
): boolean {
  return (ranks[layer] as number) < getHeadSize(config);
}

/** Gives the errors of all layers, which are 0 where nothing is narrowed. */
export function narrowLayers(
  checkpoint: Checkpoint,
  { phase, ranks, narrow }: Narrowing,
  tools: CutTools,
): LayerRun<number[]> {
  const { config } = checkpoint;
  return runLayers(
    checkpoint,
    {
      phase,
      work: async (layer, run) => {
        const statistics = (await run?.inputStatistics(layer)) ?? null; // what follows needs the stream to go on
        if (!isNarrow(config, ranks, layer)) return Array<number>(config.n_head).fill(0);
        return narrow(layer, ranks[layer] as number, statistics);
      },
    },
    tools,
  );
}
