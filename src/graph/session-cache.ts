// Sessions that are opened once, when they are first needed, and closed together.
import type { Session } from "./session.ts";

export class SessionCache {
  private readonly sessions = new Map<string, Promise<Session>>();

  /** The session of that key. One that does not open is not kept: its fault is the caller's, and the next call tries again. */
  open(key: string, open: () => Promise<Session>): Promise<Session> {
    const known = this.sessions.get(key);
    if (known) return known;
    const session = open();
    this.sessions.set(key, session);
    session.catch(() => this.sessions.delete(key));
    return session;
  }

  async close(): Promise<void> {
    for (const result of await Promise.allSettled(this.sessions.values()))
      if (result.status === "fulfilled") await result.value.close();
    this.sessions.clear();
  }
}
