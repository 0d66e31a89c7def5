// Writes docs/reference/api.txt: the public names of each entry point with their signatures, as the built .d.ts have them.
//   node scripts/api-report.mjs [--check]     --check writes nothing, and fails where the file is not current
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const FILE = `${ROOT}docs/reference/api.txt`;
/** A type of more characters than this is a zod schema, which schema/*.json shows. */
const MAX_TYPE = 300;

const { exports } = JSON.parse(readFileSync(`${ROOT}package.json`, "utf8"));
const entries = Object.entries(exports).filter(([, target]) => target.types);
const files = entries.map(([, { types }]) => ROOT + types.slice(2));
const program = ts.createProgram(files, {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  skipLibCheck: true,
  types: ["node"],
});
const checker = program.getTypeChecker();
const printer = ts.createPrinter({ removeComments: true });

const resolve = (symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol);
const exportsOf = (file) => checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file)));
const published = new Set(files.flatMap((file) => exportsOf(file).map(resolve)));
/** Types of this package that public signatures name, and no entry point exports. */
const hidden = new Set();

/** Whether an interface gets its members from a table of settings: they are printed instead of how they are computed. */
const isComputed = (node) =>
  ts.isInterfaceDeclaration(node) && node.heritageClauses?.some((clause) => /SettingValues</.test(clause.getText()));

function printMembers(node) {
  const type = checker.getTypeAtLocation(node);
  const members = checker.getPropertiesOfType(type).map((member) => {
    const shown = checker.typeToString(checker.getTypeOfSymbol(member), node, ts.TypeFormatFlags.NoTruncation);
    return `    ${member.name}: ${shown};\n`;
  });
  return `interface ${node.name.text} {\n${members.join("")}}`;
}

function print(node) {
  if (isComputed(node)) return printMembers(node);
  const text = printer.printNode(ts.EmitHint.Unspecified, node, node.getSourceFile());
  if (!ts.isVariableDeclaration(node))
    return text.replace(/^export (declare )?/, "").replaceAll(/^ +private .*\n/gm, "");
  return `const ${text.length > MAX_TYPE ? `${text.slice(0, text.indexOf("<"))}<…>` : text};`;
}

function findHidden(node) {
  if (isComputed(node)) return;
  if (ts.isTypeReferenceNode(node) || ts.isExpressionWithTypeArguments(node)) {
    const symbol = checker.getSymbolAtLocation(node.typeName ?? node.expression);
    const target = symbol && resolve(symbol);
    const own = target?.declarations?.some((declaration) => declaration.getSourceFile().fileName.includes("/dist/"));
    if (own && !(target.flags & ts.SymbolFlags.TypeParameter) && !published.has(target)) hidden.add(target.name);
  }
  ts.forEachChild(node, findHidden);
}

const sections = entries.map(([name], i) => {
  const symbols = exportsOf(files[i]).map((symbol) => [symbol.name, resolve(symbol)]);
  const blocks = symbols
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([, symbol]) => {
      for (const declaration of symbol.declarations) findHidden(declaration);
      return symbol.declarations.map(print).join("\n");
    });
  return [`# ${name}`, ...blocks].join("\n\n");
});
const report = `${sections.join("\n\n")}\n`;

if (hidden.size > 0) {
  console.error(`public signatures name types that no entry point exports: ${[...hidden].toSorted().join(", ")}`);
  process.exitCode = 1;
} else if (!process.argv.includes("--check")) writeFileSync(FILE, report);
else if (readFileSync(FILE, "utf8") !== report) {
  console.error("docs/reference/api.txt is not current: the public API has changed; write it with npm run api");
  process.exitCode = 1;
}
