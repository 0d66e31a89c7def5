// The recording of phases: nested ones count once, those side by side each, and files count for the phase that uses them.
import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { writeChunks } from "../../src/io/durable.ts";
import { sha256File } from "../../src/io/sha256.ts";
import { countRead, REST, readTimings, recordTimings, type Timings, timePhase } from "../../src/io/timings.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const temporary = temporaryFolder("timings");

const find = ({ phases }: Timings, name: string) => phases.find(({ phase }) => phase === name);
const sum = ({ phases }: Timings) => phases.reduce((total, { seconds }) => total + seconds, 0);
/** Timers may fire a little early. */
const SLACK = 0.005;

async function record(action: () => Promise<unknown>): Promise<Timings> {
  const { result, read } = recordTimings(action);
  await result;
  return read();
}

describe("recordTimings", () => {
  it("phases that follow one another or lie in one another add up to the total", async () => {
    const timings = await record(async () => {
      await sleep(10);
      await timePhase("outer", async () => {
        await sleep(20);
        await timePhase("inner", () => sleep(60));
      });
      await timePhase("inner", () => sleep(20));
    });
    expect(timings.phases.map(({ phase }) => phase)).toEqual(["outer", "inner", REST]);
    expect(find(timings, "inner")?.seconds).toBeGreaterThan(0.08 - SLACK);
    expect(find(timings, "outer")?.seconds).toBeLessThan(timings.seconds - 0.08);
    expect(sum(timings)).toBeCloseTo(timings.seconds, 2);
  });

  it("phases side by side count each their own time, and those of one name once", async () => {
    const timings = await record(() =>
      Promise.all([timePhase("a", () => sleep(50)), timePhase("a", () => sleep(50)), timePhase("b", () => sleep(50))]),
    );
    const [a, b] = [find(timings, "a")?.seconds ?? 0, find(timings, "b")?.seconds ?? 0];
    expect(a).toBeGreaterThan(0.05 - SLACK);
    expect(b).toBeGreaterThan(0.05 - SLACK);
    expect(Math.max(a, b)).toBeLessThanOrEqual(timings.seconds);
    expect(find(timings, REST)?.seconds).toBeLessThan(0.05);
  });

  it("bytes of files count for the phase that reads or writes them", async () => {
    await writeFile(temporary("a.bin"), new Uint8Array(2000));
    const timings = await record(async () => {
      await timePhase("hashing", () => sha256File(temporary("a.bin")));
      await timePhase("writing", () => writeChunks(temporary("b.bin"), streamTwice(new Uint8Array(300))));
      countRead(7);
    });
    expect(find(timings, "hashing")).toMatchObject({ read: 2000, written: 0 });
    expect(find(timings, "writing")).toMatchObject({ read: 0, written: 600 });
    expect(find(timings, REST)).toMatchObject({ read: 7, written: 0 });
  });

  it("a phase that fails, at once or later, ends", async () => {
    const timings = await record(async () => {
      expect(() => timePhase("at once", () => refuse())).toThrow("refused");
      await expect(timePhase("later", () => sleep(5).then(refuse))).rejects.toThrow("refused");
      await sleep(50);
    });
    expect(find(timings, "at once")?.seconds).toBeLessThan(0.05);
    expect(find(timings, "later")?.seconds).toBeLessThan(0.05);
    expect(find(timings, REST)?.seconds).toBeGreaterThan(0.05 - SLACK);
  });

  it("outside of a recording nothing is kept, and inside another it is the same one", async () => {
    expect(timePhase("alone", () => 5)).toBe(5);
    expect(readTimings()).toBeNull();
    const timings = await record(async () => {
      const inner = await record(() => timePhase("inner", async () => {}));
      expect(find(inner, "inner")).toBeDefined();
    });
    expect(find(timings, "inner")).toBeDefined();
  });
});

function refuse(): never {
  throw new Error("refused");
}

async function* streamTwice(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
  yield bytes;
}
