// nfc check: exit codes, text, JSON, Markdown, annotations and the baseline, as CI sees them.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { nfc } from "../support/cli.ts";
import { converted, MODEL } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("check-cli");
const repo = path("repo");
const home = process.cwd();
const DENSE = `${MODEL}/model.safetensors`;

beforeAll(() => converted({ output: path("tied"), variant: "symmetric" }));
beforeEach(() => {
  process.chdir(home);
  rmSync(repo, { recursive: true, force: true });
  mkdirSync(`${repo}/models`, { recursive: true });
  cpSync(path("tied/model.safetensors"), `${repo}/models/tied.safetensors`);
  configure({ name: "tied", path: "models/tied.safetensors", limit: "1 MB", maxGrowth: "1 %" });
  process.chdir(repo);
});
afterAll(() => process.chdir(home));

const configure = (...models: object[]) => writeFileSync(`${repo}/nfc.size.json`, JSON.stringify({ models }));
const grow = () => cpSync(DENSE, `${repo}/models/tied.safetensors`);

describe("nfc check from the first baseline on", () => {
  it("a model that grew over its baseline fails until the baseline is updated", async () => {
    const first = await nfc(["check", "--update-baseline"]);
    expect({ code: first.code, stderr: first.stderr }).toEqual({ code: 0, stderr: "" });
    expect(first.stdout).toMatch(/^tied +\S+ kB +1\.0 MB +120,448 +ok$/m);
    expect(first.stdout).toContain("nfc.baseline.json: written");
    expect((await nfc(["check"])).code).toBe(0);
    grow();
    const { code, stdout, stderr } = await nfc(["check"]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^tied +517\.\d kB +1\.0 MB +\S+ kB +\+33\.3 kB \(\+6\.\d\d %\) +128,768 +FAILED$/m);
    expect(stdout).toContain("tied: K is back in c_attn");
    expect(stdout).toContain("what grew: attention q, k, v +33.3 kB");
    expect(stderr).toBe(
      "nfc: not as it should be: tied; see above; where the growth is right: nfc check --update-baseline\n",
    );
    expect((await nfc(["check", "--update-baseline"])).code).toBe(0);
    expect((await nfc(["check"])).code).toBe(0);
  });
});

describe("exit codes of nfc check", () => {
  it("nfc check exits with 0 for success, 1 for growth or a missing file, 2 for wrong usage, 3 for an unreadable file", async () => {
    expect((await nfc(["check"])).code).toBe(0);
    configure({ path: "models/tied.safetensors", limit: "1 kB" });
    expect((await nfc(["check"])).code).toBe(1);
    configure({ path: "models/*.onnx" });
    expect((await nfc(["check"])).code).toBe(1);
    expect((await nfc(["check", "--config", "nowhere.json"])).code).toBe(2);
    expect((await nfc(["check", "--limit", "3"])).code).toBe(2);
    writeFileSync("nfc.baseline.json", "{}");
    configure({ path: "models/tied.safetensors" });
    expect((await nfc(["check"])).stderr).toMatch(
      /^nfc: nfc\.baseline\.json: format: .*; restore it from version control/,
    );
    rmSync("nfc.baseline.json");
    writeFileSync("models/tied.safetensors", "junk");
    const { code, stderr, stdout } = await nfc(["check"]);
    expect({ code, stderr }).toEqual({ code: 3, stderr: "nfc: cannot be read: models/tied.safetensors; see above\n" });
    expect(stdout).toContain("unreadable");
  });

  it("nfc check without a configuration exits with 2, and shows an example", async () => {
    rmSync("nfc.size.json");
    const { code, stderr } = await nfc(["check"]);
    expect(code).toBe(2);
    expect(stderr).toContain('write one, for example { "models": [{ "path":');
  });
});

