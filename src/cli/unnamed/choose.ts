// Chooses the model of a command to which none is named, or says why it cannot.
import { join } from "node:path";
import { NFC_RECORD_FILE } from "../../checkpoint/nfc-record.ts";
import { RunFolder, textStateSchema } from "../../distill/run-folder.ts";
import { NfcError } from "../../errors.ts";
import { fileExists } from "../../io/exists.ts";
import { formatCommand } from "../../io/printable.ts";
import { nameOutput } from "./names.ts";
import { findOwnModels, type OwnModel } from "./own-models.ts";

export interface Choice {
  model: string;
  /** What else the user should know of the choice. */
  remarks: string[];
}

/**
 * The one folder here that nfc convert made.
 * @param data the training text, among which a model stands that was named after --data
 * @param resume whether a run goes on: where several folders would do, the one whose run is unfinished is meant
 * @throws NfcError "not-found" without any, "usage" naming all where there are several
 */
export async function chooseConverted(data: readonly string[], resume: boolean): Promise<Choice> {
  const swallowed = data.find((path) => fileExists(join(path, NFC_RECORD_FILE)));
  if (swallowed !== undefined)
    throw new NfcError("usage", `${swallowed} is a model, no text to train on`, {
      hint: `--data takes all names that follow it: ${formatCommand(["nfc", "distill", swallowed, "--data", "FILE"])}`,
    });
  const { models, faults } = await findOwnModels();
  const converted = models.filter(({ step }) => step === "convert").map(({ name }) => name);
  const unfinished = resume ? converted.filter(hasUnfinishedRun) : [];
  const [model, ...others] = unfinished.length === 1 ? unfinished : converted.sort();
  if (model === undefined)
    throw new NfcError("not-found", joinFaults("no folder here was made by nfc convert", faults), {
      hint: "make one with nfc convert MODEL, or name it: nfc distill MODEL --data FILE",
    });
  if (others.length === 0) return { model, remarks: faults };
  const names = [model, ...others].join(", ");
  throw new NfcError("usage", `${1 + others.length} folders here were made by nfc convert: ${names}`, {
    hint: `name one of them: ${formatCommand(["nfc", "distill", model, "--data", "FILE"])}`,
  });
}

/** The model here that nfc made last. @throws NfcError "not-found" without any */
export async function chooseLatest(): Promise<Choice> {
  const { models, faults } = await findOwnModels();
  const [latest, ...older] = models;
  if (latest === undefined)
    throw new NfcError("not-found", joinFaults("no folder here holds a model that nfc made", faults), {
      hint: "name a model: nfc export MODEL --onnx",
    });
  return { model: latest.name, remarks: [...faults, ...describeState(latest, older)] };
}

/** What a user may not expect of the latest model: that it was not trained after its conversion. */
function describeState({ name, step }: OwnModel, older: readonly OwnModel[]): string[] {
  if (step !== "convert") return [];
  if (hasUnfinishedRun(name))
    return [`${nameOutput(name, "distilled")}.run holds an unfinished run: nfc distill --resume makes a better model`];
  const trained = older.filter((model) => model.step !== "convert").map((model) => model.name);
  const also = trained.length > 0 ? `; older ones are: ${trained.join(", ")}` : "";
  return [`${name} is as it was converted: nfc distill makes it better${also}`];
}

function hasUnfinishedRun(model: string): boolean {
  return new RunFolder(nameOutput(model, "distilled"), textStateSchema).exists();
}

const joinFaults = (fact: string, faults: readonly string[]) => [fact, ...faults].join("; ");
