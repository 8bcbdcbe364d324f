"""Looking in search: what `Attention.forward` does, without gradients, through a window or over short utterances.

Hypotheses of one utterance look at almost the same frames. So the values of all their windows are fetched once, and the
contexts are one product with weights laid out over them; keys, location and query meet in one product in place.
Tanh is a sigmoid of twice its argument, which costs a sixth on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from asr.model.attention import Attention, Memory


WIDEST = 256        # frames; over more, the band matrix costs more than it saves


def bands(filters: Tensor, S: int, reach: int = 0) -> Tensor:
    """Filters (C, r) as a band matrix (S + 2 reach, S C), so that f = F * α is α's product with it.

    α is of the S frames and of `reach` more on either side: 0 where nothing lies there, r // 2 for a block of frames.
    """
    side = S - 1 - filters.size(1) // 2 + reach                 # α_i counts for f_j by F[i - j + r // 2]
    padded = nn.functional.pad(filters, (side, side))
    return padded.unfold(1, S + 2 * reach, 1).flip(1).permute(2, 1, 0).reshape(S + 2 * reach, -1)


def energies(attention: Attention, query: Tensor, memory: Memory, frames: Tensor, previous: Tensor) -> Tensor:
    """Energies (B, K, W) of the frames (B, K, W), float32, given the previous weights over the same frames."""
    B, K, W = frames.shape
    start = torch.arange(B, device=frames.device).view(-1, 1, 1) * memory.keys.size(1)
    with torch.autocast(query.device.type, enabled=False):
        hidden = memory.keys.float().flatten(0, 1).index_select(0, (frames + start).flatten()).view(B * K, W, -1)
        asked = 2 * attention.query(query.float()).view(B * K, 1, -1)
        if attention.settings.kind == "content":
            hidden.mul_(2).add_(asked)
        else:
            C = attention.settings.filters
            felt = torch.ones(B * K, W, -(-(C + 1) // 4) * 4, device=frames.device)     # widths of 4 multiply faster
            felt[..., :C] = (previous.view(B * K, W) @ bands(attention.filters.weight.squeeze(1), W)).view(B * K, W, C)
            mix = nn.functional.pad(2 * attention.location.weight.t(), (0, 0, 0, felt.size(2) - C)).repeat(B * K, 1, 1)
            mix[:, C] = asked.squeeze(1)
            hidden.baddbmm_(felt, mix, beta=2)
        weight = attention.energy.weight.squeeze(0)
        found = torch.mv(hidden.sigmoid_().view(B * K * W, -1), 2 * weight) - weight.sum()
        return (found if attention.energy.bias is None else found + attention.energy.bias).view(B, K, W)


def context(memory: Memory, weights: Tensor, first: Tensor) -> Tensor:
    """(B, K, D): the mean of the values under weights (B, K, W) over windows that begin at `first` (B, K)."""
    B, K, W = weights.shape
    begin = first.amin(1, keepdim=True)
    column = torch.arange(W, device=first.device) + (first - begin).unsqueeze(2)
    frames = begin + torch.arange(int(column[:, :, -1].max()) + 1, device=first.device)         # (B, W') of all windows
    rows = torch.arange(B, device=first.device).unsqueeze(1)
    values = memory.values[rows, frames.clamp(0, memory.values.size(1) - 1)]                    # (B, W', D)
    spread = weights.new_zeros(B, K, frames.size(1)).scatter_(2, column, weights)
    found = torch.bmm(spread.to(values.dtype), values)
    if not found.isfinite().all():      # 0 times NaN is NaN: what one window holds must not reach the others
        own = (first.unsqueeze(2) + torch.arange(W, device=first.device)).clamp(0, memory.values.size(1) - 1)
        found = (weights.to(values.dtype).unsqueeze(2) @ memory.values[rows.unsqueeze(2), own]).squeeze(2)
    return found
