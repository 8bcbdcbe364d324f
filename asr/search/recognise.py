"""From features to hypotheses: encode a batch, search it, put times to what was found."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from asr import config
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Hypothesis, TimedPhone
from asr.model.recognizer import Recognizer
from asr.search.beam import Found, search
from asr.search.health import health
from asr.search.stepper import AttentionStepper


@torch.inference_mode()
def recognise(network: Recognizer, feats: Tensor, frames: Tensor, settings: config.Decode) -> list[list[Found]]:
    """Search a padded batch: (B, T, F) features and (B,) frames → the n best of each utterance."""
    bf16 = settings.precision == "bf16"
    with torch.autocast(feats.device.type, torch.bfloat16, enabled=bf16):
        memory = network.encode(feats, frames)
    stepper = AttentionStepper(network, settings)
    seconds = (memory.lengths * network.seconds).tolist()
    with torch.autocast(feats.device.type, torch.bfloat16, enabled=bf16 and feats.device.type == "cuda"):
        return search(stepper, stepper.start(memory), [math.ceil(s * settings.longest) for s in seconds],
                      width=settings.beam, nbest=settings.nbest, bonus=settings.length_bonus,
                      shortest=[math.floor(s * settings.shortest) for s in seconds], device=feats.device)


def hypothesis_of(id: str, found: Sequence[Found], phones: PhoneSet, *, seconds: float,
                  duration: float) -> Hypothesis:
    """The best of what was found as a record; the others go into `nbest`.

    Args:
        seconds: of an encoder frame
        duration: of the utterance in seconds; the phones tile it
    """
    if not found:
        return Hypothesis(id, (), -math.inf, {"ended": "limit"})
    best = found[0]
    foci, entropies = best.notes[:, 0].tolist(), best.notes[:, 1].tolist()
    signs = health(best.ids, foci, entropies, seconds=seconds, ended=best.ended)
    extra = {} if len(found) == 1 else {"nbest": [
        {"text": " ".join(phones.decode(other.ids)), "score": round(other.score, 4)} for other in found]}
    timed = timed_phones(phones.decode(best.ids), foci, best.log_probs, seconds=seconds, duration=duration)
    return Hypothesis(id, timed, best.score, signs, extra)


def timed_phones(phones: Sequence[str], foci: Sequence[float], log_probs: Sequence[float], *, seconds: float,
                 duration: float) -> tuple[TimedPhone, ...]:
    """Phones whose borders lie midway between the foci of neighbours; they tile [0, duration]."""
    centres, latest = [], 0.0
    for focus in foci[:len(phones)]:
        latest = min(duration, max(latest, (focus + 0.5) * seconds))
        centres.append(latest)
    borders = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(centres)), duration]
    return tuple(TimedPhone(phone, start, end, min(1.0, math.exp(log_prob)))
                 for phone, start, end, log_prob in zip(phones, borders, borders[1:], log_probs, strict=False))
