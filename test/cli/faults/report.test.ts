// A file system that fails at any one call of nfc report.
import { testFaults } from "./trials.ts";

testFaults("report");
