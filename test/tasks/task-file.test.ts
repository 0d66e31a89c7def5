// GLUE's files with their quirks, and lines that do not parse.
import { mkdirSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { findTask, TASKS } from "../../src/tasks/glue-tasks.ts";
import { readTaskFile } from "../../src/tasks/task-file.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("tasks");
let count = 0;

async function read(task: string, content: string) {
  const folder = path(String(count++));
  mkdirSync(folder);
  writeFileSync(`${folder}/dev.tsv`, content);
  return readTaskFile(folder, "dev.tsv", findTask(task), undefined);
}

describe("files in GLUE's format", () => {
  it.each<[string, string, { texts: string[]; label: number }[]]>([
    [
      "cola",
      'gj04\t1\t\tThe "quoted one sleeps.\ngj04\t0\t*\tSleeps the.\n',
      [
        { texts: ['The "quoted one sleeps.'], label: 1 },
        { texts: ["Sleeps the."], label: 0 },
      ],
    ],
    ["sst2", "sentence\tlabel\r\na fine film \t1\r\n", [{ texts: ["a fine film "], label: 1 }]],
    [
      "mrpc",
      '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t12\t13\tHe said " no .\t" No , " he said .',
      [{ texts: ['He said " no .', '" No , " he said .'], label: 1 }],
    ],
    ["rte", "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tnot_entailment\n", [{ texts: ["A.", "B."], label: 1 }]],
    [
      "qnli",
      "index\tquestion\tsentence\tlabel\n0\tWhat?\tThat.\tentailment\n",
      [{ texts: ["What?", "That."], label: 0 }],
    ],
    [
      "qqp",
      "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n3\t1\t2\tHow?\tWhy?\t0\n",
      [{ texts: ["How?", "Why?"], label: 0 }],
    ],
    [
      "stsb",
      "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n0\tm\tf\t2\t1\ta\tb\tA.\tB.\t2.750\n",
      [{ texts: ["A.", "B."], label: 2.75 }],
    ],
    [
      "mnli",
      "index\tpromptID\tpairID\tgenre\ts1_bp\ts2_bp\ts1_p\ts2_p\tsentence1\tsentence2\tlabel1\tgold_label\n0\t1\t1\tg\t(\t(\t(\t(\tA.\tB.\tneutral\tcontradiction\n",
      [{ texts: ["A.", "B."], label: 2 }],
    ],
    ["wnli", "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\t1\n", [{ texts: ["A.", "B."], label: 1 }]],
  ])("a file of %s is read into texts and labels", async (task, content, examples) => {
    expect((await read(task, content)).examples).toEqual(examples);
  });

  it("every task has its labels in the order of Hugging Face's datasets, and a metric", () => {
    expect(TASKS.map(({ name, classes, metrics: [metric] }) => [name, metric, ...classes].join(" "))).toEqual([
      "mrpc accuracy not_equivalent equivalent",
      "cola matthews unacceptable acceptable",
      "mnli accuracy entailment neutral contradiction",
      "qqp accuracy not_duplicate duplicate",
      "rte accuracy entailment not_entailment",
      "qnli accuracy entailment not_entailment",
      "sst2 accuracy negative positive",
      "stsb pearson",
      "wnli accuracy not_entailment entailment",
    ]);
    expect(findTask("SST-2").name).toBe("sst2");
  });

  it("the hash of a file is the same for the same content and differs with a label", async () => {
    const hash = async (label: number) => (await read("sst2", `sentence\tlabel\nx\t${label}\n`)).sha256;
    expect(await hash(1)).toBe(await hash(1));
    expect(await hash(1)).not.toBe(await hash(0));
  });
});

describe("files that do not parse", () => {
  it.each([
    ["a missing column", "sst2", "sentence\tlabel\nfine\t1\nno label\n", "line 3: 1 columns, not 2"],
    ["a tab in the text", "sst2", "sentence\tlabel\nfi\tne\t1\n", "line 2: 3 columns, not 2"],
    ["a label that is none", "sst2", "sentence\tlabel\nfine\t2\n", 'line 2: the label "2" is none'],
    [
      "MNLI's missing gold label",
      "mnli",
      "sentence1\tsentence2\tgold_label\nA\tB\t-\n",
      'line 2: the label "-" is none',
    ],
    ["a number that is none", "stsb", "sentence1\tsentence2\tscore\nA\tB\tx\n", 'line 2: the label "x" is none'],
    [
      "a test file",
      "rte",
      "index\tsentence1\tsentence2\n0\tA\tB\n",
      'no column "label" (a test file? they have no labels)',
    ],
    ["a header of another task", "qnli", "sentence\tlabel\nfine\t1\n", 'no column "question"'],
    ["a file without examples", "sst2", "sentence\tlabel\n", "has no examples"],
    ["an empty file", "cola", "", "has no examples"],
  ])("a task file is refused with its fault: %s", async (_, task, content, fact) => {
    const error = await failureOf(() => read(task, content));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain(fact);
    expect(error.message).toContain("dev.tsv");
    expect(error.hint).toBeTruthy();
  });

  it("invalid lines are left out and reported where that is asked for, unless most are invalid", async () => {
    mkdirSync(path("qqp"));
    const good = "1\t2\t3\tHow?\tWhy?\t0\n";
    const header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n";
    const reading = (lines: string, onInvalid?: (file: string, numbers: readonly number[]) => void) => {
      writeFileSync(path("qqp/train.tsv"), `${header}${lines}`);
      return readTaskFile(path("qqp"), "train.tsv", findTask("qqp"), onInvalid ? { onInvalid } : {});
    };
    const torn = `${good}"\tWhat?\t0\n${good}1\t2\t3\tHow?\tWhy?\tmaybe\n${good}`;
    expect((await failureOf(() => reading(torn))).message).toContain("line 3: 3 columns, not 6");
    const told: unknown[] = [];
    const { examples, sha256 } = await reading(torn, (...one) => told.push(one));
    expect(examples).toHaveLength(3);
    expect(told).toEqual([[path("qqp/train.tsv"), [3, 5]]]);
    expect(sha256).toBe((await reading(good.repeat(3))).sha256);
    await reading(good, (...one) => told.push(one));
    expect(told).toHaveLength(1);
    expect((await reading(`x\ny\n${good.repeat(3)}`, () => {})).examples).toHaveLength(3);
    for (const lines of ["x\n".repeat(9), "x\n".repeat(500)])
      expect((await failureOf(() => reading(lines, () => {}))).message).toContain("line 2: 1 columns, not 6");
  });

  it("a file that is not UTF-8, a missing file and an unknown task are refused", async () => {
    mkdirSync(path("latin"));
    writeFileSync(path("latin/dev.tsv"), Buffer.from("sentence\tlabel\ncaf\xe9\t1\n", "latin1"));
    const reading = () => readTaskFile(path("latin"), "dev.tsv", findTask("sst2"));
    expect((await failureOf(reading)).message).toContain("not UTF-8");
    expect((await failureOf(() => readTaskFile(path("nowhere"), "dev.tsv", findTask("sst2")))).code).toBe("not-found");
    expect((await failureOf(async () => findTask("glue"))).hint).toContain("mrpc, cola");
  });
});
