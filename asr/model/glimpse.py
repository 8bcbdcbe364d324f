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


WIDEST = 256        # frames; over more, the band matrix, which grows with their square, costs more than it saves
CACHED = 1 << 18    # numbers of the hidden layer that are worked on at a time on a CPU: 1 MB


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
    with torch.autocast(query.device.type, enabled=False):
        query, location, mix = 2 * attention.query(query.float()), None, None
        if attention.settings.kind != "content":
            C = attention.settings.filters
            location = bands(attention.filters.weight.squeeze(1), W) if W <= WIDEST else None
            mix = nn.functional.pad(2 * attention.location.weight.t(), (0, 0, 0, -(-(C + 1) // 4) * 4 - C))
        few = max(1, CACHED // (K * W * query.size(2))) if query.device.type == "cpu" else B
        found = [_energies(attention, query[b:b + few], memory.keys[b:b + few].float(), frames[b:b + few],
                           previous[b:b + few], location, mix) for b in range(0, B, few)]
        return found[0] if len(found) == 1 else torch.cat(found)


def _energies(attention: Attention, asked: Tensor, keys: Tensor, frames: Tensor, previous: Tensor,
              location: Tensor | None, mix: Tensor | None) -> Tensor:
    """`energies` of so few utterances that their hidden layer stays in the processor's cache; the query is doubled."""
    B, K, W = frames.shape
    start = torch.arange(B, device=frames.device).view(-1, 1, 1) * keys.size(1)
    hidden = keys.flatten(0, 1).index_select(0, (frames + start).flatten()).view(B * K, W, -1)
    if mix is None:
        hidden.mul_(2).add_(asked.reshape(B * K, 1, -1))
    else:
        C = attention.settings.filters
        felt = torch.ones(B * K, W, len(mix), device=frames.device)         # widths of 4 multiply faster
        felt[..., :C] = attention.filtered(previous).flatten(0, 1) if location is None else \
            (previous.reshape(B * K, W) @ location).view(B * K, W, C)
        mixes = mix.repeat(B * K, 1, 1)
        mixes[:, C] = asked.reshape(B * K, -1)
        hidden.baddbmm_(felt, mixes, beta=2)
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
