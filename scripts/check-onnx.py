"""Checks exported files in Python's ONNX Runtime: the perplexity of each against what nfc eval says of it.

    python scripts/check-onnx.py FOLDER TEXT [--nfc "node bin/nfc.js"]

Windows of n_positions that do not overlap, one at a time. Needs numpy, onnxruntime, tokenizers.
"""
import argparse
import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

LIMIT = 0.002  # relative: int8 rounds by the largest activation of a batch, and nfc's batches have several windows


def perplexity(file, config, windows):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    past = [i for i in session.get_inputs() if i.name.startswith("past_key_values")]
    dtype = np.float16 if past[0].type == "tensor(float16)" else np.float32
    empty = np.zeros((1, config["n_head"], 0, config["n_embd"] // config["n_head"]), dtype)
    total = count = 0
    for ids in windows:
        feeds = {i.name: empty for i in past} | {"input_ids": ids[None], "attention_mask": np.ones_like(ids)[None]}
        logits = session.run(["logits"], feeds | {"position_ids": np.arange(ids.size)[None]})[0][0, :-1].astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        total -= log_p[np.arange(ids.size - 1), ids[1:]].sum()
        count += ids.size - 1
    return math.exp(total / count), count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--nfc", default=f"node {Path(__file__).parent / '../bin/nfc.js'}")
    flags = parser.parse_args()
    command = [*shlex.split(flags.nfc), "eval", flags.folder, "--text", flags.text, "--json", "--no-record", "--quiet"]
    scores = json.loads(subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout)
    config = json.loads((flags.folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(flags.folder / "tokenizer.json"))
    ids = np.array(tokenizer.encode(flags.text.read_text()).ids)
    windows = [w for w in np.split(ids, range(config["n_positions"], ids.size, config["n_positions"])) if w.size > 1]
    failed = False
    for score in scores["precisions"]:
        python, count = perplexity(str(flags.folder / score["file"]), config, windows)
        off = abs(python / score["perplexity"] - 1)
        failed |= off > LIMIT or count != score["tokens"]
        print(f"{score['precision']:6} Python {python:.4f}  nfc {score['perplexity']:.4f}  off by {off:.1e}  {count} tokens")
    sys.exit(failed)


if __name__ == "__main__":
    main()
