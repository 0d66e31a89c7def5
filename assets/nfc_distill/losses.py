"""The models and losses of distill.py: training on labels and a teacher, and the transfer layer by layer before it."""
from functools import partial
from pathlib import Path
from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, GPT2Config, GPT2LMHeadModel, logging

from .data import refuse

MASKED = -65504.0
TINY = 1e-12  # keeps a stream of zeros from being divided by
LOG_PROBABILITIES = "nfc_log_probabilities"
TRANSFER_LOSSES = {"probabilities": "attention_kl", "outputs": "output_error", "hidden": "hidden_error"}
# What makes the scores of a layer; V's part of c_attn has a gradient of zeros.
SCORES = ("attn.c_attn.weight", "attn.c_attn.bias", "attn.pair", "attn.noise_mean")
OUTPUT = ("attn.c_proj.weight", "attn.c_proj.bias")


def load_model(folder, noise):
    """A GPT-2 or one of nfc's forms in float32, without dropout. Pickles and the folder's own code are not loaded."""
    if not Path(folder).is_dir():  # transformers would ask the Hub for a name that is none
        refuse(f"{folder}: no such folder", "name the folder of a model")
    try:
        config = GPT2Config.from_pretrained(folder, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0)
    except (OSError, ValueError) as error:
        refuse(f"{folder}: has no config.json of a GPT-2 ({str(error).splitlines()[0]})", "name the folder of a model")
    config.nfc_noise = noise
    kind = GPT2LMHeadModel
    if config.model_type != "gpt2":
        refuse(f"{folder}: is a {config.model_type}, not a GPT-2", "name another model")
    if getattr(config, "nfc_variant", "dense") != "dense":
        try:
            from modeling_nfc_gpt2 import GPT2LMHeadModel as kind  # beside this file
        except ImportError:
            refuse(f"{folder}: is a {config.nfc_variant} model", "copy modeling_nfc_gpt2.py of its export here")
    options = {"config": config, "dtype": torch.float32, "use_safetensors": True, "attn_implementation": "sdpa"}
    try:
        model, found = kind.from_pretrained(folder, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError) as error:
        refuse(f"{folder}: its weights cannot be read ({str(error).splitlines()[0]})", "safetensors are due, whole")
    missing = [*found["missing_keys"], *found["mismatched_keys"]]
    if missing:
        refuse(f"{folder}: has no fitting {missing[0]}", "name a folder with all weights of the model")
    return model


def keep_tokens(teacher, tokens):
    """Cuts the teacher's vocabulary to the tokens that the student has: its distribution is that among them."""
    if max(tokens) >= teacher.config.vocab_size:
        count = teacher.config.vocab_size
        refuse(f"the teacher has {count} tokens, the student has kept its token {max(tokens)}", "name its source")
    cut = lambda rows: nn.Parameter(rows[tokens].detach(), requires_grad=False)
    wte, head = teacher.transformer.wte, teacher.lm_head
    tied, wte.weight = head.weight is wte.weight, cut(wte.weight)
    head.weight = wte.weight if tied else cut(head.weight)
    teacher.config.vocab_size = len(tokens)


def explain_no_transfer(student, teacher, kind, layers):
    """Why the student's layers cannot learn the teacher's one by one, said of the teacher; None where they can."""
    ascend = layers is not None and sorted(set(layers)) == layers
    if not ascend or len(layers) != student.n_layer or layers[-1] >= teacher.n_layer:
        count = student.n_layer
        return f"has {teacher.n_layer} layers, and distill.json does not say which the student's {count} came from"
    if student.n_embd != teacher.n_embd:
        return f"has n_embd {teacher.n_embd}, not {student.n_embd}"
    if kind == "probabilities" and student.n_head != teacher.n_head:
        return f"has n_head {teacher.n_head}, not {student.n_head}"
    return None


def plan_stages(kind, layers, count):
    """(what, teacher's layer, student's layer): "teach" moves the stream on, "attend" and "match" learn from it."""
    if kind != "hidden":
        find = lambda layer: ("attend", layer, layers.index(layer)) if layer in layers else ("teach", layer, None)
        return [find(layer) for layer in range(layers[-1] + 1)]
    starts, ends = [0, *layers[1:]], [*layers[1:], count]
    return [
        stage
        for learned, (start, end) in enumerate(zip(starts, ends))
        for stage in [*(("teach", layer, None) for layer in range(start, end)), ("match", None, learned)]
    ]


def is_noise(name):
    return "attn.noise_" in name


def is_trained(name, part):
    return part == "all" or is_noise(name) or (part == "attention" and ".attn." in name)


