"""The encoder over a recording of any length: overlapping blocks, whose margins are computed and thrown away.

What the decoder sees then depends on a few seconds around each frame and not on the length of the recording. That is
close to the whole bidirectional encoder, not equal to it: the gap shrinks as the margin grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from asr.model.recognizer import Recognizer
from asr.search.recording import hand_back

TOGETHER = 4        # blocks encoded as one batch: the recurrence costs hardly more for four than for one


@torch.inference_mode()
def encode_blocks(network: Recognizer, pieces: Iterable[Tensor], *, block: float, margin: float,
                  together: int = TOGETHER, bf16: bool = False) -> Iterator[Tensor]:
    """Encode features that arrive piece by piece.

    Args:
        pieces: (t, F) features, of any sizes; joined they are the recording's
        block: seconds of encoder output that a block gives
        margin: seconds on each side of it that are heard and thrown away
        together: blocks in a batch
        bf16: products in bfloat16

    Yields:
        (n, D) encoder frames, float32 in either case; joined they are ⌈T / stride⌉.
    """
    stride = network.encoder.stride
    size = max(1, round(block / network.seconds)) * stride          # feature frames of a block
    side = max(0, round(margin / network.seconds)) * stride         # and of a margin
    held: Tensor | None = None      # features from `first` on
    first = start = 0               # frame numbers: of held[0], and of the next block
    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece])
        while start + together * size + side <= first + len(held):
            yield from _encode(network, held, first, [start + n * size for n in range(together)], size, side, bf16)
            hand_back()
            start += together * size
            held, first = held[max(0, start - side - first):], max(first, start - side)
    if held is not None and start < first + len(held):
        yield from _encode(network, held, first, list(range(start, first + len(held), size)), size, side, bf16)


def _encode(network: Recognizer, held: Tensor, first: int, starts: list[int], size: int, side: int,
            bf16: bool) -> Iterator[Tensor]:
    """Encode the blocks at `starts`, as one batch, and give what is between their margins."""
    stride, end = network.encoder.stride, first + len(held)
    begins = [max(0, start - side) for start in starts]
    views = [held[begin - first:min(end, start + size + side) - first]
             for begin, start in zip(begins, starts, strict=True)]
    lengths = torch.tensor([len(view) for view in views], device=held.device)
    with torch.autocast(held.device.type, torch.bfloat16, enabled=bf16):
        values, _ = network.encoder(torch.nn.utils.rnn.pad_sequence(views, batch_first=True), lengths)
    values = values.float()
    for row, (begin, start) in enumerate(zip(begins, starts, strict=True)):
        inside = (start - begin) // stride
        frames = -(-(min(end, start + size) - start) // stride)
        yield values[row, inside:inside + frames]
