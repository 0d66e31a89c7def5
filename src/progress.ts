// Progress and interruption of long calls: the library emits events, the caller decides what to show.

/** `done` of `total` (unknown: null) in `unit`, during `phase`; `detail` names the part that is processed. */
export interface ProgressEvent {
  phase: string;
  done: number;
  total: number | null;
  unit: "bytes" | "layers" | "tokens" | "steps" | "files";
  detail?: string | undefined;
  /** Whether the phase is mostly over at once: where lines stay, it gets one only if it takes longer. */
  brief?: boolean | undefined;
}

export interface LongCall {
  onProgress?: ((event: ProgressEvent) => void) | undefined;
  /** Aborting ends the call with NfcError "aborted", and leaves no partial output. */
  signal?: AbortSignal | undefined;
}
