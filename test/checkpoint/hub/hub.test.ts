// hf:// sources against a local server: download, cache, offline use, tokens, and one-line errors.
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import { fetchFromHub, isHubReference, parseHubReference } from "../../../src/checkpoint/hub/hub.ts";
import type { ErrorCode } from "../../../src/errors.ts";
import type { ProgressEvent } from "../../../src/progress.ts";
import { failureOf } from "../../support/failure.ts";
import { type FakeHub, type FakeHubOptions, json, startFakeHub } from "../../support/fake-hub.ts";
import { tinyHfConfig, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("hub");
const NAME = "someone/tiny-gpt";
const SOURCE = `hf://${NAME}`;
let hub: FakeHub | undefined;
let cache: string;
let count = 0;

/** The files of a folder, as the server has them. */
const filesOf = (folder: string) =>
  Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(`${folder}/${name}`)] as const));

async function serve(options: Partial<FakeHubOptions> = {}): Promise<FakeHub> {
  const folder = await writeCheckpoint(path(`repository${count++}`));
  for (const extra of ["README.md", "pytorch_model.bin", "tokenizer.json", "vocab.json"])
    writeFileSync(`${folder}/${extra}`, extra);
  hub = await startFakeHub({ name: NAME, files: filesOf(folder), ...options });
  vi.stubEnv("HF_ENDPOINT", hub.url);
  return hub;
}

/** Every request gets this answer. */
function always(answer: (response: ServerResponse) => void): NonNullable<FakeHubOptions["intercept"]> {
  return (_, response) => {
    answer(response);
    return true;
  };
}

/** The same address with nobody listening. */
async function stopServing(): Promise<void> {
  await hub?.close();
  hub = undefined;
}

