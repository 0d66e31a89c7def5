// Refuses ONNX files that ONNX Runtime or nfc does not run: newer formats, control flow, foreign ops.
import { NfcError } from "../../errors.ts";
import type { OnnxStructure } from "../../formats/onnx/structure.ts";
import { quoteUntrusted } from "../../io/printable.ts";

/** The newest formats that ONNX Runtime 1.30 reads. */
const MAX_IR_VERSION = 13;
const MAX_OPSET = 26;
/** ONNX itself, and what ONNX Runtime brings along. */
const DOMAINS: readonly string[] = ["", "com.microsoft"];

/** The advice for a file of another kind. */
export const EXPORT_AGAIN = "export the model again with nfc export, or with optimum as text-generation-with-past";

/** @throws NfcError "unsupported" for a file that nfc does not run, "invalid-file" for one that cannot be run */
export function checkRunnable(structure: OnnxStructure): void {
  checkFormat(structure);
  checkOps(structure);
}

function checkFormat({ path, irVersion, opsets }: OnnxStructure): void {
  const opset = opsets.get("") ?? 0;
  if (opset < 1) throw new NfcError("invalid-file", `${path}: names no ONNX operator set`, { hint: EXPORT_AGAIN });
  if (irVersion <= MAX_IR_VERSION && opset <= MAX_OPSET) return;
  const fact = `is written for IR version ${irVersion} and operator set ${opset}`;
  throw new NfcError("unsupported", `${path}: ${fact}; ONNX Runtime reads up to ${MAX_IR_VERSION} and ${MAX_OPSET}`, {
    hint: EXPORT_AGAIN,
  });
}

function checkOps({ path, ops, subgraphs, functions, sparse, externalAttributes }: OnnxStructure): void {
  const refuse = (fact: string) => {
    throw new NfcError("unsupported", `${path}: ${fact}`, { hint: EXPORT_AGAIN });
  };
  const [branching] = subgraphs;
  if (branching !== undefined)
    refuse(`the op ${quoteUntrusted(branching)} holds a graph of its own; control flow is not run`);
  if (functions > 0) refuse("defines functions of its own, which are not run");
  const foreign = ops.find(({ domain }) => !DOMAINS.includes(domain));
  if (foreign)
    refuse(`the op ${quoteUntrusted(foreign.type)} is of the foreign domain ${quoteUntrusted(foreign.domain)}`);
  if (sparse > 0) refuse("holds sparse tensors, which are not run");
  if (externalAttributes > 0) refuse("an attribute has its data in another file, which is not read");
}
