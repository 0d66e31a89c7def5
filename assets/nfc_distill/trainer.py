"""Moves the parameters of a distillation: gradients over all processes, rates, AdamW; scores held-out text."""
import math
from contextlib import nullcontext

import torch
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from .data import RANK, WORLD
from .losses import TRANSFER_LOSSES, is_noise, is_prior_only, is_trained, is_transferred
from .run import add_up, gather


class Trainer:
    """Takes the steps of a run, all processes together; each has its share of a step's windows."""

    def __init__(self, learner, settings, flags, device):
        self.learner, self.settings, self.flags, self.device = learner, settings, flags, device
        self.config = learner.student.config
        self.phase = self.optimizer = self.model = None
        for name, parameter in learner.student.named_parameters():
            parameter.requires_grad_(is_trained(name, settings.train) and not is_prior_only(name, self.config))
        if flags.fsdp:
            for model in (learner.student, learner.others[0]):
                for block in model.transformer.h:
                    fully_shard(block)
                    register_fsdp_forward_method(block, "attend")
            fully_shard(learner, reshard_after_forward=True)
        self.parameters = dict(learner.student.named_parameters())
        self.trained = {name: p for name, p in self.parameters.items() if is_trained(name, settings.train)}
        noise = {name: p for name, p in self.parameters.items() if is_noise(name)}
        self.means = [p for name, p in noise.items() if name.endswith("mean")]
        self.log_stds = [p for name, p in noise.items() if name.endswith("log_std")]
        self.average = {name: p.detach().clone() for name, p in self.trained.items()} if settings.average else {}

    def begin(self, phase):
        """Opens a phase: what moves, with fresh moments and rates of its own."""
        s, self.phase = self.settings, phase
        moved = self.trained.items()
        if phase == "transfer":
            moved = [(name, p) for name, p in moved if is_transferred(name, s.transfer, self.config)]
        self.moved = dict(moved)
        # In the transfer V shares c_attn with S but has no gradient: decay alone would shrink it.
        decay = s.decay if phase == "train" else 0
        rest = [p for name, p in moved if not is_noise(name)]
        groups = [
            {"params": [p for name, p in moved if is_noise(name)], "noise": True, "weight_decay": 0},
            {"params": [p for p in rest if p.ndim > 1], "noise": False, "weight_decay": decay},
            {"params": [p for p in rest if p.ndim == 1], "noise": False, "weight_decay": 0},
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(s.beta1, s.beta2), eps=s.epsilon)
        self.model = self.learner
        if WORLD > 1 and not self.flags.fsdp and any(p.requires_grad for p in self.trained.values()):
            ids = [self.device.index] if self.device.type == "cuda" else None
            self.model = DistributedDataParallel(self.learner, ids, find_unused_parameters=phase == "transfer")
        self.learner.student.train(phase == "train")

    def find_rate(self, index, noise):
        """peak (index + 1) / warmup, then a half cosine from the peak to floor * peak at the last step of the phase."""
        s = self.settings
        if self.phase == "train":
            peak, steps, warmup = s.noiseLr if noise else s.lr, s.steps - s.transferSteps, s.warmup
        else:
            peak, steps = s.transferNoiseLr if noise else s.transferLr, s.transferSteps
            warmup = math.floor(0.05 * steps + 0.5)
        if index < warmup:
            return peak * (index + 1) / warmup
        progress = min(1, (index - warmup) / max(1, steps - 1 - warmup))
        return peak * (s.floor + (1 - s.floor) * (1 + math.cos(math.pi * progress)) / 2)

    def compute_gradients(self, windows):
        """Leaves the gradients of a step in the parameters; gives its losses. windows: [W / WORLD, T + 1], its share"""
        s, total = self.settings, torch.zeros(2, device=self.device, dtype=torch.float64)
        rows = s.batchSize * s.accumulate * s.length
        self.model.zero_grad(set_to_none=True)
        parts = windows.to(self.device).split(s.batchSize)
        for number, ids in enumerate(parts, 1):
            alone = self.model is not self.learner and number < len(parts)
            if self.flags.fsdp:
                self.learner.set_requires_gradient_sync(number == len(parts))
            with self.model.no_sync() if alone else nullcontext():
                sums = self.model(ids, self.phase)
                if self.phase == "train":
                    losses = torch.stack([sums[0] / rows, s.temperature**2 * sums[1] / rows])
                    loss = (1 - s.kd) * losses[0] + s.kd * losses[1]
                else:
                    loss = sums * len(ids) / (s.batchSize * s.accumulate)
                    losses = loss.reshape(1)
                if loss.requires_grad:
                    (WORLD * loss).backward()  # the processes' gradients are averaged
            total[: len(losses)] += losses.detach().double()
        first, second = add_up(total).tolist()
        if self.phase == "transfer":
            return {"loss": first, TRANSFER_LOSSES[s.transfer]: first}
        prior = self.add_prior()
        report = {"loss": (1 - s.kd) * first + s.kd * second + s.noiseKl * (prior or 0), "nll": first, "kl": second}
        return report if prior is None else {**report, "noise_kl": prior}

    @torch.no_grad()
    def add_prior(self):
        """(mean mu^2 + mean(sigma^2 - 1 - ln sigma^2)) / 2 over all noise; noiseKl times its gradient is added."""
        for name, p in self.trained.items():
            if p.grad is None or is_prior_only(name, self.config):
                p.grad = torch.zeros_like(p)
        if not self.means:
            return None
        counts = [sum(p.numel() for p in part) for part in (self.means, self.log_stds)]
        terms = [(p, p / counts[0]) for p in self.means]
        terms += [(p, ((2 * p).exp() - 1) / counts[1]) for p in self.log_stds]
        for p, term in terms:
            if p.grad is not None:
                p.grad.add_(term, alpha=self.settings.noiseKl)
        mean = sum(gather(p).double().square().sum() for p in self.means) / counts[0]
        spread = sum(((2 * x).exp() - 1 - 2 * x).sum() for x in (gather(p).double() for p in self.log_stds)) / counts[1]
        return float((mean + spread) / 2)

    def move(self, index, norm):
        """Clips and moves what the phase moves; gives the rate."""
        clip = self.settings.clip
        for p in self.moved.values():
            if 0 < clip < norm and p.grad is not None:
                p.grad.mul_(clip / norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.find_rate(index, group["noise"])
        self.optimizer.step()
        return self.find_rate(index, False)

    def measure_norm(self):
        return float(gather(get_total_norm([p.grad for p in self.moved.values() if p.grad is not None])))

    @torch.no_grad()
    def average_over(self, count):
        """The mean of the trained weights over the last `count` steps, from that of one step less."""
        for name, mean in self.average.items():
            mean.lerp_(self.trained[name].detach(), 1 / count)

    @torch.no_grad()
    def swap_average(self):
        for name, mean in self.average.items():
            kept = self.trained[name].detach().clone()
            self.trained[name].copy_(mean)
            mean.copy_(kept)

    @torch.no_grad()
    def score(self, ids, what="score"):
        """The perplexity of held-out ids in windows that do not overlap, noise at its mean."""
        s = self.settings
        ids = torch.from_numpy(ids[: s.evalTokens].astype("int64"))
        windows = torch.full((-(-len(ids) // s.length), s.length), -1)
        windows.view(-1)[: len(ids)] = ids
        self.learner.student.eval()
        total = torch.zeros(2, device=self.device, dtype=torch.float64)
        # Every process takes as many turns as the others, with nothing to count once the windows are over.
        for start in range(0, len(windows), s.batchSize * WORLD):
            part = windows[start + RANK * s.batchSize :][: s.batchSize].to(self.device)
            part = part if len(part) else torch.full_like(windows[:1], -1, device=self.device)
            total += torch.stack([self.learner(part, what).double(), (part[:, 1:] >= 0).sum().double()])
        self.learner.student.train(self.phase == "train")
        nll, count = add_up(total).tolist()
        return math.exp(min(nll / count, 700))
