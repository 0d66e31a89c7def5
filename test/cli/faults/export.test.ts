// A file system that fails at any one call of nfc export.
import { testFaults } from "./trials.ts";

testFaults("export");
