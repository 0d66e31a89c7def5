"""Makes expected-ids.json: small tokenizers of all kinds, texts, and their ids by Hugging Face's tokenizers (0.23.2).

python test/checkpoint/encoding/make-expected-ids.py
"""
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers import decoders as D
from tokenizers import models as M
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P
from tokenizers import trainers as T

here = os.path.dirname(os.path.abspath(__file__))
rnd = random.Random(1)
words = "the queen of a small town likes her naïve café and two quiet harbours, but she doesn't don't we'll 123 4567 !".split()
lines = [" ".join(rnd.choices(words, k=12)) for _ in range(200)]
base = dict(special_tokens=["<pad>", "<unk>", "</s>"], show_progress=False)
ADDED = [
    AddedToken("<|sys|>", special=True),
    AddedToken("[X]", lstrip=True, rstrip=True, normalized=False),
    AddedToken("word", single_word=True, normalized=False),
    AddedToken("<l>", lstrip=True, normalized=False),
    AddedToken("<|sys|>x", special=True),
]
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make(model, trainer, pre=None, norm=None, dec=None, added=()):
    tokenizer = Tokenizer(model)
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    if norm is not None:
        tokenizer.normalizer = norm
    if dec is not None:
        tokenizer.decoder = dec
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_tokens(list(added))
    return json.loads(tokenizer.to_str())


def bpe(size=150, **more):
    return T.BpeTrainer(vocab_size=size, **base, **more)


bytes_bpe = dict(size=330, initial_alphabet=P.ByteLevel.alphabet())
word_level = T.WordLevelTrainer(vocab_size=60, **base)
word_piece = T.WordPieceTrainer(vocab_size=120, **base)
unigram = T.UnigramTrainer(vocab_size=110, unk_token="<unk>", **base)
gpt2 = P.ByteLevel(add_prefix_space=False)
late_bytes = P.ByteLevel(add_prefix_space=False, use_regex=False)

kinds = {
    "byte-level BPE": make(M.BPE(), bpe(**bytes_bpe), gpt2, dec=D.ByteLevel(), added=ADDED),
    "byte-level BPE with a prefix space": make(M.BPE(), bpe(**bytes_bpe), P.ByteLevel(add_prefix_space=True), dec=D.ByteLevel(), added=ADDED),
    "byte-level BPE without all bytes": make(M.BPE(), bpe(), gpt2, dec=D.ByteLevel()),
    "GPT-4's words": make(M.BPE(ignore_merges=True), bpe(**bytes_bpe), P.Sequence([P.Split(Regex(GPT4), "isolated"), late_bytes]), N.NFC(), D.ByteLevel()),
    "an unknown pattern": make(M.BPE(), bpe(**bytes_bpe), P.Sequence([P.Split(Regex(r"[A-Z]?[a-z]+|\d{2}|\s(?=\s)"), "merged_with_next"), late_bytes]), None, D.ByteLevel()),
    "digits one by one": make(M.BPE(), bpe(**bytes_bpe), P.Sequence([P.Digits(individual_digits=True), gpt2]), N.Lowercase(), D.ByteLevel(), ADDED[:2]),
    "BPE with an unknown token": make(M.BPE(unk_token="<unk>"), bpe(), P.Whitespace()),
    "BPE with fused unknown tokens": make(M.BPE(unk_token="<unk>", fuse_unk=True), bpe(), P.WhitespaceSplit(), N.Sequence([N.NFD(), N.StripAccents()])),
    "BPE with word ends": make(M.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), bpe(end_of_word_suffix="</w>"), P.BertPreTokenizer(), N.Lowercase(), D.BPEDecoder()),
    "BPE with prefixes": make(M.BPE(unk_token="<unk>", continuing_subword_prefix="##"), bpe(continuing_subword_prefix="##"), P.Whitespace()),
    "WordLevel": make(M.WordLevel(unk_token="<unk>"), word_level, P.WhitespaceSplit(), added=ADDED),
    "WordLevel with punctuation": make(M.WordLevel(unk_token="<unk>"), word_level, P.Sequence([P.WhitespaceSplit(), P.Punctuation("contiguous")])),
    "WordLevel split at spaces": make(M.WordLevel(unk_token="<unk>"), word_level, P.Split(" ", "merged_with_previous")),
    "WordPiece": make(M.WordPiece(unk_token="<unk>", max_input_chars_per_word=9), word_piece, P.BertPreTokenizer(), N.BertNormalizer(), D.WordPiece(), ADDED),
    "Unigram": make(M.Unigram(), unigram, P.Metaspace(), N.Nmt(), D.Metaspace(), ADDED),
    "Unigram, a space before the first word": make(M.Unigram(), unigram, P.Metaspace(prepend_scheme="first"), N.Sequence([N.NFKC(), N.Replace(Regex(" {2,}"), " ")]), D.Metaspace()),
    "Unigram over spaces": make(M.Unigram(), unigram, P.Metaspace(split=False), None, D.Metaspace()),
}
llama = make(M.BPE(unk_token="<unk>", fuse_unk=True), bpe(), P.Metaspace())
for byte in range(256):
    llama["model"]["vocab"][f"<0x{byte:02X}>"] = len(llama["model"]["vocab"])
llama["model"]["byte_fallback"] = True
llama["pre_tokenizer"] = None
llama["normalizer"] = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]).__getstate__().decode()
llama["normalizer"] = json.loads(llama["normalizer"])
llama["decoder"] = json.loads(D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)]).__getstate__())
kinds["BPE with bytes for unknown characters"] = llama

odd = "\ufeff|\u0085|\u180e|\u200b|\0|\u001c|\u001f|\u00a0|\u2028|\r\n|\r\n\r\n|  \n|\t|'s|'S|'ll|word|sword|word |<|sys|>|<|sys|>x| [X] |<l>|  <l>|</s>|<unk>|e\u0301|½|Ⅷ|日本語|漢字|😀|\U0001f468\u200d\U0001f469|ﬁ|Σ|ας|İ|!!|...|▁|Ġ|12345|\ufffd|Ｔ|x" .replace("<|sys|>", "<\x01sys\x01>").split("|")
odd = [part.replace("\x01", "|") for part in odd]


def make_text():
    return "".join(
        rnd.choice(odd) if rnd.random() < 0.4 else rnd.choice(words) + rnd.choice([" ", " ", "\n", "", "\r\n", ", "])
        for _ in range(rnd.randint(1, 14))
    )


fixed = ["", " ", "the queen likes a café 😀 and the zebra\n", "\ufeffthe\u0085queen \ufeff a\u0085 \u0085b", "one\r\n\r\ntwo  \r\n three", "<|sys|>the <|sys|>x"]
result = []
for name, definition in kinds.items():
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    rows = []
    for text in fixed + [make_text() for _ in range(14)]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        rows.append([text, ids, tokenizer.decode(ids, skip_special_tokens=False)])
    result.append({"name": name, "tokenizer": definition, "rows": rows})
with open(os.path.join(here, "expected-ids.json"), "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(entry, ensure_ascii=True, separators=(",", ":")) for entry in result) + "\n]\n")