def is_prior_only(name, config):
    """Whether the data's loss does not see a parameter: a constant mean, and sigma where the noise is at its mean."""
    if "attn.noise_log_std" in name:
        return config.nfc_noise == "mean"
    return "attn.noise_mean" in name and config.nfc_variant != "noise-distance"


def is_transferred(name, kind, config):
    """Whether a parameter moves in the transfer, where the noise is at its mean."""
    if ".h." not in name or (is_noise(name) and ("log_std" in name or is_prior_only(name, config))):
        return False
    return kind == "hidden" or name.endswith(SCORES) or (kind == "outputs" and name.endswith(OUTPUT))


def attend_with_log_probabilities(module, query, key, value, mask, scaling=1.0, **_):
    """An attention as transformers calls it: ([B, T, H, D], log P [B, H, T, T]). No mask: the causal one."""
    if mask is None:
        past = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
        mask = torch.zeros_like(past, dtype=torch.float32).masked_fill(~past, MASKED)
    log_p = ((query @ key.transpose(-1, -2)).float() * scaling + mask).log_softmax(-1)
    return (log_p.exp().to(value.dtype) @ value).transpose(1, 2), log_p


logging.disable_progress_bar()
AttentionInterface.register(LOG_PROBABILITIES, attend_with_log_probabilities)


def attend(block, x):
    """The attention of a layer on its stream: its output [B, T, C], and log P [B, H, T, T]."""
    config = block.attn.config
    kept, config._attn_implementation = config._attn_implementation, LOG_PROBABILITIES
    try:
        output, log_p = block.attn(block.ln_1(x))
        return output.clone(), log_p  # a view would be in the way of FSDP's hooks
    finally:
        config._attn_implementation = kept


def stream_error(student, teacher, stream):
    """The mean over tokens of |y - t|^2 / |s|^2."""
    difference, stream = (student - teacher).float(), stream.float()
    return (difference.square().sum(-1) / (stream.square().sum(-1) + TINY)).mean()


def compare_probabilities(student, teacher):
    """The mean over windows, heads and queries of KL(P_teacher || P_student), from log P [B, H, T, T]."""
    return (teacher.exp() * (teacher - student)).sum(-1).mean()


class Learner(nn.Module):
    """The losses of a micro-batch: one module with one forward, which is what spreads over devices."""

    def __init__(self, student, teacher, settings, layers, flags):
        super().__init__()
        self.student, self.settings, self.flags = student, settings, flags
        self.others = [teacher]  # in a list: no module of this one, which would be trained and moved with it
        self.stages = plan_stages(settings.transfer, layers, teacher.config.n_layer) if settings.transferSteps else []
        for model in (student, teacher):
            for block in model.transformer.h:
                block.attend = MethodType(attend, block)

    def forward(self, ids, what):
        """ids [B, T + 1], labels included. "train": sums of NLL and KL; "score", "teacher": NLL; "transfer": a mean."""
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.flags.bf16):
            if what == "transfer":
                return self.transfer(ids[:, :-1])
            labels = ids[:, 1:].flatten()
            known = ids[:, :-1].clamp(min=0)
            predict = lambda model: model(input_ids=known, use_cache=False).logits.float().flatten(0, 1)
            z = predict(self.others[0] if what == "teacher" else self.student)  # [B T, V]
            nll = F.cross_entropy(z, labels, ignore_index=-1, reduction="sum")
            if what != "train":
                return nll
            with torch.no_grad():
                t = predict(self.others[0])
            at = lambda logits: (logits / self.settings.temperature).log_softmax(-1)
            return torch.stack([nll, F.kl_div(at(z), at(t), log_target=True, reduction="sum")])

    def transfer(self, ids):
        """The sum over the student's layers of what each has to learn on the teacher's stream."""
        teacher, learners = self.others[0].transformer, self.student.transformer.h
        again = self.flags.gradient_checkpointing
        learn = partial(checkpoint, use_reentrant=False) if again else lambda call, *of: call(*of)
        with torch.no_grad():
            now = start = teacher.wte(ids) + teacher.wpe(torch.arange(ids.shape[1], device=ids.device))  # [B, T, C]
        total = 0
        for what, taught, learned in self.stages:
            if what == "match":
                total = total + learn(lambda x, y, layer: stream_error(layer(x), y, y), start, now, learners[learned])
                start = now
                continue
            with torch.no_grad():
                before, now = now, teacher.h[taught](now)
                output, log_p = teacher.h[taught].attend(before) if what == "attend" else (None, None)
            if what == "attend":
                total = total + learn(self.compare, before, output, log_p, learners[learned])
        return total

    def compare(self, x, output, log_p, layer):
        own, own_log_p = layer.attend(x)
        if self.settings.transfer == "probabilities":
            return compare_probabilities(own_log_p, log_p)
        return stream_error(own, output, x + output)
