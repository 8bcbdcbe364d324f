"""The fast loop of the decoder is the plain one: values and every gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from asr.model import unrolled
from asr.model.attention import Memory
from asr.model.recognizer import Recognizer

VARIANTS = [(f"decoder.order={order}", f"decoder.cell={cell}", f"attention.kind={kind}", f"attention.normaliser={norm}")
            for order, cell, kind, norm in itertools.product(
                ["update-look-generate", "look-generate-update"], ["lstm", "gru"], ["content", "location", "hybrid"],
                ["softmax", "smooth"])]
OTHERS = [("attention.beta=1.7",), ("attention.start=uniform",), ("attention.detach=true",), ("attention.filters=4",),
          ("decoder.input_feeding=false",), ("decoder.input_feeding=false", "decoder.cell=gru"),
          ("attention.taps=61",), ("attention.taps=1",)]


def gradients(network: Recognizer, plain: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
    """What a loop gives, and the gradients of a made-up loss by each weight and by the memory."""
    torch.manual_seed(5)
    network.zero_grad()
    values = torch.randn(3, 20, network.encoder.width, requires_grad=True)
    memory = network.decoder.attention.remember(values, torch.tensor([20, 13, 1]))
    driven = network.decoder.drive(torch.tensor([[0, 3, 1, 1, 4], [0, 2, 2, 4, 1], [0, 1, 0, 0, 0]]))
    hidden, context, weights = (network.decoder.steps if plain else
                                lambda *x: unrolled.unroll(network.decoder, *x))(driven, memory)
    ((hidden * torch.randn(hidden.shape)).sum() + (context * torch.randn(context.shape)).sum()).backward()
    named = {name: p.grad for name, p in network.decoder.named_parameters() if p.grad is not None}
    assert values.grad is not None
    return [hidden, context, weights], {"values": values.grad, **named}


@pytest.mark.parametrize("overrides", [*VARIANTS, *OTHERS], ids=lambda o: " ".join(v.split("=")[1] for v in o))
def test_the_fast_loop_is_the_plain_one(overrides: tuple[str, ...], tiny_network: Callable[..., Recognizer]) -> None:
    network = tiny_network(*overrides, gain=3.0)
    assert unrolled.fits(network.decoder)
    expected, slow = gradients(network, plain=True)
    found, fast = gradients(network, plain=False)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert fast.keys() == slow.keys()
    for name in fast:
        torch.testing.assert_close(fast[name], slow[name], atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("overrides", [*VARIANTS[:6], *OTHERS], ids=lambda o: " ".join(v.split("=")[1] for v in o))
@pytest.mark.parametrize("block", [1, 7, 10])
def test_block_by_block_it_is_the_same(overrides: tuple[str, ...], block: int, tiny_network: Callable[..., Recognizer],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """20 frames in blocks of 1, of 7 (the last filled up), of 10; filters reach over one border, over all, or none."""
    network = tiny_network(*overrides, gain=3.0)
    expected, whole = gradients(network, plain=False)
    monkeypatch.setattr(unrolled, "WIDEST", 19)
    monkeypatch.setattr(unrolled, "BLOCK", block)
    found, parts = gradients(network, plain=False)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_the_band_matrix_does_not_grow_with_the_square_of_the_length(tiny_network: Callable[..., Recognizer]) -> None:
    settings = tiny_network().decoder.attention.settings
    for frames in (2000, 20000):
        blocks = unrolled.Blocks.of(frames, settings)
        assert 0 <= blocks.number * blocks.width - frames < blocks.number
        assert blocks.width + 2 * blocks.reach < unrolled.BLOCK + settings.taps


@pytest.mark.parametrize("override", ["attention.kind=none", "attention.keep=3", "decoder.order=look-update-generate"])
def test_what_the_fast_loop_does_not_know_goes_the_plain_way(override: str,
                                                             tiny_network: Callable[..., Recognizer]) -> None:
    network = tiny_network(override)
    assert not unrolled.fits(network.decoder)
    memory = Memory(torch.randn(1, 9, 12), torch.randn(1, 9, 7), torch.tensor([9]))
    logits, weights = network.decoder(torch.tensor([[0, 1, 2]]), memory)
    assert logits.shape == (1, 3, 5)
    assert weights.shape == (1, 3, 9)
