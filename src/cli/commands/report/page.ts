// Writes a page of nfc report to a file, and opens it in the browser if asked.
import { resolve } from "node:path";
import { NfcError } from "../../../errors.ts";
import { fileExists } from "../../../io/exists.ts";
import { PAGE_MARK, refuseUnmarkedFile } from "../../../io/marked-file.ts";
import { writeFileAtomic } from "../../../io/staging.ts";
import { type Context, note, type OutputFlags, openBrowser, printResult } from "../../terminal.ts";

export interface PageFlags extends OutputFlags {
  html?: string;
  open?: boolean;
  force?: boolean;
}

/** @throws NfcError "exists" for a file that is no page, and without --force for any, before anything is made */
export async function refuseExistingPage({ html, force = false }: PageFlags): Promise<void> {
  if (html === undefined || !fileExists(resolve(html))) return;
  await refuseUnmarkedFile(html, PAGE_MARK, "a page of nfc, which --force replaces");
  if (!force)
    throw new NfcError("exists", `${html}: exists already`, {
      hint: "choose another name, or replace it with --force",
    });
}

export async function writePage(context: Context, file: string, page: string, flags: PageFlags): Promise<void> {
  await writePageFile(file, page, flags);
  printResult(context.io, flags, { html: file }, () => file);
  openPage(context, file, flags);
}

/** Writes the page and prints nothing. @throws NfcError as `refuseExistingPage` */
export async function writePageFile(file: string, page: string, flags: PageFlags): Promise<void> {
  await refuseExistingPage({ ...flags, html: file });
  await writeFileAtomic(file, page);
}

/** Opens the page in the browser if asked. */
export function openPage({ io }: Context, file: string, flags: PageFlags): void {
  if (flags.open) openBrowser(file, (fact) => note(io, flags, `the browser does not open: ${fact}`));
}