describe("nfc check for machines", () => {
  it("--json prints size-limit's array alone on stdout, on failure as well", async () => {
    configure({ name: "tied", path: "models/tied.safetensors", limit: 1000 }, { name: "gone", path: "gone.onnx" });
    const { code, stdout } = await nfc(["check", "--json"]);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject([
      { name: "tied", passed: false, size: expect.any(Number), sizeLimit: 1000 },
      { name: "gone", passed: false, size: null },
    ]);
  });

  it("only tables and baselines that nfc wrote are replaced", async () => {
    writeFileSync("notes.md", "mine");
    const weights = readFileSync("models/tied.safetensors");
    for (const flags of [
      ["--markdown", "notes.md"],
      ["--markdown", "models/tied.safetensors"],
      ["--markdown", "nfc.size.json"],
      ["--update-baseline", "--baseline", "models/tied.safetensors"],
      ["--update-baseline", "--baseline", "notes.md"],
    ]) {
      const { code, stderr } = await nfc(["check", ...flags]);
      expect({ code, stderr }).toEqual({
        code: 2,
        stderr: expect.stringMatching(/: is there, and is not a (table of nfc check|baseline); /),
      });
    }
    expect(readFileSync("notes.md", "utf8")).toBe("mine");
    expect(readFileSync("models/tied.safetensors").equals(weights)).toBe(true);
    for (let again = 0; again < 2; again++) {
      expect((await nfc(["check", "--markdown", "sizes.md"])).code).toBe(0);
      expect((await nfc(["check", "--update-baseline", "--baseline", "other.json"])).code).toBe(0);
    }
  });

  it("a damaged nfc.json fails only the model with a budget, and a file that is no model is unreadable", async () => {
    mkdirSync("models/bad");
    cpSync(path("tied/model.safetensors"), "models/bad/model.safetensors");
    writeFileSync("models/bad/nfc.json", "[]");
    writeFileSync("README.md", "a text");
    configure(
      { path: "models/bad", maxPerplexity: 3 },
      { path: "models/tied.safetensors", limit: 1 },
      { path: "README.md" },
    );
    const { code, stdout, stderr } = await nfc(["check"]);
    expect(code).toBe(3);
    expect(stdout).toMatch(/^ +models\/bad: .*nfc\.json: content: /m);
    expect(stdout).toMatch(/^ +models\/tied\.safetensors: .* over the limit of 1 B$/m);
    expect(stdout).toContain("README.md: is no model");
    expect(stderr).toBe("nfc: cannot be read: models/bad, README.md; see above\n");
  });

  it("a summary that cannot be written is an error in one line, after the result", async () => {
    const { code, stdout, stderr } = await nfc(["check"], { env: { GITHUB_STEP_SUMMARY: path("no/such/summary.md") } });
    expect(code).toBe(2);
    expect(stdout).toMatch(/^tied .* ok$/m);
    expect(stderr).toMatch(/^nfc: .*summary\.md: no such file[^\n]*\n$/);
  });

  it("Markdown with its marker goes to the file and to GitHub's summary, and faults become annotations", async () => {
    configure({ name: "a|b,c:d", path: "models/tied.safetensors", limit: 1000 });
    const env = { GITHUB_ACTIONS: "true", GITHUB_STEP_SUMMARY: path("summary.md") };
    const { code, stderr } = await nfc(["check", "--markdown", "sizes.md", "--key", "my models"], { env });
    expect(code).toBe(1);
    const markdown = readFileSync("sizes.md", "utf8");
    expect(markdown.split("\n")[0]).toBe("<!-- nfc-size:my_models -->");
    expect(markdown).toContain("| model | size | limit |");
    expect(markdown).not.toContain("| `a|b");
    expect(readFileSync(path("summary.md"), "utf8")).toBe(markdown);
    expect(stderr).toMatch(
      /^::error file=nfc\.size\.json,title=a\|b%2Cc%3Ad::\S+ kB is .* over the limit of 1\.0 kB$/m,
    );
  });

  it("a baseline is updated in CI with --force only", async () => {
    const env = { CI: "true" };
    const { code, stderr } = await nfc(["check", "--update-baseline"], { env });
    expect(code).toBe(2);
    expect(stderr).toContain("--update-baseline in CI would accept whatever has grown");
    expect(existsSync("nfc.baseline.json")).toBe(false);
    expect((await nfc(["check", "--update-baseline", "--force"], { env })).code).toBe(0);
    expect(existsSync("nfc.baseline.json")).toBe(true);
  });

  it("--require-baseline fails where there is no baseline", async () => {
    const { code, stdout } = await nfc(["check", "--require-baseline"]);
    expect(code).toBe(1);
    expect(stdout).toContain("the baseline does not know this model");
  });
});