beforeEach(() => {
  cache = path(`cache${count++}`);
  for (const name of ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"]) vi.stubEnv(name, "");
  vi.stubEnv("HF_HOME", path("home"));
  vi.stubEnv("HF_HUB_CACHE", cache);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  await stopServing();
});

const root = () => `${cache}/models--someone--tiny-gpt`;
const snapshot = (commit = "c".repeat(40)) => `${root()}/snapshots/${commit}`;
const downloads = (server: FakeHub) =>
  new Set(server.requests.filter((line) => line.includes("/resolve/")).map((line) => line.split("/").at(-1)));

describe("references to the Hub", () => {
  it.each([
    ["hf://openai-community/gpt2", "openai-community/gpt2", "main"],
    ["hf://a/b.c_d-e@v1.0", "a/b.c_d-e", "v1.0"],
    ["hf://a/b@refs/pr/1", "a/b", "refs/pr/1"],
  ])("the Hub reference %s is read", (source, name, revision) => {
    expect(parseHubReference(source)).toEqual({ name, revision });
  });

  it.each([
    "hf://gpt2",
    "hf://",
    "hf://a/b/c",
    "hf://a/b@",
    "hf://../b",
    "hf://a/b@../../x",
    "hf://a/b@x//y",
    "hf://a b/c",
    "hf://a/..",
  ])("the Hub reference %s is refused", async (source) => {
    const error = await failureOf(() => parseHubReference(source));
    expect(error.code).toBe("usage");
    expect(error.message).toBe(`${source}: is not hf://owner/name or hf://owner/name@revision`);
  });

  it("isHubReference tells hf:// from paths", () => {
    expect(["hf://a/b", "a/b", "./hf:/a"].map(isHubReference)).toEqual([true, false, false]);
  });
});

describe("downloads from the Hub", () => {
  it("a downloaded model opens from the cache of all Hugging Face tools", async () => {
    await serve();
    const checkpoint = await openCheckpoint(SOURCE);
    expect(checkpoint.source).toBe(SOURCE);
    expect(checkpoint.folder).toBe(snapshot());
    expect(checkpoint.rawConfig).toEqual(tinyHfConfig());
    expect(await checkpoint.readF32("ln_f.weight")).toHaveLength(8);
    expect(checkpoint.notes).toEqual([]);
    await checkpoint.close();
    expect(readFileSync(`${root()}/refs/main`, "utf8")).toBe(hub?.commit);
    expect(lstatSync(`${snapshot()}/model.safetensors`).isSymbolicLink()).toBe(true);
    expect(readdirSync(`${root()}/blobs`).some((name) => name.endsWith(".incomplete"))).toBe(false);
  });

  it("a download fetches what nfc uses and nothing else", async () => {
    const server = await serve();
    await fetchFromHub(SOURCE);
    expect([...downloads(server)].sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json", "vocab.json"]);
  });

  it("a download fetches the tokenizer's files of every kind", async () => {
    const files = filesOf(await writeCheckpoint(path("sentencepiece")));
    const names = ["spiece.model", "vocab.txt", "chat_template.jinja", "some.tiktoken"];
    const others = ["modeling_x.py", "tokenizer.pkl", "spiece.vocab"];
    for (const name of [...names, ...others]) files[name] = Buffer.from(name);
    const server = await serve({ files });
    await fetchFromHub(SOURCE);
    expect([...downloads(server)].sort()).toEqual(["config.json", "model.safetensors", ...names].sort());
  });

  it("a download is not repeated for the same commit", async () => {
    const server = await serve();
    await fetchFromHub(SOURCE);
    server.requests.length = 0;
    await fetchFromHub(SOURCE);
    expect(downloads(server).size).toBe(0);
  });

  it("a download takes the blobs that another commit left", async () => {
    await serve();
    await fetchFromHub(SOURCE);
    const files = filesOf(snapshot());
    await stopServing();
    const server = await serve({ files: { ...files, "config.json": Buffer.from("{}") }, commit: "d".repeat(40) });
    await fetchFromHub(SOURCE);
    expect(existsSync(`${snapshot(server.commit)}/model.safetensors`)).toBe(true);
    expect([...downloads(server)]).toContain("config.json");
    const bodies = server.requests.filter((line) => line.endsWith("model.safetensors"));
    expect(bodies.length).toBeLessThan(2);
  });

  it("a download takes a named revision", async () => {
    const server = await serve({ revisions: ["v1.0", "refs/pr/1"] });
    await fetchFromHub(`${SOURCE}@v1.0`);
    await fetchFromHub(`${SOURCE}@refs/pr/1`);
    expect(readFileSync(`${root()}/refs/v1.0`, "utf8")).toBe(server.commit);
    expect(readFileSync(`${root()}/refs/refs/pr/1`, "utf8")).toBe(server.commit);
    expect((await fetchFromHub(`${SOURCE}@${server.commit}`)).folder).toBe(snapshot());
  });

  it("a download of shards fetches the index and the shards that it names", async () => {
    const files = filesOf(await writeCheckpoint(path("shards"), { shards: 2 }));
    const server = await serve({ files: { ...files, "model-00009-of-00009.safetensors": Buffer.from("unused") } });
    const checkpoint = await openCheckpoint(SOURCE);
    expect(checkpoint.tensors.size).toBe(28);
    await checkpoint.close();
    expect(downloads(server)).not.toContain("model-00009-of-00009.safetensors");
  });

  it("a download reports its bytes up to the total", async () => {
    const server = await serve();
    const seen: ProgressEvent[] = [];
    await fetchFromHub(SOURCE, { onProgress: (progress) => seen.push(progress) });
    expect(seen.at(-1)).toMatchObject({ phase: "downloading", unit: "bytes", detail: "model.safetensors" });
    expect(seen.at(-1)?.done).toBe(seen.at(-1)?.total);
    expect(seen.map(({ done }) => done)).toEqual(seen.map(({ done }) => done).sort((a, b) => a - b));
    expect(server.requests.length).toBeGreaterThan(0);
  });

  it("a download prints nothing", async () => {
    await serve();
    const spies = (["log", "debug", "info", "warn", "error"] as const).map((name) =>
      vi.spyOn(console, name).mockReturnValue(),
    );
    await fetchFromHub(SOURCE);
    for (const spy of spies) expect(spy).not.toHaveBeenCalled();
  });

  it("a download follows HF_HOME when HF_HUB_CACHE is not set", async () => {
    await serve();
    delete process.env.HF_HUB_CACHE;
    delete process.env.HUGGINGFACE_HUB_CACHE;
    expect((await fetchFromHub(SOURCE)).folder).toBe(
      path("home", "hub", "models--someone--tiny-gpt", "snapshots", "c".repeat(40)),
    );
  });

  it("an interrupted download is reported as such and leaves no half file", async () => {
    await serve();
    const stop = new AbortController();
    const error = await failureOf(() => fetchFromHub(SOURCE, { signal: stop.signal, onProgress: () => stop.abort() }));
    expect(error.code).toBe("aborted");
    expect(existsSync(`${snapshot()}/model.safetensors`)).toBe(false);
    expect(readdirSync(`${root()}/blobs`).some((name) => name.endsWith(".incomplete"))).toBe(false);
  });
});

describe("tokens for the Hub", () => {
  it("the token in HF_TOKEN is sent", async () => {
    await serve({ token: "hf_secret" });
    vi.stubEnv("HF_TOKEN", "hf_secret");
    expect((await fetchFromHub(SOURCE)).folder).toBe(snapshot());
  });

  it("the token of `hf auth login` is sent", async () => {
    await serve({ token: "hf_file" });
    mkdirSync(path("home"), { recursive: true });
    writeFileSync(path("home", "token"), "hf_file\n");
    expect((await fetchFromHub(SOURCE)).folder).toBe(snapshot());
    rmSync(path("home", "token"));
  });
});

describe("working offline", () => {
  it("a complete cached snapshot is used offline without asking anybody", async () => {
    const server = await serve();
    await fetchFromHub(SOURCE);
    server.requests.length = 0;
    expect(await fetchFromHub(SOURCE, { offline: true })).toEqual({ folder: snapshot(), notes: [] });
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect(await fetchFromHub(SOURCE)).toEqual({ folder: snapshot(), notes: [] });
    expect((await fetchFromHub(`${SOURCE}@${server.commit}`)).folder).toBe(snapshot());
    expect(server.requests).toEqual([]);
  });

  it.each([
    ["nothing is cached", () => {}],
    ["the weights are missing", () => rmSync(`${snapshot()}/model.safetensors`)],
    ["a link leads nowhere", () => rmSync(`${root()}/blobs`, { recursive: true })],
    ["the revision is not a commit", () => writeFileSync(`${root()}/refs/main`, "../../x")],
  ])("the cache is not complete offline when %s", async (what, spoil) => {
    await serve();
    if (what !== "nothing is cached") await fetchFromHub(SOURCE);
    spoil();
    const error = await failureOf(() => fetchFromHub(SOURCE, { offline: true }));
    expect(error.code).toBe("not-found");
    expect(error.message).toBe(`${SOURCE}: not complete in the cache (${root()}), and offline`);
  });

  it("the cache is not complete offline when one shard is missing", async () => {
    await serve({ files: filesOf(await writeCheckpoint(path("shards2"), { shards: 2 })) });
    await fetchFromHub(SOURCE);
    expect((await fetchFromHub(SOURCE, { offline: true })).folder).toBe(snapshot());
    rmSync(`${snapshot()}/model-00002-of-00002.safetensors`);
    expect((await failureOf(() => fetchFromHub(SOURCE, { offline: true }))).code).toBe("not-found");
  });

  it("an unreachable Hub leads to the cached snapshot with a note", async () => {
    await serve();
    await fetchFromHub(SOURCE);
    await stopServing();
    expect(await fetchFromHub(SOURCE)).toEqual({
      folder: snapshot(),
      notes: [`${SOURCE}: the Hub cannot be reached; the cached snapshot is used`],
    });
  });

  it("a failing Hub leads to the cached snapshot as well", async () => {
    await serve();
    await fetchFromHub(SOURCE);
    await stopServing();
    await serve({ intercept: always((response) => json(response, 503, {})) });
    expect((await fetchFromHub(SOURCE)).notes).toHaveLength(1);
  });
});

interface Failure {
  what: string;
  /** Makes the Hub, or the settings, that the download fails with. */
  arrange: () => unknown;
  source?: string;
  code: ErrorCode;
  /** <endpoint> stands for the address of the Hub. */
  sentence: string;
  /** A part of the hint. */
  hint?: string;
}

const answering = (status: number, body: unknown = { error: "two\nlines" }) =>
  serve({ intercept: always((response) => json(response, status, body)) });

const FAILURES: Failure[] = [
  {
    what: "a connection that fails",
    arrange: async () => {
      await serve();
      await stopServing();
    },
    code: "network",
    sentence: `${SOURCE}: <endpoint> cannot be reached (ECONNREFUSED)`,
  },
  {
    what: "an HF_ENDPOINT that is not a URL",
    arrange: () => vi.stubEnv("HF_ENDPOINT", "not a url"),
    code: "usage",
    sentence: "HF_ENDPOINT: not a url is not a URL",
  },
  {
    what: "an HF_TOKEN that is no token",
    arrange: async () => {
      await serve();
      vi.stubEnv("HF_TOKEN", "my-password");
    },
    code: "usage",
    sentence: 'HF_TOKEN: a Hugging Face access token starts with "hf_"',
  },
  {
    what: "a missing token",
    arrange: () => serve({ token: "hf_secret" }),
    code: "network",
    sentence: `${SOURCE}: the Hub wants a valid token (401)`,
    hint: "HF_TOKEN",
  },
  {
    what: "the status 403",
    arrange: () => answering(403),
    code: "network",
    sentence: `${SOURCE}: the Hub denies access (403)`,
    hint: "terms",
  },
  {
    what: "the status 404",
    arrange: () => answering(404),
    code: "not-found",
    sentence: `${SOURCE}: no such model or revision main (404)`,
    hint: "check",
  },
  {
    what: "the status 429",
    arrange: () => answering(429),
    code: "network",
    sentence: `${SOURCE}: the Hub answers with status 429`,
    hint: "later",
  },
  {
    what: "the status 500",
    arrange: () => answering(500),
    code: "network",
    sentence: `${SOURCE}: the Hub answers with status 500`,
    hint: "later",
  },
  {
    what: "an unknown revision",
    arrange: () => serve(),
    source: `${SOURCE}@nope`,
    code: "not-found",
    sentence: `${SOURCE}@nope: no such model or revision nope (404)`,
  },
  {
    what: "an answer without a commit",
    arrange: () => answering(200, { id: NAME, sha: "../../etc" }),
    code: "network",
    sentence: `${SOURCE}: the Hub named no commit for main`,
  },
  {
    what: "a file without a usable hash",
    arrange: () =>
      serve({
        intercept: ({ url }, response) => {
          if (!url?.includes("/tree/")) return false;
          json(response, 200, [{ type: "file", path: "model.safetensors", size: 1, oid: "../../../evil" }]);
          return true;
        },
      }),
    code: "network",
    sentence: "model.safetensors: the Hub sent no usable hash of it",
  },
  {
    what: "a repository without weights",
    arrange: () => serve({ files: { "README.md": Buffer.from("x"), "../../evil.safetensors": Buffer.from("x") } }),
    code: "not-found",
    sentence: `${SOURCE}: holds no safetensors checkpoint`,
  },
  {
    what: "a repository with several checkpoints",
    arrange: () => serve({ files: { "a.safetensors": Buffer.from("x"), "b.safetensors": Buffer.from("x") } }),
    code: "usage",
    sentence: `${SOURCE}: holds several checkpoints: a.safetensors, b.safetensors`,
  },
];

describe("failures of the Hub", () => {
  it.each(FAILURES)("$what is reported on one line", async ({ arrange, source = SOURCE, code, sentence, hint }) => {
    await arrange();
    const error = await failureOf(() => fetchFromHub(source));
    expect(error.code).toBe(code);
    expect(error.message).toBe(sentence.replace("<endpoint>", String(process.env.HF_ENDPOINT)));
    if (hint !== undefined) expect(error.hint).toContain(hint);
  });

  it("an answer that is not the API's is reported", async () => {
    await serve({ intercept: always((response) => response.end("<html>\n</html>")) });
    const error = await failureOf(() => fetchFromHub(SOURCE));
    expect(error.message).toContain("does not answer like a Hugging Face Hub");
    expect(error.hint).toBe("check HF_ENDPOINT");
  });

  it("a body that ends early leaves nothing behind", async () => {
    await serve({
      intercept: ({ url, headers }, response) => {
        if (!url?.endsWith("model.safetensors") || headers.range !== undefined) return false;
        response.writeHead(200, { "content-length": 1000 });
        response.write("short", () => response.destroy());
        return true;
      },
    });
    const error = await failureOf(() => fetchFromHub(SOURCE));
    expect(error.code).toBe("network");
    expect(existsSync(`${snapshot()}/model.safetensors`)).toBe(false);
    expect(readdirSync(`${root()}/blobs`).some((name) => name.endsWith(".incomplete"))).toBe(false);
  });

  it.each(["model.safetensors", "config.json"])("a wrong hash of %s is reported, and nothing is kept", async (name) => {
    await serve({
      intercept: ({ url, headers }, response) => {
        if (!url?.endsWith(name) || headers.range !== undefined) return false;
        response.end("something else");
        return true;
      },
    });
    const error = await failureOf(() => fetchFromHub(SOURCE));
    expect(error.code).toBe("network");
    expect(error.message).toContain(`${name}: arrived damaged`);
    expect(existsSync(`${snapshot()}/${name}`)).toBe(false);
  });

  it("a cache that cannot be written is named by its place", async () => {
    await serve();
    writeFileSync(path("occupied"), "");
    vi.stubEnv("HF_HUB_CACHE", path("occupied", "cache"));
    const error = await failureOf(() => fetchFromHub(SOURCE));
    expect(error.message).toContain(path("occupied", "cache"));
    expect(error.message).toContain("a part of this path is a file");
  });

  it("a repository with only a pickle is refused with the recipe", async () => {
    await serve({ files: { "config.json": Buffer.from("{}"), "pytorch_model.bin": Buffer.from("PK") } });
    const error = await failureOf(() => fetchFromHub(SOURCE));
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain("holds only PyTorch pickles (pytorch_model.bin)");
    expect(error.hint).toContain("weights_only=True");
  });
});
