// How long calls report progress: the library emits events, the caller decides what to show.

/** `done` of `total` (unknown: null) in `unit`, during `phase`; `detail` says which part is at work. */
export interface ProgressEvent {
  phase: string;
  done: number;
  total: number | null;
  unit: "bytes" | "layers" | "tokens" | "steps" | "files";
  detail?: string | undefined;
}

export interface LongCall {
  onProgress?: ((event: ProgressEvent) => void) | undefined;
  /** Aborting ends the call with NfcError "aborted", and leaves no partial output. */
  signal?: AbortSignal | undefined;
}
