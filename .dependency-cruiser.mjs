// The layers of src/, top first. A file imports its own folder and layers below its own; folders of one layer are
// neighbors that do not know each other. Type imports count. `npm run check` holds the tree to it.
const LAYERS = [
  ["cli"],
  ["tasks"],
  ["convert", "distill", "export", "check", "serve"],
  ["report"],
  ["inference"],
  ["checkpoint"],
  ["model"],
  ["graph"],
  ["formats"],
  ["numeric", "io"],
];
/** Modules beside the layers that any of them may use. */
const COMMON = "^src/(errors|progress|version)\\.ts$";
/** Entry points of the package: they may import every layer, and nothing imports them. */
const ENTRIES = "^src/(schemas|((check|report|tasks)/)?index)\\.ts$";

const below = (level) => LAYERS.slice(level + 1).flat();
const layerRules = LAYERS.flatMap((folders, level) =>
  folders.map((folder) => ({
    name: `layer-${folder}`,
    comment: `src/${folder} imports itself and what lies below it`,
    severity: "error",
    from: { path: `^src/${folder}/` },
    to: { path: "^src/", pathNot: [`^src/(${[folder, ...below(level)].join("|")})/`, COMMON] },
  })),
);

export default {
  forbidden: [
    ...layerRules,
    { name: "no-circle", severity: "error", from: { path: "^src/" }, to: { circular: true } },
    { name: "entries-on-top", severity: "error", from: { path: "^src/" }, to: { path: ENTRIES } },
    { name: "unresolved", severity: "error", from: {}, to: { couldNotResolve: true, pathNot: "^onnxruntime-node$" } },
    {
      name: "known-folders",
      comment: "a new folder of src/ belongs into LAYERS",
      severity: "error",
      from: { path: "^src/", pathNot: [`^src/(${LAYERS.flat().join("|")})/`, COMMON, ENTRIES] },
      to: {},
    },
    {
      name: "one-door-to-onnx-runtime",
      comment: "src/graph/runtime.ts alone loads ONNX Runtime; session.ts knows its types",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/graph/(session|runtime)\\.ts$" },
      to: { path: "onnxruntime-node" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "require", "node", "default", "types"],
    },
  },
};
