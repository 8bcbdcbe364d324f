"""From features to hypotheses: encode a batch, search it, put times to what was found."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from asr import config
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Hypothesis, TimedPhone
from asr.model.attention import Memory
from asr.model.recognizer import Recognizer
from asr.search.beam import Found, search
from asr.search.health import health, is_poor
from asr.search.stepper import AttentionStepper, no_wider
from asr.search.times import tiled


@torch.inference_mode()
def recognise(network: Recognizer, feats: Tensor, frames: Tensor, settings: config.Decode) -> list[list[Found]]:
    """Search a padded batch: (B, T, F) features and (B,) frames → the n best of each utterance."""
    return search_memory(network, encode(network, feats, frames, settings), settings)


@torch.inference_mode()
def encode(network: Recognizer, feats: Tensor, frames: Tensor, settings: config.Decode) -> Memory:
    """A padded batch, (B, T, F) features and (B,) frames, as the decoder sees it; float32 whatever the precision."""
    with torch.autocast(feats.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        memory = network.encode(feats, frames)
    return replace(memory, values=memory.values.float())


@torch.inference_mode()
def search_memory(network: Recognizer, memory: Memory, settings: config.Decode) -> list[list[Found]]:
    """Search what is encoded: the n best of each utterance.

    Where the best one's attention went astray, the utterance is searched again by `fallback`'s settings, and the new
    result, marked `again`, stands if its signs are better.
    """
    found = _search(network, memory, settings)
    poor = [b for b, hypotheses in enumerate(found) if settings.fallback and _is_poor(hypotheses, network.seconds)]
    if poor:
        utterances = torch.tensor(poor, device=memory.lengths.device)
        retried = _search(network, memory.pick(utterances), fallback(settings))
        for b, hypotheses in zip(poor, retried, strict=True):
            if not _is_poor(hypotheses, network.seconds):
                found[b] = [hypothesis._replace(again=True) for hypothesis in hypotheses]
    return found


def fallback(settings: config.Decode) -> config.Decode:
    """Safer settings for a second try: a narrower window, more of the CTC branch, nothing else that was tuned."""
    window = settings.window.model_copy(update={"enabled": True, "back": min(0.3, settings.window.back),
                                                "ahead": min(0.8, settings.window.ahead)})
    return settings.model_copy(update={"window": window, "ctc_weight": max(0.5, settings.ctc_weight),
                                       "beam": max(4, settings.beam)})


def _search(network: Recognizer, memory: Memory, settings: config.Decode) -> list[list[Found]]:
    seconds = [length * network.seconds for length in memory.lengths.tolist()]
    stepper = AttentionStepper(network, no_wider(settings, max(seconds)))
    device = memory.values.device
    bf16 = settings.precision == "bf16" and device.type == "cuda"
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return search(stepper, stepper.start(memory), [math.ceil(s * settings.longest) for s in seconds],
                      width=settings.beam, nbest=settings.nbest, bonus=settings.length_bonus,
                      shortest=[math.floor(s * settings.shortest) for s in seconds], device=device)


def _is_poor(found: Sequence[Found], seconds: float) -> bool:
    if not found:
        return True
    best = found[0]
    signs = health(best.ids, best.notes[:, 0].tolist(), best.notes[:, 1].tolist(), seconds=seconds, ended=best.ended)
    return is_poor(signs, len(best.ids))


def hypothesis_of(id: str, found: Sequence[Found], phones: PhoneSet, *, seconds: float,
                  duration: float, starts: Sequence[float] | None = None) -> Hypothesis:
    """The best of what was found as a record; the others go into `nbest`.

    Args:
        seconds: of an encoder frame
        duration: of the utterance in seconds; the phones tile it
        starts: of the best one's phones, in seconds; None: as the attention has it
    """
    if not found:
        return Hypothesis(id, (), -math.inf, {"ended": "limit"})
    best = found[0]
    foci, entropies = best.notes[:, 0].tolist(), best.notes[:, 1].tolist()
    signs = health(best.ids, foci, entropies, seconds=seconds, ended=best.ended)
    signs |= {"pushed": 0, "again": int(best.again)}
    extra = {} if len(found) == 1 else {"nbest": [
        {"text": " ".join(phones.decode(other.ids)), "score": round(other.score, 4)} for other in found]}
    names = phones.decode(best.ids)
    if starts is None:
        timed = tuple(timed_phones(names, foci, best.log_probs, seconds=seconds, duration=duration))
    else:
        timed = tiled(names, starts, [math.exp(min(0.0, value)) for value in best.log_probs[:len(names)]], duration)
    return Hypothesis(id, timed, best.score, signs, extra)


def timed_phones(phones: Sequence[str], foci: Sequence[float], log_probs: Sequence[float], *, seconds: float,
                 duration: float) -> Iterator[TimedPhone]:
    """Phones whose borders lie midway between the foci of neighbours; they tile [0, duration]."""
    heard = (min(duration, max(0.0, (focus + 0.5) * seconds)) for focus in itertools.islice(foci, len(phones)))
    centres = itertools.accumulate(heard, max)
    borders = itertools.chain([0.0], ((a + b) / 2 for a, b in itertools.pairwise(centres)), [duration])
    for phone, (start, end), log_prob in zip(phones, itertools.pairwise(borders), log_probs, strict=False):
        yield TimedPhone(phone, start, end, math.exp(min(0.0, log_prob)))
