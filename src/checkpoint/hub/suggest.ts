// Suggests the hf:// name of a model that a user names in another way: an address, owner/name, or GPT-2's short names.
import { fileExists } from "../../io/exists.ts";

/** One-word names that Hugging Face's programs know. */
const SHORT_NAMES: Readonly<Record<string, string>> = {
  gpt2: "openai-community/gpt2",
  "gpt2-medium": "openai-community/gpt2-medium",
  "gpt2-large": "openai-community/gpt2-large",
  "gpt2-xl": "openai-community/gpt2-xl",
  distilgpt2: "distilbert/distilgpt2",
};

const HUB_ADDRESS = /^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)\/([^?#]+)/;

/** Whether a source is an address of the web. */
export function isAddress(source: string): boolean {
  return /^https?:\/\//.test(source) || HUB_ADDRESS.test(source);
}

/** What to write instead of a source that is no file; null where it looks like no name of the Hub. */
export function suggestHub(source: string): string | null {
  const address = HUB_ADDRESS.exec(source)?.[1];
  if (address !== undefined) return suggestForAddress(address.split("/").filter((part) => part !== ""));
  if (isAddress(source)) return "download it first: files, folders and hf://owner/name are read";
  const [name = "", revision] = source.split("@");
  const short = Object.hasOwn(SHORT_NAMES, name) ? SHORT_NAMES[name] : undefined;
  const owner = /^([\w-][\w.-]*)\/[\w-][\w.-]*$/.exec(name)?.[1];
  if (short === undefined && (owner === undefined || fileExists(owner))) return null;
  return short === undefined ? `check the path, or ${suggest(name, revision)}` : suggest(short, revision);
}

/** owner/name[/tree|blob|resolve/revision/…], or one of the short names in place of owner/name. */
function suggestForAddress(parts: readonly string[]): string {
  const [first = "", second = ""] = parts;
  if (["datasets", "spaces", "collections", "models"].includes(first))
    return "this is no model's address: give hf://owner/name of a model";
  const short = Object.hasOwn(SHORT_NAMES, first) ? SHORT_NAMES[first] : undefined;
  const isShort = short !== undefined && (second === "" || /^(tree|blob|resolve)$/.test(second));
  const [view = "", ...rest] = parts.slice(isShort ? 1 : 2);
  if (!isShort && second === "") return "give hf://owner/name of a model";
  const revision = /^(tree|blob|resolve)$/.test(view) ? rest.slice(0, rest[0] === "refs" ? 3 : 1).join("/") : "";
  return suggest(isShort ? (short as string) : `${first}/${second}`, revision === "main" ? undefined : revision);
}

function suggest(name: string, revision: string | undefined): string {
  return `for a model of the Hugging Face Hub write hf://${name}${revision ? `@${revision}` : ""}`;
}
