// Writes docs/reference/commands.md from the help of every command: npm run docs:commands. With another bin/nfc.js as
// argument it asks that one; with --print it writes to stdout.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { print: { type: "boolean" } } });
const bin = positionals[0] ?? fileURLToPath(new URL("../bin/nfc.js", import.meta.url));

function readHelp(...command) {
  return execFileSync(process.execPath, [bin, ...command, "--help"], { encoding: "utf8" }).trimEnd();
}

function renderSection(heading, help) {
  return `## ${heading}\n\n\`\`\`text\n${help}\n\`\`\`\n`;
}

const root = readHelp();
const names = [...root.slice(root.indexOf("Commands:")).matchAll(/^ {2}([a-z]+)(?= )/gm)]
  .map(([, name]) => name)
  .filter((name) => name !== "help");
const page = [
  "# Commands and flags\n",
  "What `nfc COMMAND --help` prints. This page is generated: `npm run docs:commands` writes it.\n",
  renderSection("nfc", root),
  ...names.map((name) => renderSection(`nfc ${name}`, readHelp(name))),
].join("\n");

if (values.print) process.stdout.write(page);
else writeFileSync(new URL("../docs/reference/commands.md", import.meta.url), page);
