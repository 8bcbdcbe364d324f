"""Masks over time and frequency: SpecAugment (Park et al. 2019) without time warping, and vocal tracts of
other lengths (Jaitly and Hinton 2013)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from asr.config import Mask

MOST_OF_AN_UTTERANCE = 5        # a time mask covers a fifth of it at most


def spec_augment(x: Tensor, mask: Mask, rng: np.random.Generator, mels: int, width: int) -> Tensor:
    """Replace random stretches of time and bands of frequency by 0, the mean of normalised features.

    Args:
        x: (T, F) normalised features: mel bands, the energy if there is one, then their deltas in the same order.
        mask: how many and how wide.
        rng: where the randomness comes from.
        mels: mel bands in a frame; a mask covers the same bands of the deltas.
        width: values in a frame before deltas, mel bands and energy.

    Returns:
        A masked copy; `x` itself if there is nothing to do.
    """
    if mask.warp:
        x = warp_mels(x, 1 + float(rng.uniform(-mask.warp, mask.warp)), mels, width)
    if not mask.time_masks and not mask.mel_masks:
        return x
    x, frames = x.clone(), len(x)
    for _ in range(mask.time_masks):
        size = int(rng.integers(0, min(mask.time_width, frames // MOST_OF_AN_UTTERANCE) + 1))
        first = int(rng.integers(0, frames - size + 1))
        x[first:first + size] = 0
    for _ in range(mask.mel_masks):
        size = int(rng.integers(0, min(mask.mel_width, mels) + 1))
        first = int(rng.integers(0, mels - size + 1))
        x.view(frames, -1, width)[:, :, first:first + size] = 0
    return x


def warp_mels(x: Tensor, factor: float, mels: int, width: int) -> Tensor:
    """The mel bands stretched: band i takes what lay at i / factor, between two bands by straight lines.

    A factor above 1 moves formants up, as a shorter vocal tract does; beyond the last band it is repeated.

    Args:
        x: (T, F) normalised features, in the order of `spec_augment`.
        factor: by which the axis is stretched; 1 changes nothing.
        mels: mel bands in a frame.
        width: values in a frame before deltas.
    """
    place = (torch.arange(mels) / factor).clamp(max=mels - 1)
    below = place.long().clamp(max=max(0, mels - 2))
    share = (place - below).to(x.dtype)
    groups = x.view(len(x), -1, width)
    above = (below + 1).clamp(max=mels - 1)
    stretched = groups[..., below] * (1 - share) + groups[..., above] * share
    return torch.cat([stretched, groups[..., mels:]], dim=-1).view_as(x)
