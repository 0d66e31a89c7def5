// Plans of the fixture: what is measured, kept and taken over, and what an interrupted one leaves.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { type Plan, readPlan } from "../../../src/convert/plan/plan-file.ts";
import { type PlanOptions, planModel } from "../../../src/convert/plan/plan-model.ts";
import { converted, MODEL, opened, TEXT } from "../../support/fixture.ts";
import { poison } from "../../support/poison.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("plan-model");
let count = 0;

const AXES: PlanOptions["axes"] = [
  {
    name: "tie",
    listValues: () => [1],
    whole: () => 2,
    grain: 1,
    cut: (options) => ({ ...options, variant: "symmetric" }),
  },
];

function plan(options: Partial<PlanOptions> = {}): Promise<Plan> {
  const defaults = { calibration: [TEXT] as [string], calibrationTokens: 512, heldOutTokens: 1024, threads: 1 };
  return opened(MODEL, (checkpoint) =>
    planModel(checkpoint, { file: path(`plan-${count++}.json`), axes: AXES, ...defaults, ...options }),
  );
}

describe("planModel", () => {
  it("measures the source and the axes on windows between those of the calibration text", async () => {
    const file = path("whole.json");
    const made = await plan({ file });
    expect(made).toEqual(await readPlan(file));
    expect(made).toMatchObject({ complete: true, calibration: { every: 3, tokens: 512, length: 64 } });
    expect(made.heldOut).toMatchObject({ every: 3, tokens: 1024, length: 64, sha256: made.calibration.sha256 });
    const [source, tied] = made.measurements;
    expect(source).toMatchObject({ cuts: {}, parameters: 128_768, error: 0, kl: 0 });
    expect(tied).toMatchObject({ cuts: { tie: 1 }, parameters: 128_768 - 8_320 });
    expect(tied?.kl).toBeGreaterThan(4 * (tied?.klError as number));
    expect(tied?.error).toBeGreaterThan(0);
    expect(made.steps).toEqual([{ axis: "tie", value: 1, measurement: 1 }]);
  });
});

describe("an existing plan file", () => {
  it("its measurements are taken over: only what is missing is measured", async () => {
    const file = path("again.json");
    const first = await plan({ file });
    const seen: string[] = [];
    const second = await plan({ file, onProgress: ({ phase }) => seen.push(phase) });
    expect(second).toEqual(first);
    expect(seen).not.toContain("measuring");
    writeFileSync(
      file,
      JSON.stringify({ ...first, measurements: first.measurements.slice(0, 1), steps: [], complete: false }),
    );
    const third = await plan({
      file,
      onProgress: ({ phase, detail }) => phase === "measuring" && seen.push(detail ?? ""),
    });
    expect(seen.filter((detail) => /source|tie/.test(detail))).toEqual(["tie 1"]);
    expect(third.measurements[0]).toEqual(first.measurements[0]);
    expect({ ...third.measurements[1], seconds: 0 }).toEqual({ ...first.measurements[1], seconds: 0 });
  });

  it("an interrupted plan keeps what it has measured, and the next one goes on", async () => {
    const file = path("interrupted.json");
    const abort = new AbortController();
    const onProgress: PlanOptions["onProgress"] = ({ phase, detail }) => {
      if (phase === "measuring" && detail?.startsWith("tie")) abort.abort();
    };
    await expect(plan({ file, signal: abort.signal, onProgress })).rejects.toMatchObject({
      code: "aborted",
      message: `interrupted; 1 measurement is kept in ${file}`,
    });
    expect(await readPlan(file)).toMatchObject({ complete: false, measurements: [{ cuts: {} }], steps: [] });
    expect(await plan({ file })).toMatchObject({ complete: true, steps: [{ axis: "tie" }] });
  });

  it.each(["text", "settings"])("the plan of another %s is kept unless it may be replaced", async (kind) => {
    const file = path(`other-${kind}.json`);
    await plan({ file });
    const before = readFileSync(file, "utf8");
    const text = path("other.txt");
    writeFileSync(text, readFileSync(TEXT, "utf8").slice(100));
    const other: Partial<PlanOptions> = kind === "text" ? { calibration: [text] } : { heldOutTokens: 2048 };
    await expect(plan({ file, ...other })).rejects.toMatchObject({ code: "exists" });
    expect(readFileSync(file, "utf8")).toBe(before);
    expect(await plan({ file, ...other, force: true })).toMatchObject({ complete: true });
  });

  it.each(["{}", "no JSON", '{"format":"nfc-plan/1"}'])(
    "a file that is no plan (%s) is never replaced",
    async (content) => {
      const file = path(`foreign-${count++}.json`);
      writeFileSync(file, content);
      await expect(plan({ file, force: true })).rejects.toMatchObject({ code: "exists" });
      expect(readFileSync(file, "utf8")).toBe(content);
    },
  );
});

