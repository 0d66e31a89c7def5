// Lets the opening of a session fail, and counts the sessions that are left open.
import { vi } from "vitest";
import { NfcError } from "../../src/errors.ts";
import { Session } from "../../src/graph/session.ts";
import { failureOf } from "./failure.ts";

/** Runs `open`, whose `nth` session (from 1) cannot be opened; gives how many of those before it were not closed. */
export async function countLeaks(nth: number, open: () => Promise<unknown>): Promise<number> {
  const live = new Set<Session>();
  let count = 0;
  const watch = (make: (...args: never[]) => Promise<Session>) => {
    return async (...args: never[]) => {
      if (++count === nth) throw new NfcError("io", `session ${nth} does not open`);
      const session = await make(...args);
      live.add(session);
      const close = session.close.bind(session);
      session.close = () => {
        live.delete(session);
        return close();
      };
      return session;
    };
  };
  const { withInputs, withWeights } = Session;
  vi.spyOn(Session, "withInputs").mockImplementation(watch(withInputs.bind(Session)) as typeof withInputs);
  vi.spyOn(Session, "withWeights").mockImplementation(watch(withWeights.bind(Session)) as typeof withWeights);
  try {
    const error = await failureOf(open);
    if (error.message !== `session ${nth} does not open`) throw error;
    return live.size;
  } finally {
    vi.restoreAllMocks();
  }
}
