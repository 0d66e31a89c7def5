# The training step of bench/training.mjs in PyTorch: optional, needs torch and safetensors. "device" is cpu or cuda;
# "precision" is fp32 (eager), tf32 (eager, its products in TF32) or bf16 (autocast; compiled on cuda).
# Reads one JSON line of settings from argv, then "step" or "quit" lines; answers each with one JSON line.
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

settings = json.loads(sys.argv[1])
torch.set_num_threads(settings["threads"])
batch, length, kd = settings["batch"], settings["length"], settings["kd"]
device, precision = settings.get("torchDevice", "cpu"), settings.get("precision", "fp32")
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


class Model:
    """GPT-2, dense or with Q = K = S; noise at its mean. Fused attention, as a user of PyTorch would have it."""

    def __init__(self, folder, trained):
        with open(folder + "/config.json") as file:
            self.config = json.load(file)
        self.p = {k.removeprefix("transformer."): v.float().to(device).requires_grad_(trained) for k, v in load_file(folder + "/model.safetensors").items()}

    def __call__(self, ids):
        p, C, H = self.p, self.config["n_embd"], self.config["n_head"]
        heads = lambda t: t.view(batch, length, H, C // H).transpose(1, 2)
        ln = lambda x, n: F.layer_norm(x, (C,), p[n + ".weight"], p[n + ".bias"], 1e-5)
        lin = lambda x, n: torch.addmm(p[n + ".bias"], x.view(-1, x.shape[-1]), p[n + ".weight"]).view(batch, length, -1)
        x = p["wte.weight"][ids] + p["wpe.weight"][:length]
        for i in range(self.config["n_layer"]):
            h = f"h.{i}."
            parts = lin(ln(x, h + "ln_1"), h + "attn.c_attn").split(C, -1)
            q, k, v = parts if len(parts) == 3 else (parts[0], parts[0], parts[1])
            a = F.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True)
            x = x + lin(a.transpose(1, 2).reshape(batch, length, C), h + "attn.c_proj")
            x = x + lin(F.gelu(lin(ln(x, h + "ln_2"), h + "mlp.c_fc"), approximate="tanh"), h + "mlp.c_proj")
        return ln(x, "ln_f").view(-1, C) @ p["wte.weight"].T


student, teacher = Model(settings["student"], True), Model(settings["teacher"], False)
decayed = [v for k, v in student.p.items() if v.dim() >= 2 and ".noise_" not in k]
others = [v for k, v in student.p.items() if (v.dim() < 2 or ".noise_" in k)]
optimiser = torch.optim.AdamW(
    [dict(params=decayed, weight_decay=settings["decay"]), dict(params=others, weight_decay=0.0)],
    lr=settings["lr"],
    betas=(0.9, 0.95),
    fused=True,
)


def losses(inputs, labels):
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        with torch.no_grad():
            target = teacher(inputs)
        logits = student(inputs)
    logits, target = logits.float(), target.float()
    nll = F.cross_entropy(logits, labels)
    kl = F.kl_div(logits.log_softmax(-1), target.log_softmax(-1), log_target=True, reduction="batchmean")
    return nll, kl


if precision == "bf16" and device == "cuda":
    losses = torch.compile(losses)


def step(tokens):
    ids = torch.tensor(tokens, device=device).view(batch, length + 1)
    inputs, labels = ids[:, :-1], ids[:, 1:].reshape(-1)
    optimiser.zero_grad(set_to_none=True)
    nll, kl = losses(inputs, labels)
    ((1 - kd) * nll + kd * kl).backward()
    norm = torch.nn.utils.clip_grad_norm_(student.p.values(), settings["clip"])
    optimiser.step()
    return dict(nll=nll.item(), kl=kl.item(), norm=norm.item())


print(json.dumps(dict(ready=True, torch=torch.__version__)), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "tokens" not in request:
        break
    started, before = time.perf_counter(), time.process_time()
    result = step(request["tokens"])
    if device == "cuda":
        torch.cuda.synchronize()
    result["seconds"] = time.perf_counter() - started
    result["cpu"] = time.process_time() - before
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device == "cuda":
        result["reserved"] = torch.cuda.max_memory_reserved()
    print(json.dumps(result), flush=True)
