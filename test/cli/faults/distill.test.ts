// A file system that fails at any one call of nfc distill.
import { testFaults } from "./trials.ts";

testFaults("distill");
