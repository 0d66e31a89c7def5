// The tool's name and version, as they stand in every record and report that it writes.
import { createRequire } from "node:module";

/** package.json lies one folder above this module both in the sources (src/) and in the build (dist/). */
const { version } = createRequire(import.meta.url)("../package.json") as { version: string };

export const TOOL = { name: "nfc", version };

/** How anybody runs nfc: the npm package named nfc is somebody else's. */
export const RUN_NFC = "npx --package noiseformer-compiler nfc";
