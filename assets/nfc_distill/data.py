"""What distill.py reads: its settings (distill.json), a text's tokens, and the windows of each step.

Windows are those that `nfc distill` takes for the same seed, in the same order: losses can be compared step by step.
"""
import hashlib
import json
import math
import os
import sys
from types import SimpleNamespace

import numpy as np
from tokenizers import Tokenizer

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
FORMAT = "nfc-distill/1"
AGAIN = "correct it, or write it again with `nfc export --hf`"

is_whole = lambda value: isinstance(value, int) and not isinstance(value, bool)
is_number = lambda value: is_whole(value) or (isinstance(value, float) and math.isfinite(value))
KINDS = {
    "a whole number from 2": lambda value: is_whole(value) and value >= 2,
    "a whole number from 1": lambda value: is_whole(value) and value >= 1,
    "a whole number from 0": lambda value: is_whole(value) and value >= 0,
    "a number above 0": lambda value: is_number(value) and value > 0,
    "a number from 0": lambda value: is_number(value) and value >= 0,
    "a number from 0 to 1": lambda value: is_number(value) and 0 <= value <= 1,
    "a number from 0, below 1": lambda value: is_number(value) and 0 <= value < 1,
    "probabilities, outputs or hidden": lambda value: value in ("probabilities", "outputs", "hidden"),
    "all, attention or noise": lambda value: value in ("all", "attention", "noise"),
    "sample or mean": lambda value: value in ("sample", "mean"),
}
SETTINGS = {
    **dict.fromkeys(("length", "evalTokens"), "a whole number from 2"),
    **dict.fromkeys(("steps", "batchSize", "accumulate", "evalEvery"), "a whole number from 1"),
    **dict.fromkeys(("seed", "warmup", "transferSteps"), "a whole number from 0"),
    **dict.fromkeys(("lr", "noiseLr", "epsilon", "temperature", "transferLr", "transferNoiseLr"), "a number above 0"),
    **dict.fromkeys(("decay", "clip", "noiseKl"), "a number from 0"),
    **dict.fromkeys(("floor", "kd", "average"), "a number from 0 to 1"),
    **dict.fromkeys(("beta1", "beta2"), "a number from 0, below 1"),
    "transfer": "probabilities, outputs or hidden",
    "train": "all, attention or noise",
    "noise": "sample or mean",
}


def refuse(fact, hint):
    """Ends every process; one of them says why."""
    if RANK == 0:
        print(f"distill.py: {fact}\n  {hint}", file=sys.stderr)
    sys.exit(2)


def read_json(path, hint):
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        refuse(f"{path}: cannot be read as JSON ({error})", hint)


def hash_files(paths):
    """sha256 over the contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        except OSError as error:
            refuse(f"{path}: cannot be read ({error.strerror})", "check the path")
    return digest.hexdigest()


def read_settings(path):
    """(settings, the teacher's layer of each layer or None, the teacher's tokens that were kept or None)"""
    found = read_json(path, "name the file with --settings, or write it again with `nfc export --hf`")
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        refuse(f"{path}: is no file of the format {FORMAT}", AGAIN)
    values, layers, tokens = found.get("settings"), found.get("layers"), found.get("tokens")
    if not isinstance(values, dict):
        refuse(f"{path}: has no settings", AGAIN)
    for name, kind in SETTINGS.items():
        if not KINDS[kind](values.get(name)):
            refuse(f"{path}: {name} is {json.dumps(values.get(name))}, expected: {kind}", AGAIN)
    for name in values.keys() - SETTINGS.keys():
        refuse(f"{path}: has a setting {json.dumps(name)}, which there is not", "leave it out")
    listed = isinstance(layers, list) and layers and all(map(KINDS["a whole number from 0"], layers))
    if layers is not None and not listed:
        refuse(f"{path}: layers is {json.dumps(layers)}, expected: the teacher's layer of each layer, or null", AGAIN)
    settings = SimpleNamespace(**values)
    if settings.transferSteps > settings.steps:
        refuse(f"{path}: {settings.transferSteps} transferSteps of {settings.steps} steps", "lower the first")
    if settings.transferSteps and settings.train == "noise":
        refuse(f"{path}: the transfer moves more than the noise", 'set transferSteps to 0, or take train "attention"')
    return settings, layers, None if tokens is None else list_ranges(tokens, path)


def list_ranges(text, path):
    """The numbers of "0-256,258"."""
    try:
        ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
        return [number for first, *last in ends for number in range(first, (last or [first])[0] + 1)]
    except (AttributeError, ValueError):
        refuse(f"{path}: tokens is {json.dumps(text)[:60]}, expected: ranges of the teacher's tokens, or null", AGAIN)


def mix(x):
    """MurmurHash3's last step: a bijection of 32 bits."""
    x ^= x >> 16
    x = x * 0x85EBCA6B & 0xFFFFFFFF
    x ^= x >> 13
    x = x * 0xC2B2AE35 & 0xFFFFFFFF
    return x ^ x >> 16


