"""Distils the model in this folder from its teacher on one or many devices, as `nfc distill` does on one machine.

  python distill.py --teacher TEACHER --data TEXT --output FOLDER
  torchrun --nproc_per_node 8 distill.py --teacher TEACHER --data TEXT --output FOLDER [--fsdp] [--bf16]
  accelerate launch distill.py ...          (its use_fsdp and its mixed precision bf16 are followed)

Settings are those of distill.json beside this file, which `nfc export --hf` wrote. A step has batchSize * accumulate
windows of `length` tokens, however many processes share them; one takes at most batchSize of them at once. The loss:

  (1 - kd) NLL + kd T^2 KL(teacher || student) + noiseKl KL(N(mu, sigma^2) || N(0, 1))

The first transferSteps steps learn layer by layer what `transfer` says. While it runs, FOLDER.run holds the state
beside the output. The weights that were best on held-out text become the output, which nfc and transformers read.
"""
import argparse
import math
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

sys.dont_write_bytecode = True  # this folder is a model, and stays one
from nfc_distill.data import RANK, WORLD, Windows, has_ids, hold_out, map_ids, mix_all, read_settings, refuse
from nfc_distill.losses import Learner, explain_no_transfer, keep_tokens, load_model
from nfc_distill.run import Run, have_same_weights, wait
from nfc_distill.trainer import Trainer

HERE = Path(__file__).resolve().parent
FAR_WORSE = 3  # a run has diverged when its NLL is this many times that of guessing, ln V


def read_flags():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--teacher", required=True, help="folder of the model to learn from: config.json, safetensors")
    add("--data", required=True, nargs="+", type=Path, help="text: .txt, .jsonl; or token ids: .bin, .npy")
    add("--output", required=True, type=Path, help="folder to write")
    add("--valid", nargs="+", type=Path, help="held-out text (default: the end of --data)")
    add("--field", default="text", help="field of .jsonl lines that holds the text (default: text)")
    add("--settings", type=Path, default=HERE / "distill.json", help="(default: distill.json beside this file)")
    add("--fsdp", action="store_true", help="shard weights, gradients and moments over the processes")
    add("--bf16", action="store_true", help="compute in bfloat16; weights stay float32")
    add("--gradient-checkpointing", action="store_true", help="compute layers twice instead of keeping them")
    add("--save-every", type=int, default=50, help="steps between checkpoints (default: 50)")
    add("--resume", action="store_true", help="go on with the run in FOLDER.run, where there is one")
    add("--cpu", action="store_true", help="leave GPUs alone")
    add("--force", action="store_true", help="replace an existing output, start an unfinished run over")
    flags = parser.parse_args()
    flags.fsdp |= os.environ.get("ACCELERATE_USE_FSDP") == "true"
    # Else transformers reads the weights in one process alone, for accelerate to send them to the others.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "bf16"):
        refuse(f"mixed precision {precision} is not there", "take bf16")
    flags.bf16 |= precision == "bf16"
    if flags.fsdp and "RANK" not in os.environ:
        refuse("--fsdp shards over processes, and there is one", "start it with torchrun or accelerate launch")
    if flags.save_every < 1:
        refuse(f"--save-every {flags.save_every} is no number of steps", "give 1 or more")
    return flags


def open_device(flags):
    """The device of this process, which joins the others."""
    on_gpu = torch.cuda.is_available() and not flags.cpu
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if "RANK" in os.environ:
        # One process alone reads text and writes files; the others wait for it.
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(hours=6))
    return device


def open_corpus(flags, settings, run, vocabulary):
    """(ids to train on, held-out ids)"""
    kinds = {has_ids(path) for path in [*flags.data, *(flags.valid or [])]}
    if len(kinds) > 1:
        refuse("--data and --valid hold text and token ids", "give files of one kind")
    if kinds == {True} and len(flags.data) + len(flags.valid or []) > 1 + bool(flags.valid):
        refuse("several files of token ids", "join them into one")
    files = {"data": flags.data, "valid": flags.valid} if flags.valid else {"data": flags.data}
    if kinds == {False}:
        files = {name: [run.tokenize(name, paths, HERE, flags.field)] for name, paths in files.items()}
    ids = {name: map_ids(paths[0], vocabulary) for name, paths in files.items()}
    return (ids["data"], ids["valid"]) if flags.valid else hold_out(ids["data"], settings.length)


