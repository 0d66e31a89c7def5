// Writes the table of a command's flags between <!-- flags COMMAND --> and <!-- /flags --> in docs/*.md, from what
// --help shows: npm run build && node scripts/make-docs.mjs
import { readdir, readFile, writeFile } from "node:fs/promises";

const docs = new URL("../docs/", import.meta.url);
const MARKED = /(<!-- flags (\w+) -->\n)[\s\S]*?(<!-- \/flags -->)/g;

/** A row for each flag; "(default: …)" at the end of its help goes into a column of its own. */
function makeTable(command) {
  const rows = command.options.map(({ flags, description, mandatory, argChoices, defaultValue }) => {
    const [, help, shown] = /^(.*?)(?: \(default: ([^()]*)\))?$/.exec(description);
    const choices = argChoices ? `: ${argChoices.map((name) => `\`${name}\``).join(", ")}` : "";
    return [`\`${flags}\``, `${help}${choices}${mandatory ? " (required)" : ""}`, shown ?? defaultValue ?? ""];
  });
  const table = [["flag", "meaning", "default"], ["---", "---", "---"], ...rows];
  return table.map((cells) => `| ${cells.map((cell) => String(cell).replaceAll("|", "\\|")).join(" | ")} |\n`).join("");
}

for (const file of (await readdir(docs)).filter((name) => name.endsWith(".md"))) {
  const text = await readFile(new URL(file, docs), "utf8");
  const tables = new Map();
  for (const [, , name] of text.matchAll(MARKED)) {
    const commands = await import(`../dist/cli/commands/${name}.js`);
    tables.set(name, makeTable(commands[`${name}Command`]({})));
  }
  const written = text.replace(MARKED, (_, start, name, end) => `${start}\n${tables.get(name)}\n${end}`);
  if (written === text) continue;
  await writeFile(new URL(file, docs), written);
  console.log(`docs/${file}`);
}
