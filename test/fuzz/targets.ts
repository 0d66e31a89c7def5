// All targets of the fuzzers.
import { COMMANDS } from "./commands.ts";
import { DATA_PARSERS } from "./data-parsers.ts";
import { PARSERS } from "./parsers.ts";
import { REQUEST_TARGETS } from "./requests.ts";
import type { Target } from "./target.ts";
import { TOKENIZER_PARSERS } from "./tokenizer-parsers.ts";

export const TARGETS: readonly Target[] = [
  ...PARSERS,
  ...DATA_PARSERS,
  ...TOKENIZER_PARSERS,
  ...COMMANDS,
  ...REQUEST_TARGETS,
];

export function findTarget(name: string): Target {
  const target = TARGETS.find((each) => each.name === name);
  if (!target) throw new Error(`no target ${name}; there are ${TARGETS.map((each) => each.name).join(", ")}`);
  return target;
}
