// Opens an address or a file in the system's browser.
import { spawn } from "node:child_process";

/** `failed` hears why, where the system has no such program. */
export function openBrowser(target: string, failed: (fact: string) => void): void {
  const commands: Partial<Record<NodeJS.Platform, string>> = { darwin: "open", win32: "explorer" };
  const child = spawn(commands[process.platform] ?? "xdg-open", [target], { stdio: "ignore", detached: true });
  child.on("error", (error) => failed(error.message));
  child.unref();
}