def mix_all(values):
    """32 bits from whole numbers."""
    state = 0
    for value in values:
        low = mix((state + 0x9E3779B9 ^ value) & 0xFFFFFFFF)
        state = mix((low + 0x9E3779B9 ^ value >> 32) & 0xFFFFFFFF)
    return state


def permute(index, size, key):
    """The image of index under a permutation of 0 ... size - 1: a Feistel network, again until it falls inside."""
    half = 1
    while half * half < size:
        half *= 2
    rounds = [mix_all([number, *key]) for number in range(8)]
    while True:
        left, right = divmod(index, half)
        for bits in rounds:
            left, right = right, left ^ mix(right ^ bits) % half
        index = left * half + right
        if index < size:
            return index


class Windows:
    """Windows of a row of ids, which overlap by one token: the last of each is a label alone."""

    def __init__(self, ids, length, seed):
        self.ids, self.length, self.seed, self.count = ids, length, seed, (len(ids) - 1) // length
        if self.count < 1:
            refuse(f"the text has {len(ids)} tokens to train on, a window needs {length + 1}", "give a longer text")

    def read(self, position):
        """Window number `position` of the endless sequence of epochs, each in an order of its own: [length + 1]"""
        epoch, index = divmod(position, self.count)
        start = permute(index, self.count, [self.seed, epoch]) * self.length
        return self.ids[start : start + self.length + 1].astype(np.int64)


def hold_out(ids, length):
    """The corpus without its end, and that: 2 % of the tokens, two windows at least, at most 65,536 tokens."""
    split = len(ids) - max(min(len(ids) // 50, 65536), 2 * (length + 1))
    if split <= length:
        refuse(f"the text has {len(ids)} tokens, {3 * (length + 1)} are needed", "give a longer text, or lower length")
    return ids[:split], ids[split:]


def has_ids(path):
    return path.suffix in (".bin", ".npy")


def map_ids(path, vocabulary):
    """Token ids where they lie, as nfc reads them: .npy, shards of llm.c, or plain little-endian uint16 or uint32."""
    try:
        if path.suffix == ".npy":
            ids = np.load(path, mmap_mode="r", allow_pickle=False).reshape(-1)
        else:
            head = np.fromfile(path, "<u4", 16384)
            width = {20240520: "<u2", 20240801: "<u4"}.get(int(head[0]) if len(head) else 0)
            plain = "<u4" if len(head) >= 16 and head.any() and (head < vocabulary).all() else "<u2"
            ids = np.memmap(path, width or plain, "r", 1024 if width else 0)
    except (OSError, ValueError) as error:
        refuse(f"{path}: cannot be read as token ids ({error})", "save them with numpy.save as uint16, or give text")
    if ids.dtype.kind not in "iu":
        refuse(f"{path}: holds {ids.dtype}, no token ids", "save them with numpy.save as uint16")
    for start in range(0, len(ids), 1 << 24):
        if not (ids[start : start + (1 << 24)].astype(np.int64).view(np.uint64) < vocabulary).all():
            refuse(f"{path}: has ids that are none of the model's {vocabulary} tokens", "use the model's own tokenizer")
    return ids


def read_documents(path, field):
    """The text of a file, or that in a field of each of its lines of JSON."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix not in (".jsonl", ".ndjson"):
            return [text]
        records = [json.loads(line) for line in text.split("\n") if line.strip()]
        return [record if isinstance(record, str) else str(record[field]) for record in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fact = f"cannot be read as text ({type(error).__name__}: {error})"
        refuse(f"{path}: {fact}", "give UTF-8 text, JSON lines with --field, or token ids")


def tokenize(paths, folder, field):
    """The ids of texts joined by a blank line, with the folder's tokenizer.json; no token is added."""
    file = folder / "tokenizer.json"
    if not file.exists():
        refuse(f"{file}: is not there, and text needs it", "give token ids: .bin or .npy")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    text = "\n\n".join(document for path in paths for document in read_documents(path, field))
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids, "<u4")
