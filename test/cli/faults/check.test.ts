// A file system that fails at any one call of nfc check.
import { testFaults } from "./trials.ts";

testFaults("check");
