// Makes a smaller model by one cut after another, each on the model that the one before has left.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { settleAll } from "../io/settle.ts";
import { timePhase } from "../io/timings.ts";
import { type AttentionSettings, cutAttention } from "./attention/attention-cut.ts";
import type { Cut, CutFacts, CutTools } from "./cut.ts";
import type { LayerSettings, MlpSettings } from "./cuts/axis-settings.ts";
import { cutLayers } from "./cuts/layers-cut.ts";
import { cutMlp } from "./cuts/mlp-cut.ts";
import type { VocabularySettings } from "./cuts/vocabulary-choice.ts";
import { cutVocabulary, prepareVocabulary } from "./cuts/vocabulary-cut.ts";
import { repairModel } from "./repair/repair.ts";

/** How a model is made smaller; what is left out stays as it is. */
export interface CutSettings {
  layers?: LayerSettings | undefined;
  mlp?: MlpSettings | undefined;
  attention?: AttentionSettings | undefined;
  /**
   * Whether the model is repaired on the text. Unless given, a model of fewer layers or hidden units is, where that gains on
   * a part of the text that is held out (docs/decisions/0041-repair.md).
   */
  repair?: boolean | undefined;
  vocabulary?: VocabularySettings | undefined;
}

/** Whether a repair is tried: attention alone is made up for by training, which a repaired start disturbs. */
export function triesRepair({ repair, layers, mlp }: Pick<CutSettings, "repair" | "layers" | "mlp">): boolean {
  return repair ?? (layers !== undefined || mlp !== undefined);
}

/**
 * @throws NfcError as the cuts do, once nothing is in the making any more; faults of what still is when it resolves show
 * when a tensor is read, and in `finish`
 */
export async function makeSmaller(checkpoint: Checkpoint, settings: CutSettings, tools: CutTools): Promise<Cut> {
  const stop = new AbortController();
  const signal = AbortSignal.any(tools.signal ? [tools.signal, stop.signal] : [stop.signal]);
  const cuts: Cut[] = [];
  try {
    const model = await applyCuts(checkpoint, settings, { ...tools, signal }, cuts);
    return { model, finish: async () => mergeFacts(await settleAll(cuts.map((cut) => cut.finish()))) };
  } catch (error) {
    stop.abort(); // an earlier cut may have minutes to go, and works with files that the caller removes
    await Promise.allSettled(cuts.map((cut) => cut.finish()));
    throw error;
  }
}

/** Gives the model that the last cut leaves. @param cuts takes the cuts */
async function applyCuts(
  checkpoint: Checkpoint,
  settings: CutSettings,
  tools: CutTools,
  cuts: Cut[],
): Promise<Checkpoint> {
  let model = checkpoint;
  const apply = async (phase: string, make: (model: Checkpoint) => Cut | Promise<Cut>) => {
    const cut = await timePhase(phase, () => make(model));
    cuts.push(cut);
    model = cut.model;
  };
  const { layers, mlp, attention, repair } = settings;
  // Counted first, so that a size that cannot be is refused before minutes of work, and cut last: the other cuts read the source's ids.
  const vocabulary = settings.vocabulary && (await prepareVocabulary(checkpoint, settings.vocabulary, tools));
  let kept: readonly number[] = Array.from({ length: checkpoint.config.n_layer }, (_, layer) => layer);
  if (layers !== undefined)
    await apply("choosing layers", async (whole) => {
      const cut = await cutLayers(whole, layers, tools);
      kept = cut.kept;
      return cut;
    });
  if (mlp) await apply("choosing hidden units", (whole) => cutMlp(whole, mlp, tools));
  if (attention) await apply("cutting attention", (whole) => cutAttention(whole, attention, tools));
  if (tools.text && cuts.length > 0 && triesRepair(settings) && !checkpoint.config.labels)
    await apply("repairing", (student) => repairModel({ source: checkpoint, student, kept }, repair ?? false, tools));
  if (vocabulary) await apply("choosing tokens", (whole) => cutVocabulary(whole, vocabulary, tools));
  return model;
}

function mergeFacts(facts: readonly CutFacts[]): CutFacts {
  const cuts = facts.flatMap((fact) => fact.cuts ?? []);
  return { tie: facts.find(({ tie }) => tie)?.tie ?? null, ...(cuts.length > 0 && { cuts }) };
}
