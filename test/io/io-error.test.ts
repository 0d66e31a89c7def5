// Errors of the operating system: which become messages for users, and which stay what they are.
import { describe, expect, it } from "vitest";
import { NfcError } from "../../src/errors.ts";
import { toIoError } from "../../src/io/io-error.ts";

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: something`), { code });
}

describe("errors of the operating system", () => {
  const cases: [string, string, string][] = [
    ["ENOSPC", "io", "out/model.safetensors: disk full"],
    ["EDQUOT", "io", "out/model.safetensors: disk full: your quota is used up"],
    ["EFBIG", "io", "out/model.safetensors: the file is too large for this file system"],
    ["EACCES", "io", "out/model.safetensors: permission denied"],
    ["EPERM", "io", "out/model.safetensors: permission denied"],
    ["EROFS", "io", "out/model.safetensors: the file system is read-only"],
    ["EMFILE", "io", "out/model.safetensors: too many open files"],
    ["ENFILE", "io", "out/model.safetensors: too many open files"],
    ["EIO", "io", "out/model.safetensors: the device reports an input/output error"],
    ["ENOENT", "not-found", "out/model.safetensors: no such file or folder"],
    ["ENOTDIR", "not-found", "out/model.safetensors: a part of this path is a file, not a folder"],
    ["EISDIR", "io", "out/model.safetensors: this is a folder, a file is expected"],
    ["EEXIST", "exists", "out/model.safetensors: it exists already"],
    ["ENAMETOOLONG", "io", "out/model.safetensors: the name is too long for this file system"],
  ];
  for (const [number, code, message] of cases) {
    it(`the message for ${number} names the path and says what to do`, () => {
      const original = systemError(number);
      const error = toIoError(original, "out/model.safetensors") as NfcError;
      expect(error).toBeInstanceOf(NfcError);
      expect(error).toMatchObject({ code, message, cause: original });
      expect(error.hint).toMatch(/\w/);
    });
  }
});

describe("other errors", () => {
  it("any other error stays as it is: an NfcError, a bug, a number nobody can mend, no error at all", () => {
    for (const error of [
      new NfcError("usage", "u"),
      new TypeError("t"),
      systemError("ERR_INVALID_ARG_TYPE"),
      "text",
      undefined,
    ]) {
      expect(toIoError(error, "path")).toBe(error);
    }
  });
});
