// The flags of nfc eval, for its three ways to score: text, a task, and exported files.
import type { Precision } from "../../../model/precision.ts";
import type { DeviceFlags } from "../../device.ts";
import type { CommonFlags, SourceFlags } from "../../options.ts";

export interface EvalFlags extends CommonFlags, SourceFlags, DeviceFlags {
  text?: string[];
  task?: string;
  data?: string;
  skipInvalid?: boolean;
  precision?: Precision[];
  against?: string;
  length?: number;
  stride?: number;
  field?: string;
  noise: "mean" | "sample";
  seed?: number;
  record: boolean;
}

/** The flags where text is scored. */
export type TextFlags = EvalFlags & { text: string[] };
