"""Fine-tunes a dense GPT-2 on SST-2 with PyTorch and the settings of nfc finetune --task: docs/glue.md compares the two.

    python scripts/check-glue.py MODEL SST-2-FOLDER [--epochs 1] [--lr 3e-4] [--seed 0]

Batches of 32 in order of a shuffle, sorted by length within pools of 50; AdamW (0.9, 0.98, 1e-6), decay 0.01 on matrices,
clipping at 1, linear warmup over 6 %, then half a cosine; no dropout; evaluation every 500 steps, the best is kept.
Needs torch, transformers.
"""
import argparse
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

BATCH, POOL, LENGTH, EVAL_EVERY = 32, 50, 128, 500


def read(path, tokenizer):
    lines = path.read_text(encoding="utf8").split("\n")[1:]
    rows = [line.split("\t") for line in lines if line]
    ids = tokenizer([text for text, _ in rows])["input_ids"]
    return [(row[:LENGTH], int(label)) for row, (_, label) in zip(ids, rows)]


def batches(examples, rng=None):
    order = list(range(len(examples)))
    size = len(order)
    if rng:
        rng.shuffle(order)
        size = POOL * BATCH
    groups = []
    for start in range(0, len(order), size):
        pool = sorted(order[start : start + size], key=lambda i: len(examples[i][0]))
        groups += [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
    if rng:
        rng.shuffle(groups)
    for group in groups:
        rows = [examples[i] for i in group]
        longest = max(len(ids) for ids, _ in rows)
        yield (
            torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows]),
            torch.tensor([len(ids) - 1 for ids, _ in rows]),
            torch.tensor([label for _, label in rows]),
        )


def logits_of(model, ids, last):
    hidden = model.transformer(ids).last_hidden_state
    return model.score(hidden[torch.arange(len(ids)), last])


@torch.no_grad()
def accuracy(model, examples):
    right = sum(int((logits_of(model, ids, last).argmax(-1) == labels).sum()) for ids, last, labels in batches(examples))
    return right / len(examples)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    torch.manual_seed(flags.seed)
    rng = random.Random(flags.seed)
    tokenizer = AutoTokenizer.from_pretrained(flags.model)
    config = AutoConfig.from_pretrained(flags.model, num_labels=2, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0)
    model = AutoModelForSequenceClassification.from_pretrained(flags.model, config=config)
    train, dev = read(flags.data / "train.tsv", tokenizer), read(flags.data / "dev.tsv", tokenizer)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0}]
    optimiser = torch.optim.AdamW(groups, lr=flags.lr, betas=(0.9, 0.98), eps=1e-6)
    steps = flags.epochs * math.ceil(len(train) / BATCH)
    warmup = round(0.06 * steps)
    step, best, started = 0, 0, time.time()
    for _ in range(flags.epochs):
        for ids, last, labels in batches(train, rng):
            progress = min(1, (step - warmup) / max(1, steps - 1 - warmup))
            rate = (step + 1) / warmup if step < warmup else (1 + math.cos(math.pi * progress)) / 2
            for group in optimiser.param_groups:
                group["lr"] = flags.lr * rate
            optimiser.zero_grad()
            F.cross_entropy(logits_of(model, ids, last), labels).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
            optimiser.step()
            step += 1
            if step % EVAL_EVERY == 0 or step == steps:
                found = accuracy(model, dev)
                best = max(best, found)
                print(f"step {step} of {steps}: accuracy {found:.4f}, best {best:.4f}, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
