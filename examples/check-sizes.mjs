// Holds the models of nfc.size.json against their limits, as nfc check does.
import { checkSizes } from "noiseformer-compiler";

const { passed, models } = await checkSizes({ folder: "." });
for (const { name, size, failures } of models) console.log(name, size, failures);
if (!passed) process.exitCode = 1;
