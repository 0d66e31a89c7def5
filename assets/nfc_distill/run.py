"""The files of a run: the folder beside the output that holds it until it ends, and the model that becomes the output.

Process 0 writes; each file appears whole or not at all. Only JSON and safetensors are read back.
"""
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor

from .data import RANK, hash_files, read_json, refuse, tokenize

MOMENTS = ("exp_avg", "exp_avg_sq")
# What goes with the weights; files of weights, and what is said of the old ones in README.md, stay behind.
COMPANIONS = (
    *("config.json", "generation_config.json", "modeling_nfc_gpt2.py", "distill.py", "distill.json", "nfc_distill"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.jinja", "tokenizer.model", "spiece.model", "vocab.txt"),
)
# What --force removes; a folder with anything else in it is left alone.
OUTPUT = (*COMPANIONS, "model.safetensors", "nfc.json", "metrics.jsonl", "README.md")
RUN = ("run.json", "metrics.jsonl", "state.safetensors", "best.safetensors", "data.npy", "valid.npy")
BEGUN = {"step": 0, "tokens": 0, "metricsBytes": 0, "best": None, "before": None, "teacher": None}


def wait():
    """Until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def add_up(values):
    """The sum over the processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def have_same_weights(models, device):
    """Whether all processes hold the same bits: the sum of the weights as integers is the same in all."""
    total = sum(p.detach().view(torch.int32).sum(dtype=torch.int64) for model in models for p in model.parameters())
    ends = torch.stack([total, -total]).to(device)
    if dist.is_initialized():
        dist.all_reduce(ends, dist.ReduceOp.MAX)
    return int(ends.sum()) == 0


def gather(tensor):
    """All of a tensor that may be sharded; every process takes part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def copy_into(target, source):
    """Copies a whole tensor into one that may be sharded."""
    if isinstance(target, DTensor):
        source = distribute_tensor(source.to(target.device), target.device_mesh, target.placements)
    target.copy_(source)


def replace(path, write):
    """Writes a file beside its place, and moves it there when it is on the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


class Run:
    def __init__(self, flags, source):
        self.output, self.source, self.flags = flags.output, source, flags
        self.folder = flags.output.with_name(f"{flags.output.name}.run")
        self.metrics, self.state, self.resumed = self.folder / "metrics.jsonl", dict(BEGUN), False
        if self.output.resolve() in (source, Path(flags.teacher).resolve()):
            refuse(f"{self.output}: is the student or the teacher", "name another output")
        if self.output.exists() and not (flags.force and (self.output / "config.json").is_file()):
            refuse(f"{self.output}: exists", "name another output, or replace a model with --force")
        for folder, known in {self.output: OUTPUT, self.folder: RUN}.items():
            foreign = [path.name for path in folder.glob("*") if path.name not in known and path.suffix != ".tmp"]
            if foreign:
                refuse(f"{folder}: holds {foreign[0]}, which distill.py has not written", "name another output")
        begun = (self.folder / "run.json").is_file()
        if self.folder.exists() and not begun:
            refuse(f"{self.folder}: is no run, which needs this folder beside its output", "name another output")
        if begun and not (flags.resume or flags.force):
            refuse(f"{self.folder}: an unfinished run is there", "go on with --resume, or start over with --force")
        self.resumed = begun and flags.resume

    def open(self, settings, layers):
        """Begins the folder of the run, or finds that the one there has the same settings and inputs."""
        self.steps = settings.steps
        identity = {**vars(settings), "layers": layers, **self.fingerprint()}
        file = self.folder / "run.json"
        if self.resumed:
            known = read_json(file, "start over with --force")
            changed = sorted(name for name in {*known, *identity} if known.get(name) != identity.get(name))
            if changed:
                fact = f"this run had other settings: {', '.join(changed)}"
                refuse(f"{self.folder}: {fact}", "restore them, or start over with --force")
        wait()
        if RANK == 0 and not self.resumed:
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
            replace(file, lambda path: path.write_text(json.dumps(identity, indent=1)))
        wait()

    def fingerprint(self):
        """What a run must find unchanged when it goes on."""
        weights = {"student": self.source, "teacher": Path(self.flags.teacher)}
        found = {name: hash_files(sorted(folder.glob("*.safetensors"))) for name, folder in weights.items()}
        texts = {"data": self.flags.data, "held-out data": self.flags.valid or []}
        return {**found, **{name: hash_files(paths) for name, paths in texts.items()}}

    def tokenize(self, name, paths, folder, field):
        """The file of a text's ids; process 0 makes it, once for a run."""
        file = self.folder / f"{name}.npy"
        if RANK == 0 and not file.exists():
            ids = tokenize(paths, folder, field)
            replace(file, lambda path: write_array(path, ids))
        wait()
        return file

    def log(self, entry):
        """Adds a line to metrics.jsonl."""
        if RANK:
            return
        with open(self.metrics, "a", encoding="utf8") as file:
            file.write(json.dumps(entry) + "\n")
        self.state["metricsBytes"] = self.metrics.stat().st_size
        every = max(1, self.steps // 20)
        if "eval" in entry:
            print(f"step {entry['step']}: held-out perplexity {entry['eval']['perplexity']:.3f}", flush=True)
        elif entry["step"] % every == 0:
            shown = entry.keys() - {"step", "phase", "seconds", "tokens_per_second", "tokens"}
            parts = [f"{name} {value:.4g}" for name, value in entry.items() if name in shown]
            parts.append(f"{entry['tokens_per_second']:.0f} tokens/s")
            print(f"step {entry['step']} ({entry['phase']}): {', '.join(parts)}", flush=True)

    def save(self, trainer):
        """A checkpoint: weights, moments, the running mean, and the state in the file's header."""
        moments = trainer.optimizer.state
        arrays = {f"value/{name}": p for name, p in trainer.trained.items()}
        arrays.update({f"average/{name}": p for name, p in trainer.average.items()})
        for part in MOMENTS:
            arrays.update({f"{part}/{name}": moments[p][part] for name, p in trainer.moved.items() if p in moments})
        self.write_arrays("state.safetensors", arrays)

    def save_best(self, trainer):
        self.write_arrays("best.safetensors", trainer.parameters)

    def write_arrays(self, name, arrays):
        # All processes gather, one array after the other; process 0 alone keeps them.
        whole = {}
        for key, array in arrays.items():
            found = gather(array.detach())
            if RANK == 0:
                whole[key] = found.cpu().contiguous()
        if RANK == 0:
            replace(self.folder / name, lambda path: save_file(whole, path, {"state": json.dumps(self.state)}))
        wait()

    @torch.no_grad()
    def load(self, trainer):
        """Whether there is a checkpoint to go on from: its weights are then the trainer's."""
        file = self.folder / "state.safetensors"
        if not (self.resumed and file.exists()):
            if RANK == 0:
                self.metrics.write_text("")
            return False
        with safe_open(file, "pt") as found:
            self.state = json.loads(found.metadata()["state"])
        self.saved = load_file(file)
        for part, targets in {"value": trainer.trained, "average": trainer.average}.items():
            for name, target in targets.items():
                copy_into(target, self.saved[f"{part}/{name}"])
        if RANK == 0:
            os.truncate(self.metrics, self.state["metricsBytes"])
            print(f"goes on after step {self.state['step']}", flush=True)
        return True

    @torch.no_grad()
    def load_moments(self, trainer, index):
        """The moments of the checkpoint, where the run goes on within a phase that has made `index` steps."""
        saved, self.saved = getattr(self, "saved", None), None
        if saved is None or index == 0:
            return
        for name, p in trainer.moved.items():
            state = {part: torch.zeros_like(p) for part in MOMENTS}
            for part in MOMENTS:
                copy_into(state[part], saved[f"{part}/{name}"])
            trainer.optimizer.state[p] = {"step": torch.tensor(float(index)), **state}

    def finish(self, settings, held_out_tokens):
        """The best weights become the output, in the dtypes that the model had; the run's folder goes."""
        wait()
        if RANK:
            return
        stored, metadata = {}, {}
        for path in sorted(self.source.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                stored.update({name: file.get_slice(name).get_dtype() for name in file.keys()})
                metadata = {**metadata, **(file.metadata() or {})}
        dtypes = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
        best = load_file(self.folder / "best.safetensors")
        weights = {name: array.to(dtypes[stored[name]]) for name, array in best.items()}
        staged = self.output.with_name(f".{self.output.name}.tmp")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        replace(staged / "model.safetensors", lambda path: save_file(weights, path, metadata))
        for name in COMPANIONS:
            if (self.source / name).is_dir():
                shutil.copytree(self.source / name, staged / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (self.source / name).is_file():
                shutil.copyfile(self.source / name, staged / name)
        shutil.copyfile(self.metrics, staged / "metrics.jsonl")
        self.write_record(staged, settings, held_out_tokens)
        old = self.output.with_name(f".{self.output.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.output.exists():
            self.output.rename(old)
        staged.rename(self.output)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self.folder)
        best, before, teacher = self.state["best"], self.state["before"], self.state["teacher"]
        after = f"{best['perplexity']:.3f} (step {best['step']})"
        print(f"{self.output}: held-out perplexity {after}, before {before:.3f}, teacher {teacher:.3f}")

    def write_record(self, folder, settings, held_out_tokens):
        """nfc.json with this step in its history; what was measured of the old weights is dropped."""
        file = self.source / "nfc.json"
        if not file.exists():
            return
        record = read_json(file, "restore it, or delete it")
        state = self.state
        perplexity = {"before": state["before"], "after": state["best"]["perplexity"], "teacher": state["teacher"]}
        held_out = {"tokens": held_out_tokens, "perplexity": perplexity}
        step = {"step": "distill.py", "settings": vars(settings), "inputs": self.fingerprint()}
        result = {"tokens": state["tokens"], "best": state["best"], "held_out": held_out}
        kept = {key: value for key, value in record.items() if key not in ("perplexity", "exports")}
        history = [{key: value for key, value in old.items() if key != "dev"} for old in record.get("history", [])]
        kept["history"] = [*history, {**step, **result, "command": ["python", *sys.argv]}]
        (folder / "nfc.json").write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf8")


def write_array(path, array):
    with open(path, "wb") as file:
        np.save(file, array)
