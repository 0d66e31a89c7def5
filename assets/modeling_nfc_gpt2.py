"""GPT-2 with symmetric attention and attention noise (NoiseFormer, arXiv 2601.11619), with pairwise attention (arXiv
2406.06366) or with low-rank attention, as nfc writes it (npm package noiseformer-compiler).

    score = (q k^T + mu + sigma * eps) * scale,  q = k = s,  [s, v] = c_attn(x),  eps ~ N(0, 1)
    pairwise:  q = s pair[head]
    low-rank:  [q, k, v] = c_attn(x), with nfc_qk_rank numbers of q and of k in a head

nfc_variant      mu                                      sigma = exp(noise_log_std)
symmetric        none                                    none
pairwise         none                                    none
low-rank         none                                    none
noise-shared     one a layer                             one a layer; eps [B, 1, T, S]
noise-per-head   one a head                              one a head;  eps [B, H, T, S]
noise-distance   one a head and bucket of distance i-j   one a head;  eps [B, H, T, S]

nfc_qk_rank, nfc_vo_rank (config.json): numbers of q and k, and of v, in a head; one for all layers, or a list of one a
layer. scale is GPT-2's, by the root of n_embd / n_head.
nfc_noise (config.json): "sample" draws eps while training, "mean" never does. Outside training eps = 0.
The attention may be "sdpa" or "eager".
"""
import math
from functools import lru_cache

import torch
from torch import nn
from transformers.models.gpt2 import modeling_gpt2 as gpt2

BUCKETS = 32
MASKED = -65504.0  # float16's least number: exp(MASKED) = 0, and no dtype makes it infinite


@lru_cache
def bucket_table(positions, device):
    """T5's buckets: d below 16, else min(31, 16 + floor(16 ln(d / 16) / ln(positions / 16) + 1e-9)); [positions]"""
    exact = BUCKETS // 2
    far = lambda d: exact + math.floor(exact * math.log(d / exact) / math.log(positions / exact) + 1e-9)
    return torch.tensor([d if d < exact else min(BUCKETS - 1, far(d)) for d in range(positions)], device=device)


def rank(config, key, layer, default):
    """The rank of one layer: config.json has one for all, or a list."""
    value = getattr(config, key, None)
    return default if value is None else value[layer] if isinstance(value, (list, tuple)) else value


