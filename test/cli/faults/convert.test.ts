// A file system that fails at any one call of nfc convert.
import { testFaults } from "./trials.ts";

testFaults("convert");
