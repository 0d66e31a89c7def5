// What ends up on stderr and stdout: one line for a fault, a stack for a bug, results in words or JSON.
import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { EXIT, formatError, reportFailure } from "../../src/cli/exit-code.ts";
import { note, printResult } from "../../src/cli/terminal.ts";
import { NfcError } from "../../src/errors.ts";
import { Recorder } from "../support/cli.ts";

function terminal() {
  const signals = new EventEmitter();
  const [stdout, stderr] = [new Recorder(), new Recorder()];
  const io = { argv: [], env: {}, stdout, stderr, on: signals.on.bind(signals), off: signals.off.bind(signals) };
  return { io, stdout, stderr };
}

describe("formatError", () => {
  it("an error line joins message and hint", () => {
    expect(formatError(new NfcError("io", "a: disk full", { hint: "free some space" }))).toBe(
      "a: disk full; free some space",
    );
    expect(formatError(new NfcError("io", "a: disk full"))).toBe("a: disk full");
  });

  it("control characters in an error are made visible", () => {
    expect(formatError(new NfcError("io", "a\r\n\u001b[2J\u007f\u009b"))).toBe("a\\u{d}\\u{a}\\u{1b}[2J\\u{7f}\\u{9b}");
  });
});

describe("reportFailure", () => {
  it("a fault that the user can mend exits with 2", () => {
    const { io, stdout, stderr } = terminal();
    expect(reportFailure(new NfcError("io", "full", { hint: "mend" }), io, {})).toBe(EXIT.usage);
    expect([stdout.text, stderr.text]).toEqual(["", "nfc: full; mend\n"]);
  });

  it("an interruption exits with 130", () => {
    const { io } = terminal();
    expect(reportFailure(new NfcError("aborted", "interrupted"), io, {})).toBe(130);
  });

  it("a fault is an object with --json, with null for no hint", () => {
    const { io, stdout } = terminal();
    reportFailure(new NfcError("io", "full"), io, { json: true });
    expect(JSON.parse(stdout.text)).toEqual({ error: { code: "io", message: "full", hint: null } });
  });

  it("any other error exits with 70 and prints the stack", () => {
    for (const thrown of [new TypeError("boom"), "a string"]) {
      const { io, stderr } = terminal();
      expect(reportFailure(thrown, io, {})).toBe(70);
      expect(stderr.text).toMatch(/^nfc: internal error, please report it\n/);
      expect(stderr.text).toContain(thrown instanceof Error ? "terminal.test.ts" : "a string");
    }
  });

  it("an internal error is an object with --json as well", () => {
    const { io, stdout } = terminal();
    reportFailure(new TypeError("boom"), io, { json: true });
    expect(JSON.parse(stdout.text)).toEqual({ error: { code: "internal", message: "boom", hint: null } });
  });
});

describe("printResult", () => {
  it("every printed text ends with one newline", () => {
    for (const text of ["a", "a\n"]) {
      const { io, stdout } = terminal();
      printResult(io, {}, {}, () => text);
      expect(stdout.text).toBe("a\n");
    }
  });

  it("--json prints the object instead of the text", () => {
    const { io, stdout } = terminal();
    printResult(io, { json: true }, { a: [1] }, () => "no");
    expect(JSON.parse(stdout.text)).toEqual({ a: [1] });
    expect(stdout.text.endsWith("}\n")).toBe(true);
  });
});

it("notes go to stderr, unless --quiet is given", () => {
  const { io, stdout, stderr } = terminal();
  note(io, {}, "remark");
  note(io, { quiet: true }, "not this");
  expect([stdout.text, stderr.text]).toEqual(["", "note: remark\n"]);
});
