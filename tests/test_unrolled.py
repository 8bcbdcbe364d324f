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


@pytest.mark.parametrize("override", ["attention.kind=none", "attention.keep=3", "decoder.order=look-update-generate"])
def test_what_the_fast_loop_does_not_know_goes_the_plain_way(override: str,
                                                             tiny_network: Callable[..., Recognizer]) -> None:
    network = tiny_network(override)
    assert not unrolled.fits(network.decoder)
    memory = Memory(torch.randn(1, 9, 12), torch.randn(1, 9, 7), torch.tensor([9]))
    logits, weights = network.decoder(torch.tensor([[0, 1, 2]]), memory)
    assert logits.shape == (1, 3, 5)
    assert weights.shape == (1, 3, 9)
