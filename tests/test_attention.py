"""Attention against a slow loop written from the paper's equations, and the laws of its window."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from asr.model.attention import Aids, Attention, FinalState, Gaze, Memory, Window, in_window, moved, shifted
from asr.model.recognizer import Recognizer

Make = Callable[..., Recognizer]
LENGTHS = torch.tensor([9, 6, 1])
KINDS = ["content", "location", "hybrid"]


def scene(network: Recognizer, K: int = 2) -> tuple[Attention, Memory, Tensor, Gaze]:
    """An attention, a memory of three utterances, queries and previous weights."""
    torch.manual_seed(3)
    attention = network.decoder.attention
    values = torch.randn(3, 9, 12) * (torch.arange(9) < LENGTHS.unsqueeze(1)).unsqueeze(2)
    memory = attention.remember(values, LENGTHS)
    previous = torch.randn(3, K, 9).masked_fill(~memory.mask.unsqueeze(1), -math.inf).softmax(2)
    return attention, memory, torch.randn(3, K, 6), Gaze(previous, None)


def energies_by_hand(attention: Attention, h: Tensor, s: Tensor, previous: Tensor) -> Tensor:
    """e_ij = wᵀ tanh(W s_{i-1} + V h_j + U f_ij + b), f_i = F * α_{i-1}, one number at a time: (S,)."""
    settings = attention.settings
    energies = torch.zeros(len(h))
    for j in range(len(h)):
        total = attention.query.weight @ s + attention.bias
        if settings.kind != "location":
            total = total + attention.key.weight @ h[j]
        if settings.kind != "content":
            f = torch.zeros(settings.filters)
            for c in range(settings.filters):
                for tap in range(settings.taps):
                    source = j + tap - settings.taps // 2
                    if 0 <= source < len(h):
                        f[c] += attention.filters.weight[c, 0, tap] * previous[source]
            total = total + attention.location.weight @ f
        energies[j] = attention.energy.weight[0] @ total.tanh()
        if attention.energy.bias is not None:
            energies[j] += attention.energy.bias[0]
    return energies


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("normaliser", "beta"), [("softmax", 1.0), ("softmax", 2.5), ("smooth", 1.0), ("smooth", 2.5)])
@torch.no_grad()
def test_weights_and_contexts_by_hand(kind: str, normaliser: str, beta: float, tiny_network: Make) -> None:
    network = tiny_network(f"attention.kind={kind}", f"attention.normaliser={normaliser}", f"attention.beta={beta}",
                           gain=2.0)
    attention, memory, query, gaze = scene(network)
    if attention.energy.bias is not None:
        attention.energy.bias.fill_(-0.7)
    attention.bias.normal_()
    memory = attention.remember(memory.values, memory.lengths)
    context, after = attention(query, memory, gaze)
    for b, length in enumerate(LENGTHS.tolist()):
        for k in range(2):
            h = memory.values[b, :length]
            e = beta * energies_by_hand(attention, h, query[b, k], gaze.weights[b, k, :length])
            scores = e.exp() if normaliser == "softmax" else e.sigmoid()
            alpha = scores / scores.sum()
            torch.testing.assert_close(after.weights[b, k, :length], alpha, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(context[b, k], alpha @ h, atol=1e-5, rtol=1e-5)
    assert bool((after.weights.masked_select(~memory.mask.unsqueeze(1)) == 0).all())
    torch.testing.assert_close(after.weights.sum(2), torch.ones(3, 2))


@pytest.mark.parametrize("normaliser", ["softmax", "smooth"])
@torch.no_grad()
def test_keep_the_largest(normaliser: str, tiny_network: Make) -> None:
    trained = tiny_network("attention.keep=2", f"attention.normaliser={normaliser}", gain=2.0)
    plain = tiny_network(f"attention.normaliser={normaliser}", gain=2.0)
    attention, memory, query, gaze = scene(plain)
    all_weights = attention(query, memory, gaze)[1].weights
    for kept in (scene(trained)[0](query, memory, gaze)[1].weights,
                 attention(query, memory, gaze, Aids(keep=2))[1].weights):
        top = all_weights.topk(2, dim=2)
        expected = torch.zeros_like(kept).scatter_(2, top.indices, top.values)
        expected /= expected.sum(2, keepdim=True)
        torch.testing.assert_close(kept, expected, atol=1e-6, rtol=1e-5)    # the third utterance has but one frame
    assert torch.equal(attention(query, memory, gaze, Aids(keep=99))[1].weights, all_weights)


@torch.no_grad()
def test_aids_change_the_normaliser(tiny_network: Make) -> None:
    attention, memory, query, gaze = scene(tiny_network("attention.beta=1.5", gain=2.0))
    plain = attention(query, memory, gaze)[1].weights
    logits = plain.log() / 1.5
    def same(aids: Aids, expected: Tensor) -> None:
        torch.testing.assert_close(attention(query, memory, gaze, aids)[1].weights, expected, atol=1e-6, rtol=1e-4)
    same(Aids(beta=2.0), (logits * 3).softmax(2))
    factor = torch.tensor([9.0, 6.0, 3.0]).log().view(3, 1, 1)     # log L, of at least three frames
    same(Aids(beta_log_length=True), (logits * 1.5 * factor).softmax(2))
    smooth = attention(query, memory, gaze, Aids(normaliser="smooth"))[1].weights
    h = memory.values[1, :6]
    sigmoids = (1.5 * energies_by_hand(attention, h, query[1, 0], gaze.weights[1, 0, :6])).sigmoid()
    torch.testing.assert_close(smooth[1, 0, :6], sigmoids / sigmoids.sum(), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_smooth_normaliser_never_divides_nothing_by_nothing(tiny_network: Make) -> None:
    attention, memory, query, gaze = scene(tiny_network("attention.normaliser=smooth"))
    attention.energy.bias.fill_(-500.0)
    weights = attention(query, memory, gaze)[1].weights
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 2))


def test_gradients_are_finite_with_masks_and_few_kept(tiny_network: Make) -> None:
    for normaliser in ("softmax", "smooth"):
        network = tiny_network("attention.keep=2", f"attention.normaliser={normaliser}")
        attention, memory, query, gaze = scene(network)
        attention(query, memory, gaze)[0].sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in attention.parameters() if p.grad is not None)
        assert float(attention.energy.weight.grad.abs().max()) > 0


def test_where_attention_begins(tiny_network: Make) -> None:
    _, memory, _, _ = scene(tiny_network())
    first = tiny_network().decoder.attention.start(memory)
    assert first.weights.tolist() == [[[1.0, *[0.0] * 8]]] * 3
    uniform = tiny_network("attention.start=uniform").decoder.attention.start(memory).weights
    for b, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(uniform[b, 0, :length], torch.full((length,), 1 / length))
        assert float(uniform[b, 0, length:].sum()) == 0.0


def test_no_attention_is_the_final_states(tiny_network: Make) -> None:
    attention, memory, query, gaze = scene(tiny_network("attention.kind=none"))
    assert isinstance(attention, FinalState)
    context, after = attention(query, memory, gaze)
    assert after is gaze
    assert context.shape == (3, 2, 12)
    for b, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(context[b, 1], torch.cat([memory.values[b, length - 1, :6], memory.values[b, 0, 6:]]))


def test_weights_are_float32_under_autocast(tiny_network: Make) -> None:
    attention, memory, query, gaze = scene(tiny_network(gain=2.0))
    exact = attention(query, memory, gaze)[1].weights
    with torch.autocast("cpu", torch.bfloat16):
        weights = attention(query, memory, gaze)[1].weights
        assert attention.remember(memory.values, LENGTHS).keys.dtype == torch.float32
    assert weights.dtype == torch.float32
    assert torch.equal(weights, exact)


@pytest.mark.parametrize("detach", [True, False])
def test_detach_stops_the_gradient_through_the_previous_weights(detach: bool, tiny_network: Make) -> None:
    attention, memory, query, gaze = scene(tiny_network(f"attention.detach={str(detach).lower()}", gain=2.0))
    previous = gaze.weights.clone().requires_grad_()
    attention(query, memory, Gaze(previous, None))[0].square().sum().backward()
    assert (previous.grad is None or float(previous.grad.abs().max()) == 0.0) is detach


# The window.


def one_hot(foci: list[list[int]]) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(foci), 9).float()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("centre", ["median", "mean", "argmax"])
@torch.no_grad()
def test_a_window_that_is_large_enough_is_no_window(kind: str, centre: str, tiny_network: Make) -> None:
    attention, memory, query, gaze = scene(tiny_network(f"attention.kind={kind}", gain=2.0))
    windowed, plain = gaze, gaze
    for _ in range(3):      # the gaze is handed on
        expected, plain = attention(query, memory, plain)
        context, windowed = attention(query, memory, windowed, Aids(Window(9, 9, centre)))
        torch.testing.assert_close(context, expected, atol=1e-6, rtol=1e-5)
        on_frames = shifted(windowed, torch.zeros(3, 2, dtype=torch.long), 9)
        torch.testing.assert_close(on_frames, plain.weights, atol=1e-6, rtol=1e-5)
        assert torch.equal(windowed.focus(centre), plain.focus(centre))


@torch.no_grad()
def test_outside_the_window_there_is_nothing(tiny_network: Make) -> None:
    network = tiny_network(gain=2.0)
    attention, memory, query, gaze = scene(network)
    gaze = Gaze(one_hot([[4, 8], [0, 5], [0, 0]]), torch.zeros(3, 2, dtype=torch.long))
    context, after = attention(query, memory, gaze, Aids(Window(1, 2)))
    assert after.first.tolist() == [[3, 7], [-1, 4], [-1, -1]]
    inside = [[[1, 1, 1, 1], [1, 1, 0, 0]], [[0, 1, 1, 1], [1, 1, 0, 0]], [[0, 1, 0, 0], [0, 1, 0, 0]]]
    assert (after.weights > 0).long().tolist() == inside
    torch.testing.assert_close(after.weights.sum(2), torch.ones(3, 2))
    far = memory.values.clone()
    for strange in (1e3, float("nan"), math.inf):
        far[0, :3] = far[0, 7:] = strange       # of the first hypothesis's window, nothing
        other = Memory(far, attention.remember(far, LENGTHS).keys, LENGTHS)
        again, then = attention(query, other, gaze, Aids(Window(1, 2)))
        assert torch.equal(then.weights[0, 0], after.weights[0, 0])
        torch.testing.assert_close(again[0, 0], context[0, 0])
        torch.testing.assert_close(again[1:], context[1:])


@torch.no_grad()
def test_a_window_looks_at_its_frames_as_if_they_were_all(tiny_network: Make) -> None:
    """The windowed step is the plain step on the utterance cut to the window, with the weights cut alike."""
    attention, memory, query, gaze = scene(tiny_network(gain=2.0), K=1)
    gaze = gaze._replace(first=torch.zeros(3, 1, dtype=torch.long))
    _, frames, mask = in_window(gaze, memory, Window(2, 3))
    context, after = attention(query, memory, gaze, Aids(Window(2, 3)))
    for b in range(3):
        view = frames[b, 0][mask[b, 0]]
        cut = attention.remember(memory.values[b:b + 1, view], torch.tensor([len(view)]))
        expected, plain = attention(query[b:b + 1], cut, Gaze(gaze.weights[b:b + 1, :, view], None))
        torch.testing.assert_close(context[b], expected[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(after.weights[b, 0][mask[b, 0]], plain.weights[0, 0], atol=1e-6, rtol=1e-5)


def test_the_gaze_is_shifted() -> None:
    weights = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]])
    for gaze, origin in ((Gaze(weights, None), 0), (Gaze(weights, torch.tensor([[5]])), 5)):
        def over(first: int, width: int, gaze: Gaze = gaze, origin: int = origin) -> list[float]:
            return [round(w, 3) for w in shifted(gaze, torch.tensor([[first + origin]]), width)[0, 0].tolist()]
        assert over(0, 4) == [0.1, 0.2, 0.3, 0.4]
        assert over(-2, 4) == [0.0, 0.0, 0.1, 0.2]
        assert over(2, 5) == [0.3, 0.4, 0.0, 0.0, 0.0]
        assert over(9, 2) == over(-9, 2) == [0.0, 0.0]
        assert over(1, 2) == [0.2, 0.3]


def test_the_focus() -> None:
    gaze = Gaze(torch.tensor([[[0.4, 0.0, 0.1, 0.1, 0.4], [0.0, 0.0, 0.0, 0.0, 1.0], [0.3, 0.3, 0.4, 0.0, 0.0]]]), None)
    assert gaze.focus("median").tolist() == [[2, 4, 1]]
    assert gaze.focus("mean").tolist() == [[2, 4, 1]]
    assert gaze.focus("argmax").tolist() == [[0, 4, 2]]
    assert Gaze(gaze.weights, torch.tensor([[10, -1, 0]])).focus("median").tolist() == [[12, 3, 1]]
    assert Gaze(torch.tensor([[[0.1, 0.2, 0.1]]]), None).focus("median").tolist() == [[2]]     # rounding, or no mass


def test_the_first_window_lies_at_the_beginning_wherever_attention_starts(tiny_network: Make) -> None:
    attention = tiny_network("attention.start=uniform").decoder.attention
    values = torch.randn(1, 200, 12)
    memory = attention.remember(values, torch.tensor([200]))
    _, after = attention(torch.randn(1, 1, 6), memory, attention.start(memory), Aids(Window(2, 5)))
    assert after.first.tolist() == [[-2]]


def test_forgetting_moves_memory_and_gaze_alike(tiny_network: Make) -> None:
    attention, memory, query, gaze = scene(tiny_network(gain=2.0), K=1)
    memory = memory.pick(torch.tensor([0]))
    gaze = Gaze(one_hot([[6]]), torch.zeros(1, 1, dtype=torch.long))
    aids = Aids(Window(1, 1))
    _, gaze = attention(query[:1], memory, gaze, aids)
    expected = attention(query[:1], memory, gaze, aids)
    less, same = moved(memory, gaze, 3)
    context, after = attention(query[:1], less, same, aids)
    assert less.lengths.tolist() == [6]
    assert torch.equal(context, expected[0])
    assert torch.equal(after.weights, expected[1].weights)
    assert torch.equal(after.first + 3, expected[1].first)


def test_a_memory_of_some_utterances(tiny_network: Make) -> None:
    _, memory, _, _ = scene(tiny_network())
    some = memory.pick(torch.tensor([2, 1]))
    assert some.lengths.tolist() == [1, 6]
    assert some.values.shape == (2, 6, 12)
    assert torch.equal(some.values[1], memory.values[1, :6])
    assert torch.equal(some.mask, torch.tensor([[True] + [False] * 5, [True] * 6]))
