// Marks tests that take long: `npm test` leaves them out, `npm run test:slow` runs them alone, and `.ci/run` runs all.

/** The options of such a test, or of all tests of a `describe`. What it holds has to have a quicker test as well. */
export const SLOW = { tags: ["slow"] };

/** The options of one of several tests that are alike, of which `npm test` runs those that are `kept`. */
export const slowUnless = (kept: boolean): Partial<typeof SLOW> => (kept ? {} : SLOW);