def train(trainer, windows, held_out, run, flags):
    """Takes the steps that are left."""
    s, state = trainer.settings, run.state
    share = s.batchSize * s.accumulate // WORLD
    for step in range(state["step"], s.steps):
        phase, index = ("transfer", step) if step < s.transferSteps else ("train", step - s.transferSteps)
        if trainer.phase != phase:
            trainer.begin(phase)
            run.load_moments(trainer, index)
        started = time.perf_counter()
        torch.manual_seed(mix_all([s.seed, step, RANK]))
        first = (step * WORLD + RANK) * share
        batch = torch.stack([torch.from_numpy(windows.read(first + place)) for place in range(share)])
        report = trainer.compute_gradients(batch)
        norm = trainer.measure_norm()
        lost = report.get("nll", 0) > FAR_WORSE * math.log(trainer.config.vocab_size)
        if lost or not math.isfinite(report["loss"]) or not math.isfinite(norm):
            facts = ", ".join(f"{name} {value:.4g}" for name, value in report.items())
            refuse(f"step {step + 1}: the run has diverged ({facts}, gradient norm {norm:.4g})", "lower lr, start over")
        rate = trainer.move(index, norm)
        tokens = s.batchSize * s.accumulate * s.length
        state.update(step=step + 1, tokens=state["tokens"] + tokens)
        averaged = max(0, step + 1 - s.steps + math.floor(s.average * (s.steps - s.transferSteps) + 0.5))
        if averaged:
            trainer.average_over(averaged)
        seconds = time.perf_counter() - started
        entry = {"step": step + 1, "phase": phase, **report, "lr": rate, "grad_norm": norm}
        speed = {"seconds": round(seconds, 4), "tokens_per_second": round(tokens / seconds, 1)}
        run.log({**entry, **speed, "tokens": state["tokens"]})
        if step + 1 == s.steps or ((step + 1) % s.evalEvery == 0 and step + 1 > s.transferSteps):
            evaluate(trainer, held_out, run, averaged)
        if (step + 1) % flags.save_every == 0 and step + 1 < s.steps:
            run.save(trainer)


def evaluate(trainer, held_out, run, averaged):
    """Scores the weights that would be kept, and keeps them if they are better."""
    if averaged:
        trainer.swap_average()
    perplexity = trainer.score(held_out)
    entry = {"perplexity": perplexity, "averaged": averaged} if averaged else {"perplexity": perplexity}
    run.log({"step": run.state["step"], "eval": entry})
    if run.state["best"] is None or perplexity < run.state["best"]["perplexity"]:
        run.state["best"] = {"step": run.state["step"], "perplexity": perplexity}
        run.save_best(trainer)
    if averaged:
        trainer.swap_average()


def main():
    flags = read_flags()
    settings, layers, tokens = read_settings(flags.settings)
    if settings.batchSize * settings.accumulate % WORLD:
        count = settings.batchSize * settings.accumulate
        hint = f"make batchSize * accumulate a multiple of {WORLD}"
        refuse(f"a step has {count} windows, which {WORLD} processes cannot share", hint)
    run = Run(flags, HERE)
    device = open_device(flags)
    student, teacher = load_model(HERE, settings.noise), load_model(flags.teacher, "mean").requires_grad_(False).eval()
    if not have_same_weights([student, teacher], device):
        refuse("the processes have read different weights", "give all machines the same files")
    if tokens:
        keep_tokens(teacher, tokens)
    for name, config in {str(HERE): student.config, flags.teacher: teacher.config}.items():
        if config.vocab_size != student.config.vocab_size:
            refuse(f"{name}: has {config.vocab_size} tokens, not {student.config.vocab_size}", "name its source")
        if config.n_positions < settings.length:
            refuse(f"{name}: has {config.n_positions} positions, a window {settings.length}", "lower length")
    reason = settings.transferSteps and explain_no_transfer(student.config, teacher.config, settings.transfer, layers)
    if reason:
        refuse(f"no layer can learn alone first: {flags.teacher} {reason}", "set transferSteps to 0 in distill.json")
    if flags.gradient_checkpointing:
        student.gradient_checkpointing_enable({"use_reentrant": False})
    run.open(settings, layers)
    if RANK == 0:
        count, how = settings.batchSize * settings.accumulate, "sharded" if flags.fsdp else "replicated"
        print(f"{WORLD} x {device.type}, weights {how}; {count} windows of {settings.length} tokens a step", flush=True)
    train_ids, held_out = open_corpus(flags, settings, run, student.config.vocab_size)
    learner = Learner(student.to(device), teacher.to(device), settings, layers, flags)
    trainer = Trainer(learner, settings, flags, device)
    if not run.load(trainer):
        run.state.update(before=trainer.score(held_out), teacher=trainer.score(held_out, "teacher"))
    train(trainer, Windows(train_ids, settings.length, settings.seed), held_out, run, flags)
    run.finish(settings, min(settings.evalTokens, len(held_out)))
    wait()
    if dist.is_initialized():
        dist.destroy_process_group()
        # Threads of PyTorch can abort a process that ends by itself (1 of 53 runs on two busy cores, after all was saved).
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
