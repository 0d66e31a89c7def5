"""Distils a dense GPT-2 into a folder of `nfc export --hf`, with transformers' Trainer, on one or many devices.

    torchrun --nproc_per_node 8 distil-hf.py STUDENT TEACHER TEXT OUTPUT --steps 2000 --bf16

Loss: (1 - kd) NLL + kd KL(teacher || student) + noise_kl KL(N(mu, sigma^2) || N(0, 1)), nfc's own at temperature 1.
nfc reads OUTPUT back: nfc eval OUTPUT, nfc export OUTPUT.
"""
import argparse

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments


class Distiller(Trainer):
    def __init__(self, *args, teacher, kd, noise_kl, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher, self.kd, self.noise_kl = teacher.to(self.args.device).eval().requires_grad_(False), kd, noise_kl

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ids = inputs["input_ids"]  # [B, T]
        output = model(input_ids=ids, use_cache=False)
        with torch.no_grad():
            teacher = self.teacher(input_ids=ids, use_cache=False).logits[:, :-1]
        logits = output.logits[:, :-1].float().flatten(0, 1).log_softmax(-1)  # [B (T - 1), V]
        nll = F.nll_loss(logits, ids[:, 1:].flatten())
        kl = F.kl_div(logits, teacher.float().flatten(0, 1).log_softmax(-1), log_target=True, reduction="batchmean")
        prior = self.accelerator.unwrap_model(model).noise_kl()
        loss = (1 - self.kd) * nll + self.kd * kl + self.noise_kl * prior
        return (loss, output) if return_outputs else loss


def windows(tokenizer, path, length):
    with open(path, encoding="utf8") as file:
        ids = torch.tensor(tokenizer(file.read(), verbose=False)["input_ids"])
    return [{"input_ids": window} for window in ids[: len(ids) // length * length].view(-1, length)]


def noise_apart(model, lr, noise_lr):
    """The noise parameters are few and have far to go: a larger rate, as in nfc distill."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    noise = [p for name, p in trained if "attn.noise_" in name]
    rest = [p for name, p in trained if "attn.noise_" not in name]
    groups = [{"params": rest, "lr": lr}] + ([{"params": noise, "lr": noise_lr}] if noise else [])
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.01)


def main():
    parser = argparse.ArgumentParser()
    for name in ("student", "teacher", "text", "output"):
        parser.add_argument(name)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=16, help="windows a device and step")
    parser.add_argument("--length", type=int, help="tokens a window (default: n_positions)")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--noise-lr", type=float, default=1e-2)
    parser.add_argument("--kd", type=float, default=0.5)
    parser.add_argument("--noise-kl", type=float, default=1e-3)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--logging-steps", type=int, default=10, help="steps between two lines of the log")
    flags = parser.parse_args()
    student = AutoModelForCausalLM.from_pretrained(flags.student, trust_remote_code=True)
    teacher = AutoModelForCausalLM.from_pretrained(flags.teacher, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(flags.student)
    arguments = TrainingArguments(
        flags.output,
        max_steps=flags.steps,
        per_device_train_batch_size=flags.batch,
        lr_scheduler_type="cosine",
        warmup_steps=min(20, flags.steps // 10),
        bf16=flags.bf16,
        use_cpu=flags.cpu,
        ddp_find_unused_parameters=False,
        gradient_checkpointing=flags.gradient_checkpointing,
        logging_steps=flags.logging_steps,
        save_strategy="no",
        report_to="none",
    )
    trainer = Distiller(
        student,
        arguments,
        train_dataset=windows(tokenizer, flags.text, flags.length or student.config.n_positions),
        optimizers=(noise_apart(student, flags.lr, flags.noise_lr), None),
        teacher=teacher,
        kd=flags.kd,
        noise_kl=flags.noise_kl,
    )
    trainer.train()
    trainer.save_model(flags.output)
    tokenizer.save_pretrained(flags.output)


if __name__ == "__main__":
    main()
