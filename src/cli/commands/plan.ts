// nfc plan: measures what cuts along each axis cost, alone and together, and prints the frontier of size and perplexity.
import { type Command as AnyCommand, Command } from "commander";
import { DEFAULT_CALIBRATION_TOKENS } from "../../convert/convert-options.ts";
import type { PlanOptions } from "../../convert/plan/plan-model.ts";
import { NfcError } from "../../errors.ts";
import { formatCommand } from "../../io/printable.ts";
import { renderText } from "../../report/render/text.ts";
import { requireRuntime, withCheckpoint } from "../open-checkpoint.ts";
import { addCommonFlags, addSourceFlags, type CommonFlags, parsePositiveInteger, type SourceFlags } from "../options.ts";
import { type Context, note, printResult } from "../terminal.ts";
import { parseAxes, parseShare } from "./plan/values.ts";
import { openPage, type PageFlags, refuseExistingPage, writePageFile } from "./report/page.ts";

interface PlanFlags extends CommonFlags, SourceFlags, PageFlags {
  calibration?: [string, ...string[]];
  text?: [string, ...string[]];
  calibrationTokens?: number;
  tokens?: number;
  field?: string;
  axes?: string[];
  floor?: number;
  output: string;
}