class NfcAttention(gpt2.GPT2Attention):
    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx=layer_idx)
        variant, H, D = config.nfc_variant, self.num_heads, self.head_dim
        narrow = variant == "low-rank"
        qk = rank(config, "nfc_qk_rank", layer_idx, max(1, D // 2)) if narrow else D
        v = rank(config, "nfc_vo_rank", layer_idx, D)
        self.parts = [H * qk] * (2 if narrow else 1) + [H * v]  # columns of [q, k, v] or [s, v]
        self.c_attn = gpt2.Conv1D(sum(self.parts), self.embed_dim)
        if v != D:
            self.c_proj = gpt2.Conv1D(self.embed_dim, H * v)
        self.pair = nn.Parameter(torch.eye(D).repeat(H, 1, 1)) if variant == "pairwise" else None
        self.distance = variant == "noise-distance"
        self.sampled = getattr(config, "nfc_noise", "sample") == "sample"
        self.draws = {"noise-shared": 1, "noise-per-head": H, "noise-distance": H}.get(variant, 0)
        if self.draws:
            # The softmax does not see a constant mean: without draws, only distance means and no sigma have a gradient.
            mean, log_std = torch.zeros(self.draws, BUCKETS if self.distance else 1), torch.zeros(self.draws)
            self.noise_mean = nn.Parameter(mean, requires_grad=self.sampled or self.distance)
            self.noise_log_std = nn.Parameter(log_std, requires_grad=self.sampled)

    def forward(self, hidden_states, past_key_values=None, attention_mask=None, **kwargs):
        heads = (*hidden_states.shape[:2], self.num_heads, -1)
        parts = [x.view(heads).transpose(1, 2) for x in self.c_attn(hidden_states).split(self.parts, dim=2)]
        q, k, v = parts if len(parts) == 3 else (parts[0], *parts)  # [B, H, T, D], or as wide as their ranks
        if self.pair is not None:
            q = q @ self.pair
        past, keys, values = 0, k, v  # with a cache [B, H, S, D]
        if past_key_values is not None:
            past = int(past_key_values.get_seq_length(self.layer_idx))
            keys, values = past_key_values.update(k, v, self.layer_idx)
        noise = self.noise(q, past, keys.shape[2])
        if noise is not None:
            attention_mask = with_mask(noise * self.scaling, attention_mask, past).to(q.dtype)
        implementation = self.config._attn_implementation
        attend = gpt2.ALL_ATTENTION_FUNCTIONS.get_interface(implementation, gpt2.eager_attention_forward)
        dropout = self.attn_dropout.p if self.training else 0.0
        mixed, weights = attend(
            self, q, keys, values, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )  # [B, T, H, D]
        return self.resid_dropout(self.c_proj(mixed.flatten(2))), weights

    def noise(self, q, past, S):
        """mu + sigma * eps: [1 or B, 1 or H, T, S]; None where the softmax cannot see it."""
        drawn = self.training and self.sampled
        if not self.draws or not (drawn or self.distance):
            return None
        B, _, T, _ = q.shape
        mean = self.distance_means(past, T, S) if self.distance else self.noise_mean[:, :, None]
        if not drawn:
            return mean.expand(-1, T, S)[None]
        eps = torch.randn(B, self.draws, T, S, device=q.device, dtype=mean.dtype)
        return mean + self.noise_log_std.exp()[:, None, None] * eps

    def distance_means(self, past, T, S):
        """mu[h, bucket(i - j)], [H, T, S]: query i's row is the window from S - 1 - i on of m -> mu[h, bucket(S - 1 - m)]."""
        positions, device = self.config.n_positions, self.noise_mean.device
        distance = torch.arange(S - 1, -S, -1, device=device).clamp(0, positions - 1)  # below 0 is masked
        curve = self.noise_mean[:, bucket_table(positions, device)[distance]]  # [H, 2S - 1]
        return curve.unfold(1, S, 1)[:, S - past - T : S - past].flip(1)


def with_mask(bias, mask, past):
    """bias where a query may look, else MASKED. mask: bool or additive [B, 1, T, S]; None for the causal one."""
    if mask is None:
        mask = torch.ones(bias.shape[-2:], dtype=torch.bool, device=bias.device).tril(past)
    return torch.where(mask, bias, MASKED) if mask.dtype == torch.bool else (bias + mask).clamp(min=MASKED)


class NfcModel:
    """Replaces the attention of one of transformers' GPT-2 classes."""

    _supports_flash_attn = _supports_flex_attn = False  # neither takes a bias

    def __init__(self, config):
        super().__init__(config)
        for layer, block in enumerate(self.base_model.h):
            block.attn = NfcAttention(config, layer)
        self.loss_type = self.loss_type or "ForCausalLM"  # the default, for which transformers would warn
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if not isinstance(module, NfcAttention):
            return
        if module.draws:
            nn.init.zeros_(module.noise_mean)
            nn.init.zeros_(module.noise_log_std)
        if module.pair is not None and not getattr(module.pair, "_is_hf_initialized", False):
            module.pair.copy_(torch.eye(module.head_dim, device=module.pair.device))  # s_i s_j^T, as symmetric scores

    def noise_kl(self):
        """KL(N(mu, sigma^2) || N(0, 1)), the prior of the noise; mu and sigma are averaged apart. 0 without noise."""
        layers = [block.attn for block in self.base_model.h if block.attn.draws]
        if not layers:
            return torch.zeros(())
        mean = torch.cat([layer.noise_mean.flatten() for layer in layers])
        log_std = torch.cat([layer.noise_log_std for layer in layers])
        return 0.5 * (mean.square().mean() + ((2 * log_std).exp() - 1 - 2 * log_std).mean())


# Under transformers' own names, which its pipelines look for.
class GPT2Model(NfcModel, gpt2.GPT2Model):
    pass


class GPT2LMHeadModel(NfcModel, gpt2.GPT2LMHeadModel):
    pass


class GPT2ForSequenceClassification(NfcModel, gpt2.GPT2ForSequenceClassification):
    pass
