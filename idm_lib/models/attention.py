"""Self-attention as a body of a wired run, whole or with its feed-forward in slices that are forgotten one by one."""

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from idm_lib.models.config import UNetConfig


def make_attention(config: UNetConfig, channels: int) -> Transformer2DModel:
    """Self-attention and a feed-forward over the pixels; no cross-attention."""
    return Transformer2DModel(
        num_attention_heads=config.attention_heads,
        attention_head_dim=channels // config.attention_heads,
        in_channels=channels,
        num_layers=1,
        cross_attention_dim=None,
        norm_num_groups=config.norm_groups,
    )


class AttentionBody(nn.Module):
    """Attention as a body: diffusers wraps its output, a body returns a tensor.

    The feed-forward is eight times as wide as its input, so at full resolution its inside is the largest thing that
    the backward pass of any body holds. It knows no neighbours: computed in slices of the pixels, of which the
    backward pass computes one at a time again, it needs a fraction of that, for one more evaluation of itself.

    Args:
        attention: of :func:`make_attention`.
        slices: of the feed-forward where there is a gradient; 1 for none.
    """

    def __init__(self, attention: Transformer2DModel, slices: int = 1) -> None:
        super().__init__()
        self.attention, self.slices = attention, slices

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        if self.slices == 1 or not torch.is_grad_enabled():
            return self.attention(h, return_dict=False)[0]
        (block,) = self.attention.transformer_blocks
        tokens = self.attention.proj_in(self.attention.norm(h)).flatten(2).transpose(1, 2)  # (B, H·W, C)
        tokens = tokens + block.attn1(block.norm1(tokens))
        parts = tokens.chunk(self.slices, dim=1)
        # No dropout anywhere, so there is no random state to keep.
        done = [checkpoint(_feed_forward, block, p, use_reentrant=False, preserve_rng_state=False) for p in parts]
        image = torch.cat(done, dim=1).transpose(1, 2).unflatten(2, h.shape[2:])  # (B, C, H, W)
        return h + self.attention.proj_out(image.contiguous())


def _feed_forward(block: BasicTransformerBlock, tokens: Tensor) -> Tensor:
    return tokens + block.ff(block.norm3(tokens))  # (B, pixels, C)
