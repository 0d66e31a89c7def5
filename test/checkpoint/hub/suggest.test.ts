// What a name that is no file suggests: hf:// for names and addresses of the Hub, nothing for plain paths.
import { describe, expect, it } from "vitest";
import { suggestHub } from "../../../src/checkpoint/hub/suggest.ts";
import { resolveLocal } from "../../../src/checkpoint/source.ts";
import { failureOf } from "../../support/failure.ts";

describe("names of the Hub", () => {
  it.each([
    ["gpt2", "hf://openai-community/gpt2"],
    ["gpt2-xl", "hf://openai-community/gpt2-xl"],
    ["distilgpt2", "hf://distilbert/distilgpt2"],
    ["gpt2@v1", "hf://openai-community/gpt2@v1"],
    ["https://huggingface.co/owner/name", "hf://owner/name"],
    ["https://huggingface.co/owner/name/", "hf://owner/name"],
    ["https://huggingface.co/owner/name/tree/main", "hf://owner/name"],
    ["https://huggingface.co/owner/name/tree/v1.0", "hf://owner/name@v1.0"],
    ["https://huggingface.co/owner/name/tree/refs/pr/7", "hf://owner/name@refs/pr/7"],
    ["https://huggingface.co/owner/name/blob/main/model.safetensors", "hf://owner/name"],
    ["https://huggingface.co/owner/name/blob/abc/model.safetensors", "hf://owner/name@abc"],
    ["https://huggingface.co/owner/name/resolve/abc/model.safetensors?download=true", "hf://owner/name@abc"],
    ["http://hf.co/owner/name#files", "hf://owner/name"],
    ["huggingface.co/owner/name", "hf://owner/name"],
    ["https://huggingface.co/gpt2", "hf://openai-community/gpt2"],
    ["https://huggingface.co/gpt2/tree/main", "hf://openai-community/gpt2"],
    ["https://huggingface.co/gpt2/resolve/rev/model.safetensors", "hf://openai-community/gpt2@rev"],
  ])("%s suggests %s", async (source, name) => {
    const error = await failureOf(() => resolveLocal(source));
    expect(error.code).toBe("not-found");
    expect(error.message).toBe(`${source}: no such file or folder`);
    expect(error.hint).toBe(`for a model of the Hugging Face Hub write ${name}`);
  });

  it.each([
    ["openai-community/gpt2", "hf://openai-community/gpt2"],
    ["owner/name@rev", "hf://owner/name@rev"],
    ["out/model", "hf://out/model"],
  ])("%s may be a wrong path as well", (source, name) => {
    expect(suggestHub(source)).toBe(`check the path, or for a model of the Hugging Face Hub write ${name}`);
  });

  it.each([
    ["https://huggingface.co/datasets/owner/name", "this is no model's address: give hf://owner/name of a model"],
    ["https://huggingface.co/owner", "give hf://owner/name of a model"],
    ["https://example.org/model.safetensors", "download it first: files, folders and hf://owner/name are read"],
  ])("%s is no model of the Hub", (source, advice) => {
    expect(suggestHub(source)).toBe(advice);
  });

  it.each(["model.safetensors", "my-model", "a/b/c", "test/absent", "../x/y", "constructor"])(
    "%s suggests nothing",
    (source) => {
      expect(suggestHub(source)).toBeNull();
    },
  );
});
