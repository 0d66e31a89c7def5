// Makes a smaller model by one cut after another, each on the model that the one before has left.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { Cut, CutFacts, CutTools } from "./cut.ts";
import { type TieSettings, tieLayers } from "./tie-layers.ts";

/** How a model is made smaller; what is left out stays as it is. */
export interface CutSettings {
  attention?: TieSettings | undefined;
}

/** @throws NfcError as the cuts do; faults of what is still in the making show when a tensor is read, and in `finish` */
export async function makeSmaller(checkpoint: Checkpoint, settings: CutSettings, tools: CutTools): Promise<Cut> {
  const cuts: Cut[] = [];
  let model = checkpoint;
  const apply = async (make: (model: Checkpoint) => Cut | Promise<Cut>) => {
    const cut = await make(model);
    cuts.push(cut);
    model = cut.model;
  };
  const { attention } = settings;
  if (attention) await apply((whole) => tieLayers(whole, attention, tools));
  return { model, finish: async () => mergeFacts(await Promise.all(cuts.map((cut) => cut.finish()))) };
}

function mergeFacts(facts: readonly CutFacts[]): CutFacts {
  const cuts = facts.flatMap((fact) => fact.cuts ?? []);
  return { tie: facts.find(({ tie }) => tie)?.tie ?? null, ...(cuts.length > 0 && { cuts }) };
}
