"""The encoder in overlapping blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from asr.model.recognizer import Recognizer
from asr.search.blocks import encode_blocks

Make = Callable[..., Recognizer]


@torch.no_grad()
def joined(network: Recognizer, pieces: list[Tensor], block: float, margin: float, **how: Any) -> Tensor:
    return torch.cat(list(encode_blocks(network, pieces, block=block, margin=margin, **how)))


@torch.no_grad()
def whole(network: Recognizer, x: Tensor) -> Tensor:
    return network.encoder(x.unsqueeze(0), torch.tensor([len(x)]))[0][0]


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 6, 7, 11, 12, 13, 96, 97, 131, 500])
@pytest.mark.parametrize("pyramid", ["[1, 2]", "[2, 3]"])
def test_joined_blocks_are_as_many_frames_as_the_whole(frames: int, pyramid: str, tiny_network: Make) -> None:
    network = tiny_network(f"encoder.pyramid={pyramid}")
    x = torch.randn(frames, 8)
    assert joined(network, [x], 0.24, 0.12).shape == (-(-frames // network.encoder.stride), 12)


def test_a_block_that_is_larger_than_the_recording_is_the_whole(tiny_network: Make) -> None:
    network, x = tiny_network(gain=2.0), torch.randn(131, 8)
    torch.testing.assert_close(joined(network, [x], 10, 0.1), whole(network, x), atol=1e-6, rtol=0)
    torch.testing.assert_close(joined(network, [x], 0.3, 10), whole(network, x), atol=1e-6, rtol=0)


def test_the_gap_shrinks_as_the_margin_grows(tiny_network: Make) -> None:
    network = tiny_network(gain=1.5)
    torch.manual_seed(0)
    x = torch.randn(600, 8)
    exact = whole(network, x)
    gaps = [float((joined(network, [x], 0.4, margin) - exact).abs().max()) for margin in (0, 0.1, 0.2, 0.4, 0.8)]
    assert gaps[0] > 0.05
    assert all(wider < narrower for narrower, wider in itertools.pairwise(gaps))
    assert gaps[-1] < 0.2 * gaps[0]


@pytest.mark.parametrize("sizes", [[1] * 311, [7] * 45, [200, 0, 111], [0, 311, 0], [310, 1]])
def test_any_pieces_give_the_same(sizes: list[int], tiny_network: Make) -> None:
    network = tiny_network(gain=2.0)
    torch.manual_seed(1)
    x = torch.randn(311, 8)
    pieces = list(x.split(sizes)) if sum(sizes) == 311 else list(x.split(sizes[0]))
    assert torch.equal(joined(network, pieces, 0.3, 0.1), joined(network, [x], 0.3, 0.1))


def test_blocks_together_are_blocks_alone(tiny_network: Make) -> None:
    network, x = tiny_network(gain=2.0), torch.randn(311, 8)
    torch.testing.assert_close(joined(network, [x], 0.3, 0.1, together=1), joined(network, [x], 0.3, 0.1, together=5),
                               atol=1e-6, rtol=0)


def test_no_more_is_read_than_is_needed(tiny_network: Make) -> None:
    """The first block comes when it, its neighbours in the batch and their margin have been heard."""
    network, read = tiny_network(), []
    def pieces() -> object:
        for number in range(100):
            read.append(number)
            yield torch.randn(10, 8)
    blocks = encode_blocks(network, pieces(), block=0.2, margin=0.1, together=2)
    with torch.no_grad():
        next(blocks)
    assert len(read) == 5       # 2 blocks of 20 frames and 10 of a margin


def test_nothing_gives_nothing(tiny_network: Make) -> None:
    assert list(encode_blocks(tiny_network(), [], block=1, margin=1)) == []
    assert list(encode_blocks(tiny_network(), [torch.zeros(0, 8)], block=1, margin=1)) == []


def test_bfloat16_is_near_float32_and_another_sum(tiny_network: Make) -> None:
    network = tiny_network(gain=2.0)
    torch.manual_seed(1)
    x = torch.randn(131, 8)
    exact, short = joined(network, [x], 0.3, 0.1), joined(network, [x], 0.3, 0.1, bf16=True)
    assert short.dtype == torch.float32
    assert 0 < float((short - exact).abs().max()) < 0.05
