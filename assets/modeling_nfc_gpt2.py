"""GPT-2 with symmetric attention and attention noise (NoiseFormer, arXiv 2601.11619), as nfc writes it
(npm package noiseformer-compiler).

    score = (q k^T + mu + sigma * eps) * scale,  q = k = s,  [s, v] = c_attn(x),  eps ~ N(0, 1)

nfc_variant      mu                                      sigma = exp(noise_log_std)
symmetric        none                                    none
noise-shared     one a layer                             one a layer; eps [B, 1, T, S]
noise-per-head   one a head                              one a head;  eps [B, H, T, S]
noise-distance   one a head and bucket of distance i-j   one a head;  eps [B, H, T, S]

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


class NfcAttention(gpt2.GPT2Attention):
    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx=layer_idx)
        variant = config.nfc_variant
        self.c_attn = gpt2.Conv1D(2 * self.embed_dim, self.embed_dim)
        self.distance = variant == "noise-distance"
        self.sampled = getattr(config, "nfc_noise", "sample") == "sample"
        self.draws = {"symmetric": 0, "noise-shared": 1}.get(variant, self.num_heads)
        if self.draws:
            # The softmax does not see a constant mean: without draws, only distance means and no sigma have a gradient.
            mean, log_std = torch.zeros(self.draws, BUCKETS if self.distance else 1), torch.zeros(self.draws)
            self.noise_mean = nn.Parameter(mean, requires_grad=self.sampled or self.distance)
            self.noise_log_std = nn.Parameter(log_std, requires_grad=self.sampled)

    def forward(self, hidden_states, past_key_values=None, attention_mask=None, **kwargs):
        heads = (*hidden_states.shape[:2], self.num_heads, self.head_dim)
        s, v = (x.view(heads).transpose(1, 2) for x in self.c_attn(hidden_states).split(self.embed_dim, dim=2))
        past, keys, values = 0, s, v  # [B, H, T, D]; with a cache [B, H, S, D]
        if past_key_values is not None:
            past = int(past_key_values.get_seq_length(self.layer_idx))
            keys, values = past_key_values.update(s, v, self.layer_idx)
        noise = self.noise(s, past, keys.shape[2])
        if noise is not None:
            attention_mask = with_mask(noise * self.scaling, attention_mask, past).to(s.dtype)
        implementation = self.config._attn_implementation
        attend = gpt2.ALL_ATTENTION_FUNCTIONS.get_interface(implementation, gpt2.eager_attention_forward)
        dropout = self.attn_dropout.p if self.training else 0.0
        mixed, weights = attend(
            self, s, keys, values, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )  # [B, T, H, D]
        return self.resid_dropout(self.c_proj(mixed.flatten(2))), weights

    def noise(self, s, past, S):
        """mu + sigma * eps: [1 or B, 1 or H, T, S]; None where the softmax cannot see it."""
        drawn = self.training and self.sampled
        if not self.draws or not (drawn or self.distance):
            return None
        B, _, T, _ = s.shape
        mean = self.distance_means(past, T, S) if self.distance else self.noise_mean[:, :, None]
        if not drawn:
            return mean.expand(-1, T, S)[None]
        eps = torch.randn(B, self.draws, T, S, device=s.device, dtype=mean.dtype)
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


class Tied:
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
        if isinstance(module, NfcAttention) and module.draws:
            nn.init.zeros_(module.noise_mean)
            nn.init.zeros_(module.noise_log_std)

    def noise_kl(self):
        """KL(N(mu, sigma^2) || N(0, 1)), the prior of the noise; mu and sigma are averaged apart. 0 without noise."""
        layers = [block.attn for block in self.base_model.h if block.attn.draws]
        if not layers:
            return torch.zeros(())
        mean = torch.cat([layer.noise_mean.flatten() for layer in layers])
        log_std = torch.cat([layer.noise_log_std for layer in layers])
        return 0.5 * (mean.square().mean() + ((2 * log_std).exp() - 1 - 2 * log_std).mean())


# Under transformers' own names, which its pipelines look for.
class GPT2Model(Tied, gpt2.GPT2Model):
    pass


class GPT2LMHeadModel(Tied, gpt2.GPT2LMHeadModel):
    pass


class GPT2ForSequenceClassification(Tied, gpt2.GPT2ForSequenceClassification):
    pass
