"""Signs in a run's history that it goes wrong, each with advice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from asr.config import Train

History = Sequence[dict[str, Any]]      # one entry an epoch, as log.jsonl has them

ALIGNED = 50.0      # % of steps near the diagonal; weights of chance come to 36, a gaze that stands still to 20 to 40
PATIENCE = 3        # epochs that the attention gets to align
DELETED = 0.9       # share of the errors that are deletions from which the decoder ends too soon
RISE = 1.5          # times the best loss so far
SKIPPED = 0.1       # share of the updates of an epoch


def warnings_of(history: History, settings: Train) -> list[str]:
    """What is wrong since the last epoch, and was not at the one before."""
    before = history[:-1]
    return [text for rule in RULES if (text := rule(history, settings)) and not (before and rule(before, settings))]


def _unaligned(history: History, settings: Train) -> str:
    last = history[-1]
    taught = [entry for entry in history if entry["update"] > settings.ctc_warmup]
    share = last.get("diagonal")
    if share is None or len(taught) < PATIENCE or share >= ALIGNED:
        return ""
    return (f"the attention has not aligned: {share:.0f} % of its steps are near the diagonal after {len(taught)} "
            "epochs; wake the encoder first (train.ctc_warmup), begin with a model (--init), or with short utterances "
            "for longer (train.shortest_first)")


def _deleting(history: History, settings: Train) -> str:
    last = history[-1]
    errors = sum(last.get(kind, 0) for kind in ("ins", "del", "sub"))
    if len(history) < 2 or last["update"] <= settings.ctc_warmup or last["per"] < 50 or not errors \
            or last["del"] < DELETED * errors:
        return ""
    return (f"the dev set is hardly spelt at all: {last['del']} of its {errors} errors are deletions: the decoder "
            "ends too soon; train on, or check that the transcripts belong to the audio (`asr doctor`)")


def _exploding(history: History, settings: Train) -> str:
    last = history[-1]
    earlier = [entry["loss"] for entry in history[:-1] if entry["update"] > settings.ctc_warmup]
    best = min(earlier, default=math.inf)
    if not last["loss"] > RISE * best:
        return ""
    return (f"the loss rose to {last['loss']:.3f} from {best:.3f}: the learning rate is too high; lower train.lr, "
            "or raise train.warmup")


def _skipping(history: History, settings: Train) -> str:
    last = history[-1]
    before = history[-2] if len(history) > 1 else {"update": 0, "skipped": 0}
    skipped, updates = last["skipped"] - before["skipped"], last["update"] - before["update"]
    if skipped <= SKIPPED * updates:
        return ""
    return (f"{skipped} of {updates} updates had a gradient that was not finite and were skipped: lower train.lr, or "
            "look for broken data with `asr doctor`")


RULES: tuple[Callable[[History, Train], str], ...] = (_unaligned, _deleting, _exploding, _skipping)