describe("a plan that contradicts itself is refused", () => {
  it.each([
    [
      "steps[0]: its measurement is of a model with another cut",
      { steps: [{ axis: "mlp", value: 1, measurement: 1 }] },
    ],
    [
      "steps[0]: its measurement is of a model with another cut",
      { steps: [{ axis: "tie", value: 2, measurement: 1 }] },
    ],
    ["steps[0]: its measurement is missing", { steps: [{ axis: "tie", value: 1, measurement: 2 }] }],
    ["measurements: the first is not of the source", { measurements: [], steps: [] }],
  ])("%s", async (fact, change) => {
    const file = path(`contradiction-${count++}.json`);
    writeFileSync(file, JSON.stringify({ ...(await plan({ file })), ...change }));
    await expect(readPlan(file)).rejects.toMatchObject({ code: "invalid-file", message: `${file}: ${fact}` });
  });
});

describe("the texts of a plan", () => {
  it("a short text is divided, a third to fit cuts to and the rest to measure on", async () => {
    const made = await plan({ calibrationTokens: 8192, heldOutTokens: 16384 });
    const [fitted, measured] = [made.calibration.tokens, made.heldOut.tokens];
    expect(measured / fitted).toBeGreaterThan(1.8);
    expect(measured / fitted).toBeLessThan(2.1);
  });

  it("a held-out text of its own is measured from its beginning", async () => {
    const own = path("own.txt");
    writeFileSync(own, readFileSync(TEXT, "utf8").slice(-4000));
    const made = await plan({ heldOut: [own] });
    expect(made.heldOut).toMatchObject({ files: [own], every: 1, tokens: 1024 });
    expect(made.heldOut.sha256).not.toBe(made.calibration.sha256);
  });

  it("a text too short for both is refused with what is enough", async () => {
    const text = path("two.txt");
    writeFileSync(text, "ab");
    await expect(plan({ calibration: [text] })).rejects.toMatchObject({ code: "invalid-file" });
  });
});

it("the plan of a damaged model is refused, and no file is left that could not be read", async () => {
  const [folder, file] = [path("damaged"), path("damaged.json")];
  await cp(MODEL, folder, { recursive: true });
  await poison(folder, "h.1.mlp.c_fc.weight");
  const refused = opened(folder, (checkpoint) =>
    planModel(checkpoint, { file, axes: AXES, calibration: [TEXT], calibrationTokens: 512, heldOutTokens: 512 }),
  );
  await expect(refused).rejects.toMatchObject({ code: "invalid-file", hint: "the checkpoint is damaged" });
  expect(existsSync(file)).toBe(false);
});

it("a plan of ranks that are no whole numbers is refused", async () => {
  const file = path("parts.json");
  const made = await plan({ file });
  const measurements = [made.measurements[0], { ...made.measurements[1], cuts: { mlp: 8.5 } }];
  writeFileSync(file, JSON.stringify({ ...made, measurements }));
  await expect(readPlan(file)).rejects.toMatchObject({ code: "invalid-file" });
});

it("a tied model is refused", async () => {
  const folder = path("tied");
  await converted({ output: folder });
  const refused = opened(folder, (checkpoint) =>
    planModel(checkpoint, { file: path("tied.json"), calibration: [TEXT] }),
  );
  await expect(refused).rejects.toMatchObject({ code: "unsupported" });
});
