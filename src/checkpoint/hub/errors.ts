// Turns what the Hub library, fetch and a broken download throw into one-line errors that say what to do.
import { describeError, NfcError } from "../../errors.ts";

type HubLibrary = typeof import("@huggingface/hub");

/** The request that messages are about. */
export interface HubContext {
  hub: Pick<HubLibrary, "HubApiError" | "InvalidApiResponseFormatError">;
  /** The reference that the user wrote. */
  source: string;
  reference: { name: string; revision: string };
  endpoint: string;
  signal: AbortSignal | undefined;
}

/** Messages of undici's fetch when there was no connection, or when it broke while the body arrived. */
const CONNECTION_FAILURES = new Set(["fetch failed", "terminated"]);

/** One line for whatever the library, fetch or the stream threw; `unreachable` when a cached copy may stand in. */
export function toHubError(error: unknown, context: HubContext): { error: unknown; unreachable: boolean } {
  const { source, hub, endpoint, signal } = context;
  const network = (fact: string, hint: string) => new NfcError("network", `${source}: ${fact}`, { hint, cause: error });
  if (signal?.aborted) return { error: new NfcError("aborted", `${source}: download interrupted`), unreachable: false };
  if (error instanceof NfcError) return { error, unreachable: false };
  if (error instanceof hub.HubApiError) {
    return { error: explainStatus(error.statusCode, context, error), unreachable: error.statusCode >= 500 };
  }
  if (error instanceof hub.InvalidApiResponseFormatError || error instanceof SyntaxError) {
    const fact = `${endpoint} does not answer like a Hugging Face Hub (${toOneLine(error)})`;
    return { error: network(fact, "check HF_ENDPOINT"), unreachable: false };
  }
  // The library hands a broken download's stream the bare message instead of the error.
  if (typeof error === "string" || (error instanceof TypeError && CONNECTION_FAILURES.has(error.message))) {
    const hint = "check the network, HF_ENDPOINT and proxies; a complete download is used offline";
    return { error: network(`${endpoint} cannot be reached (${describeReason(error)})`, hint), unreachable: true };
  }
  return { error, unreachable: false };
}

function explainStatus(status: number, { source, reference, endpoint }: HubContext, cause: unknown): NfcError {
  const page = `${endpoint}/${reference.name}`;
  const explain = (code: "network" | "not-found", fact: string, hint: string) =>
    new NfcError(code, `${source}: ${fact}`, { hint, cause });
  if (status === 401) {
    const hint = `check the name; for a private or gated model set HF_TOKEN (${page})`;
    return explain("network", "the Hub wants a valid token (401)", hint);
  }
  if (status === 403) {
    const hint = `accept the model's terms on ${page} and set HF_TOKEN to a token of that account`;
    return explain("network", "the Hub denies access (403)", hint);
  }
  if (status === 404)
    return explain("not-found", `no such model or revision ${reference.revision} (404)`, `check ${page}`);
  return explain("network", `the Hub answers with status ${status}`, "try again later");
}

/** The system's code for a failed connection (ECONNREFUSED, ENOTFOUND, ...), else the message. */
function describeReason(error: unknown): string {
  const cause = error instanceof Error ? (error.cause as { code?: unknown } | undefined) : undefined;
  return typeof cause?.code === "string" ? cause.code : toOneLine(error);
}

/** V8 quotes the text around a fault of JSON, line breaks included. */
function toOneLine(error: unknown): string {
  return describeError(error).replace(/\s+/g, " ");
}
