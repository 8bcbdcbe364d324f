"""The fast look through a window is the plain one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from asr.model import glimpse
from asr.model.attention import Aids, Gaze, Window
from asr.model.recognizer import Recognizer

VARIANTS = [(f"attention.kind={kind}", f"attention.normaliser={norm}") for kind in ("content", "location", "hybrid")
            for norm in ("softmax", "smooth")]
OTHERS = [("attention.beta=1.7",), ("attention.keep=2",), ("attention.taps=41",), ("attention.taps=1",),
          ("attention.filters=4",)]


@pytest.mark.parametrize("overrides", [*VARIANTS, *OTHERS], ids=lambda o: " ".join(v.split("=")[1] for v in o))
def test_without_a_window_as_well(overrides: tuple[str, ...], tiny_network: Callable[..., Recognizer]) -> None:
    attention = tiny_network(*overrides, gain=3.0).decoder.attention
    torch.manual_seed(3)
    memory = attention.remember(torch.randn(3, 20, 12), torch.tensor([20, 13, 1]))
    gaze, query = Gaze(torch.rand(3, 4, 20).softmax(2), None), torch.randn(3, 4, 6)
    context, after = attention(query, memory, gaze)
    with torch.no_grad():
        other, then = attention(query, memory, gaze)
    torch.testing.assert_close(then.weights, after.weights, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other, context, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("aids", [Aids(Window(2, 4)), Aids(Window(1, 9), beta=1.3, keep=3, normaliser="smooth")])
@pytest.mark.parametrize("overrides", [*VARIANTS, *OTHERS], ids=lambda o: " ".join(v.split("=")[1] for v in o))
def test_the_fast_look_is_the_plain_one(overrides: tuple[str, ...], aids: Aids,
                                        tiny_network: Callable[..., Recognizer]) -> None:
    attention = tiny_network(*overrides, gain=3.0).decoder.attention
    torch.manual_seed(3)
    lengths = torch.tensor([20, 13, 1])
    memory = attention.remember(torch.randn(3, 20, 12), lengths)
    gaze = Gaze(torch.rand(3, 4, 6).softmax(2), torch.tensor([[0, 3, -2, 12], [1, 1, 5, 7], [-5, -4, -5, -5]]))
    query = torch.randn(3, 4, 6)
    context, after = attention(query, memory, gaze, aids)           # gradients are on: the plain way
    with torch.no_grad():
        other, then = attention(query, memory, gaze, aids)
    assert torch.equal(after.first, then.first)
    torch.testing.assert_close(then.weights, after.weights, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other, context, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("overrides", VARIANTS, ids=lambda o: " ".join(v.split("=")[1] for v in o))
def test_a_few_utterances_at_a_time_is_the_same(overrides: tuple[str, ...], tiny_network: Callable[..., Recognizer],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """As long utterances are: one, or two and a rest of one, in place of all three."""
    attention = tiny_network(*overrides, gain=3.0).decoder.attention
    torch.manual_seed(3)
    memory = attention.remember(torch.randn(3, 20, 12), torch.tensor([20, 13, 1]))
    gaze, query = Gaze(torch.rand(3, 4, 20).softmax(2), None), torch.randn(3, 4, 6)
    with torch.no_grad():
        context, whole = attention(query, memory, gaze)
        for size in (1, 2 * 4 * 20 * attention.settings.width):
            monkeypatch.setattr(glimpse, "CACHED", size)
            other, parts = attention(query, memory, gaze)
            torch.testing.assert_close(parts.weights, whole.weights)
            torch.testing.assert_close(other, context)


@pytest.mark.parametrize("overrides", [*VARIANTS, *OTHERS], ids=lambda o: " ".join(v.split("=")[1] for v in o))
def test_a_window_wider_than_the_widest_band_needs_none(overrides: tuple[str, ...],
                                                        tiny_network: Callable[..., Recognizer],
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """A band for a window of a thousand seconds took 25 GB."""
    attention = tiny_network(*overrides, gain=3.0).decoder.attention
    torch.manual_seed(3)
    memory = attention.remember(torch.randn(3, 20, 12), torch.tensor([20, 13, 1]))
    gaze = Gaze(torch.rand(3, 4, 6).softmax(2), torch.tensor([[0, 3, -2, 12], [1, 1, 5, 7], [-5, -4, -5, -5]]))
    query = torch.randn(3, 4, 6)
    with torch.no_grad():
        context, banded = attention(query, memory, gaze, Aids(Window(2, 4)))
        monkeypatch.setattr(glimpse, "WIDEST", 6)
        monkeypatch.delattr(glimpse, "bands")
        other, wide = attention(query, memory, gaze, Aids(Window(2, 4)))
    torch.testing.assert_close(wide.weights, banded.weights, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other, context, atol=1e-5, rtol=1e-4)
