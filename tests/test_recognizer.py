"""The loss: by hand on a small case, and the sum of a batch is the sum of its utterances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from asr.model.recognizer import Loss, Recognizer

Make = Callable[..., Recognizer]
FRAMES = torch.tensor([12, 9, 4])
INPUTS = torch.tensor([[0, 2, 2, 1], [0, 3, 0, 0], [0, 1, 4, 0]])
TARGETS = torch.tensor([[2, 2, 1, 0], [3, 0, -100, -100], [1, 4, 0, -100]])


def feats() -> Tensor:
    torch.manual_seed(4)
    return torch.randn(3, 12, 8)


def ctc_by_hand(log_probs: Tensor, labels: list[int]) -> float:
    """-log of the sum over all paths that collapse to the labels."""
    total = 0.0
    for path in itertools.product(range(log_probs.size(1)), repeat=len(log_probs)):
        if [i for i, _ in itertools.groupby(path) if i] == labels:
            total += math.exp(sum(float(log_probs[t, i]) for t, i in enumerate(path)))
    return -math.log(total)


@torch.no_grad()
def test_the_loss_by_hand(tiny_network: Make) -> None:
    network = tiny_network(gain=2.0)
    smoothing = 0.2
    loss = network(feats(), FRAMES, INPUTS, TARGETS, smoothing=smoothing)
    memory = network.encode(feats(), FRAMES)
    log_probs = network.decoder(INPUTS, memory)[0].log_softmax(2)
    attention, right = 0.0, 0
    for row, u in itertools.product(range(3), range(4)):
        target = int(TARGETS[row, u])
        if target >= 0:
            own = -float(log_probs[row, u, target])
            attention += (1 - smoothing) * own + smoothing * float(-log_probs[row, u].mean())
            right += int(log_probs[row, u].argmax()) == target
    assert float(loss.attention) == pytest.approx(attention, rel=1e-5)
    assert float(loss.right) == right
    branch = network.ctc_log_probs(memory)
    labels = [[2, 2, 1], [3], [1, 4]]
    ctc = sum(ctc_by_hand(branch[row, :int(memory.lengths[row])], labels[row]) for row in range(3))
    assert float(loss.ctc) == pytest.approx(ctc, rel=1e-5)


@torch.no_grad()
def test_a_batch_is_the_sum_of_its_utterances(tiny_network: Make) -> None:
    network = tiny_network(gain=2.0)
    together = network(feats(), FRAMES, INPUTS, TARGETS, smoothing=0.1)
    alone = [network(feats()[row:row + 1, :int(FRAMES[row])], FRAMES[row:row + 1],
                     INPUTS[row:row + 1, :n], TARGETS[row:row + 1, :n], smoothing=0.1)
             for row, n in enumerate([4, 2, 3])]
    for name in ("attention", "ctc", "right"):
        expected = sum(float(getattr(one, name)) for one in alone)
        assert float(getattr(together, name)) == pytest.approx(expected, rel=1e-5)


def test_padding_gets_no_gradient(tiny_network: Make) -> None:
    network = tiny_network()
    x = feats().requires_grad_()
    loss = network(x, FRAMES, INPUTS, TARGETS)
    (loss.attention + loss.ctc).backward()
    behind = torch.arange(12) >= FRAMES.unsqueeze(1)
    assert bool((x.grad[behind] == 0).all())
    assert bool((x.grad[~behind].abs().sum(1) > 0).all())


def test_ctc_alone_leaves_the_decoder_out(tiny_network: Make) -> None:
    network = tiny_network()
    both = network(feats(), FRAMES, INPUTS, TARGETS)
    loss: Loss = network(feats(), FRAMES, INPUTS, TARGETS, ctc_only=True)
    assert torch.equal(loss.ctc, both.ctc)
    assert (float(loss.attention.detach()), float(loss.right), loss.weights) == (0.0, 0.0, None)
    loss.ctc.backward()
    assert all(p.grad is None for p in network.decoder.parameters())
    assert all(p.grad is not None for p in network.encoder.parameters())


def test_without_a_branch_there_is_no_ctc_loss(tiny_network: Make) -> None:
    network = tiny_network("train.ctc_weight=0")
    loss = network(feats(), FRAMES, INPUTS, TARGETS)
    assert network.ctc is None
    assert float(loss.ctc) == 0.0
    assert loss.weights.shape == (3, 4, 6)


def test_too_few_frames_for_ctc_count_as_zero(tiny_network: Make) -> None:
    """Two frames cannot spell `2 2`, which needs a blank between; the other utterances are counted, and trained on."""
    network = tiny_network()
    inputs, targets = torch.tensor([[0, 2, 2], [0, 1, 3]]), torch.tensor([[2, 2, 0], [1, 3, 0]])
    loss = network(feats()[:2, :4], torch.tensor([4, 4]), inputs, targets)
    alone = network(feats()[1:2, :4], torch.tensor([4]), inputs[1:], targets[1:])
    assert float(loss.ctc.detach()) == pytest.approx(float(alone.ctc.detach()), rel=1e-5)
    loss.ctc.backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.encoder.parameters())


def test_seconds_and_weights_are_counted(tiny_network: Make) -> None:
    network = tiny_network("encoder.pyramid=[2, 3]", "features.hop=12.5")
    assert network.seconds == pytest.approx(0.075)
    assert network.parameters_count() == sum(p.numel() for p in network.parameters())
