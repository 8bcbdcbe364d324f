"""A training that goes wrong says so, once, and a good one is left in peace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from asr.config import Train
from asr.training.loop import _near_diagonal
from asr.training.warnings import warnings_of

SETTINGS = Train(ctc_warmup=0)


def epoch(number: int, **figures: Any) -> dict[str, Any]:
    return {"epoch": number, "update": 100 * (number + 1), "loss": 3.0 - 0.1 * number, "per": 60.0 - number, "ins": 20,
            "del": 30, "sub": 100, "skipped": 0, "diagonal": 90.0, **figures}


def said(history: list[dict[str, Any]], settings: Train = SETTINGS) -> list[list[str]]:
    """What is said behind each epoch."""
    return [warnings_of(history[:n], settings) for n in range(1, len(history) + 1)]


def test_a_good_training_is_left_in_peace() -> None:
    assert not any(said([epoch(n) for n in range(10)]))


def test_attention_that_never_aligns_is_told_once() -> None:
    told = said([epoch(n, diagonal=37.0 + n) for n in range(6)])
    assert told == [[], [], [
        "the attention has not aligned: 39 % of its steps are near the diagonal after 3 epochs; wake the encoder first "
        "(train.ctc_warmup), begin with a model (--init), or with short utterances for longer (train.shortest_first)"],
        [], [], []]


def test_the_warm_up_does_not_count() -> None:
    told = said([epoch(n, diagonal=0.0 if n < 4 else 80.0) for n in range(6)], Train(ctc_warmup=400))
    assert not any(told)


def test_a_dev_set_that_is_hardly_spelt() -> None:
    told = said([epoch(0, per=99.0), *(epoch(n, per=97.0, ins=0, sub=4, **{"del": 96}) for n in (1, 2))])
    assert told == [[], [
        "the dev set is hardly spelt at all: 96 of its 100 errors are deletions: the decoder ends too soon; train on, "
        "or check that the transcripts belong to the audio (`asr doctor`)"], []]


@pytest.mark.parametrize("loss", [5.0, float("inf")])
def test_a_loss_that_rises(loss: float) -> None:
    told = said([epoch(0), epoch(1), epoch(2, loss=loss), epoch(3)])
    assert told == [[], [], [f"the loss rose to {loss:.3f} from 2.900: the learning rate is too high; lower train.lr, "
                             "or raise train.warmup"], []]


def test_updates_that_are_skipped() -> None:
    told = said([epoch(0, skipped=11), epoch(1, skipped=12), epoch(2, skipped=40)])
    advice = "lower train.lr, or look for broken data with `asr doctor`"
    assert told == [[f"11 of 100 updates had a gradient that was not finite and were skipped: {advice}"], [],
                    [f"28 of 100 updates had a gradient that was not finite and were skipped: {advice}"]]


def test_what_counts_as_near_the_diagonal() -> None:
    """Two rows of 10 and 6 steps over 40 and 24 frames: a straight walk, one that stands still, one by chance."""
    labels, frames = torch.tensor([10, 6]), torch.tensor([80, 48])
    walk = torch.zeros(2, 10, 40)
    for u in range(10):
        walk[:, u, 4 * u + 2] = 1
    assert _near_diagonal(walk, frames, labels) == 16
    still = torch.zeros(2, 10, 40)
    still[:, :, 0] = 1
    assert _near_diagonal(still, frames, labels) == 3           # 0.05 and 0.15 of the first row, 0.08 of the second
    dice = torch.Generator().manual_seed(0)
    chance = torch.rand(200, 30, 60, generator=dice)
    share = _near_diagonal(chance, torch.full((200,), 60), torch.full((200,), 30)) / 6000
    assert 0.33 < share < 0.39
    assert _near_diagonal(None, frames, labels) == 0
