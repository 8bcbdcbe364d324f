"""Several utterances as one, with silence between them, so that training hears long input."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def join(parts: Sequence[Tensor], gap_frames: int, silence: Tensor, rng: np.random.Generator) -> Tensor:
    """Join static features, with a gap of silence between neighbours.

    A gap is either digital silence or, as likely, the quietest frame next door, repeated: a model that knew joins
    from digital silence alone would wait for it.

    Args:
        parts: (T_i, S) static frames each.
        gap_frames: length of a gap.
        silence: (S,) a frame of digital silence.
        rng: where the randomness comes from.

    Returns:
        (Σ T_i + (len(parts) − 1) · gap_frames, S).
    """
    pieces = [parts[0]]
    for before, after in itertools.pairwise(parts):
        neighbours = torch.cat([before, after])
        quiet = silence if rng.integers(2) else neighbours[neighbours.mean(dim=1).argmin()]
        pieces += [quiet.expand(gap_frames, -1), after]
    return torch.cat(pieces)
