"""Checks `nfc export --hf` and assets/modeling_nfc_gpt2.py with PyTorch and transformers; see docs/huggingface.md.

    python scripts/check-hf.py [--shared ../shared] [--model FOLDER] [--nfc "node bin/nfc.js"]

Golden models of all variants and forms: logits, sampled logits and gradients against the reference implementation; logits
against the ONNX export, with every trap of config.json; the initial form A of a pairwise model. MODEL, with a tokenizer:
generation and padding. check-distill.py checks the training. Needs torch, transformers, onnxruntime.
"""
import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

HERE = Path(__file__).parent
VARIANTS = ["dense", "symmetric", "noise-shared", "noise-per-head", "noise-distance"]
# Heads with widths of their own, and A: numbers of another program, in test/golden.
FORMS = ["pairwise", "low-rank", "low-rank-layers", "symmetric-vo"]
TRAPS = {
    "unscaled": {"scale_attn_weights": False},
    "inverse layer": {"scale_attn_by_inverse_layer_idx": True},
    "exact gelu": {"activation_function": "gelu"},
    "relu and epsilon": {"activation_function": "relu", "layer_norm_epsilon": 1e-3},
}
PROMPTS = ["The history of the city", "In 1990", "It was"]


def check(name, value, limit):
    print(f"{'ok  ' if value <= limit else 'FAIL'} {name}: {value:.3g} (limit {limit:.3g})", flush=True)
    check.failed |= not value <= limit


check.failed = False


def nfc(command, *arguments):
    run = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"nfc {' '.join(map(str, arguments))}: {run.stderr}")
    return run.stdout


def load(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options).eval()


def worst(a, b):
    return float((torch.as_tensor(a) - torch.as_tensor(b)).detach().abs().max())


def golden_folder(golden, name, folder, changes):
    """A compact checkpoint as nfc writes it, and the reference's numbers."""
    folder.mkdir(parents=True)
    numbers = load_file(golden / f"{name}.safetensors")
    reference = json.loads((golden / f"{name}.json").read_text())
    sizes = {key: reference["config"][key] for key in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")}
    no_dropout = {"attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0}
    form = {} if name == "dense" else {"nfc_variant": reference.get("variant", name), **reference.get("keys", {})}
    config = {"model_type": "gpt2", "activation_function": "gelu_new", **sizes, **no_dropout, **form, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    parameters = {name[6:]: value for name, value in numbers.items() if name.startswith("param.")}
    save_file(parameters, folder / "model.safetensors", {"format": "pt"})
    return numbers


def onnx_logits(path, ids, config):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    B, T = ids.shape
    empty = np.zeros((B, config.n_head, 0, config.n_embd // config.n_head), np.float32)
    feeds = {name.name: empty for name in session.get_inputs() if name.name.startswith("past_key_values")}
    feeds |= {"input_ids": ids.numpy(), "attention_mask": np.ones((B, T), np.int64)}
    return session.run(["logits"], feeds | {"position_ids": np.tile(np.arange(T), (B, 1))})[0]


def check_golden(command, golden, names, work):
    for variant in names:
        source, folder = work / f"{variant}-source", work / f"{variant}-hf"
        numbers = golden_folder(golden, variant, source, {})
        nfc(command, "export", source, "--hf", "-o", folder)
        ids = numbers["ids"].long()
        for attention in ("sdpa", "eager"):
            model = load(folder, attn_implementation=attention)
            check(f"{variant}, {attention}: logits", worst(model(ids).logits, numbers["mean_logits"]), 1e-5)
        if variant == "pairwise":
            fresh = type(model)(model.config).transformer.h[0].attn.pair
            check("pairwise: A of a new model, from the identity", worst(fresh, torch.eye(fresh.shape[1])), 0)
        if variant != "dense":
            check_gradients(variant, folder, numbers, json.loads((golden / f"{variant}.json").read_text()))
        for trap, changes in TRAPS.items():
            changed = work / f"{variant}-{trap}".replace(" ", "-")
            golden_folder(golden, variant, changed, changes)
            nfc(command, "export", changed, "--hf", "-o", f"{changed}-hf")
            nfc(command, "export", changed, "--onnx", "-o", f"{changed}-onnx")
            model = load(f"{changed}-hf")
            onnx = onnx_logits(f"{changed}-onnx/onnx/model.onnx", ids, model.config)
            check(f"{variant}, {trap}: logits against the ONNX export", worst(model(ids).logits, onnx), 2e-5)


def check_gradients(variant, folder, numbers, reference):
    """One training step's loss and gradients with the reference's draws of the noise."""
    model, ids, hyper = load(folder).train(), numbers["ids"].long(), reference["hyper"]
    draws = [numbers[f"eps.{layer}"] for layer in range(model.config.n_layer) if f"eps.{layer}" in numbers]
    with mock.patch("torch.randn", lambda *shape, **_: draws.pop(0).view(shape)):
        logits = model(ids, use_cache=False).logits
    check(f"{variant}: sampled logits", worst(logits, numbers["sample_logits"]), 1e-5)
    t, V = hyper["temperature"], model.config.vocab_size
    nll = F.cross_entropy(logits[:, :-1].reshape(-1, V), ids[:, 1:].flatten())
    at = lambda z: F.log_softmax(z / t, -1).view(-1, V)
    kl = F.kl_div(at(logits), at(numbers["teacher_logits"]), log_target=True, reduction="batchmean") * t * t
    loss = (1 - hyper["kd"]) * nll + hyper["kd"] * kl + hyper["kl"] * model.noise_kl()
    loss.backward()
    check(f"{variant}: loss", abs(loss.item() - reference["losses"][0]["loss"]), 1e-5)
    errors = []
    for name, parameter in model.named_parameters():
        gradient = numbers[f"grad.{name.removeprefix('transformer.')}"]
        errors.append(worst(parameter.grad, gradient) / max(float(gradient.abs().max()), 1e-6))
    check(f"{variant}: gradients, relative", max(errors), 1e-4)


def check_generation(folder):
    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    greedy = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": tokenizer.eos_token_id}
    generate = lambda model, texts, **more: model.generate(
        **tokenizer(texts, return_tensors="pt", padding=True), **greedy, **more
    )[:, -40:].tolist()
    single = [generate(model, [text])[0] for text in PROMPTS]
    different = lambda other: sum(a != b for a, b in zip(single, other))
    check("greedy text without a cache, prompts that differ", different(
        [generate(model, [text], use_cache=False)[0] for text in PROMPTS]), 0)
    check("with a static cache", different(
        [generate(model, [text], cache_implementation="static")[0] for text in PROMPTS]), 0)
    check("as one left-padded batch", different(generate(model, PROMPTS)), 0)
    check("as one left-padded batch, eager", different(generate(load(folder, attn_implementation="eager"), PROMPTS)), 0)
    for dtype in (torch.bfloat16, torch.float16):
        logits = load(folder, dtype=dtype)(**tokenizer(PROMPTS, return_tensors="pt", padding=True)).logits
        check(f"{dtype}: logits not finite", int((~logits.isfinite()).sum()), 0)
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    gradients = []
    for checkpointing in (False, True):
        model = load(folder).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        model(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append(model.transformer.h[0].attn.c_attn.weight.grad)
    check("gradient checkpointing: gradients", worst(*gradients), 1e-6)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, default=HERE / "../../shared")
    parser.add_argument("--model", type=Path, help="(default: converts fixtures/tiny-gpt2)")
    parser.add_argument("--text", type=Path, default=HERE / "../fixtures/text.txt")
    parser.add_argument("--nfc", default=f"node {HERE / '../bin/nfc.js'}")
    flags = parser.parse_args()
    command = shlex.split(flags.nfc)
    logging.disable_progress_bar()
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    work = Path(tempfile.mkdtemp(prefix="check-hf-"))
    try:
        check_golden(command, HERE / "../test/golden", FORMS, work)
        if flags.shared.exists():
            check_golden(command, flags.shared / "golden", VARIANTS, work)
        else:
            print("skipped: the golden models, no", flags.shared)
        models = [flags.model] if flags.model else []
        for variant, more in [] if flags.model else [("noise-distance", []), ("low-rank", ["--qk-rank", 2])]:
            models.append(work / variant)
            arguments = ["--calibration", flags.text, "--variant", variant, *more]
            nfc(command, "convert", HERE / "../fixtures/tiny-gpt2", *arguments, "-o", models[-1])
        for model in models:
            print(f"generation of {model.name}")
            folder = work / f"{model.name}-hf"
            nfc(command, "export", model, "--hf", "-o", folder)
            check_generation(folder)
    finally:
        shutil.rmtree(work)
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
