"""How well the attention behaved over a hypothesis: the signs by which a failed search can be told from a good one."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

SKIP = 1.0          # s: a step of the focus further than this skips speech or a pause
NAMED = 5           # hypotheses that a complaint names
LOOP = 4            # repetitions of the same phones in a row that count as a loop
STEPS = 29          # of the focus that are judged together, so that no bad second hides in a minute, nor taints an hour


def health(phones: Sequence[int] | Sequence[str], foci: Sequence[float], entropies: Sequence[float], *,
           seconds: float, ended: str) -> dict[str, Any]:
    """The signs, as plain data.

    Args:
        phones: of the hypothesis
        foci: the focus of each step in encoder frames, the end's among them where it was reached
        entropies: of the weights of each step, nats
        seconds: of an encoder frame
        ended: "eos", "limit" of length, or "cut": the sound broke off

    Returns:
        `monotonic` (share of steps whose focus did not go back), `jumps_back` (steps that did), `skipped` (seconds
        passed over in steps of more than a second), `loops` (phone sequences said four times in a row or more),
        `astray` ([start, end] in seconds of each loop, and of each stretch in which the focus wandered), `entropy`
        (mean, nats), `ended`.
    """
    back = sum(b < a for a, b in itertools.pairwise(foci))      # no list of jumps: hours would hold one
    skipped = sum((b - a) * seconds - SKIP for a, b in itertools.pairwise(foci) if (b - a) * seconds > SKIP)
    looped = list(loops(phones))
    bad = [(foci[first] * seconds, foci[last - 1] * seconds) for first, last in looped]
    return {"monotonic": round(1 - back / max(1, len(foci) - 1), 4), "jumps_back": back, "skipped": round(skipped, 2),
            "loops": len(looped), "astray": _merged([*bad, *_wandering(foci, seconds)]),
            "entropy": round(sum(entropies) / max(1, len(entropies)), 3), "ended": ended}


def loops(phones: Sequence[int] | Sequence[str], longest: int = 12) -> Iterator[tuple[int, int]]:
    """The stretches [first, last) that repeat one to `longest` phones at least four times in a row."""
    start = 0
    while start < len(phones):
        for period in range(1, longest + 1):
            run = 0
            while start + period + run < len(phones) and phones[start + run] == phones[start + period + run]:
                run += 1
            if run >= period * (LOOP - 1):
                yield start, start + period + run
                start += period + run
                break
        else:
            start += 1


def _wandering(foci: Sequence[float], seconds: float) -> Iterator[tuple[float, float]]:
    """Stretches of `STEPS` steps, in seconds, in which one in ten goes back; they overlap."""
    back: deque[bool] = deque(maxlen=STEPS)
    for u in range(1, len(foci)):
        back.append(foci[u] < foci[u - 1])
        if wanders(1 - sum(back) / STEPS, sum(back)):
            inside = foci[u - len(back):u + 1]
            yield min(inside) * seconds, max(inside) * seconds


def _merged(stretches: Iterable[tuple[float, float]]) -> list[list[float]]:
    """In order, those that overlap as one; rounded to hundredths."""
    merged: list[list[float]] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], round(end, 2))
        else:
            merged.append([round(start, 2), round(end, 2)])
    return merged


def wanders(monotonic: float, jumps_back: int) -> bool:
    """Whether the focus goes back too often to have followed the speech."""
    return monotonic < 0.9 and jumps_back > 2


def is_poor(signs: dict[str, Any], phones: int) -> bool:
    """Whether a hypothesis should not be trusted as it stands. Where nothing was found, the end is the only sign."""
    unsound = phones > 0 and not math.isfinite(signs.get("entropy", 0.0))
    astray = bool(signs.get("astray")) or signs.get("loops", 0) > 0 \
        or wanders(signs.get("monotonic", 1.0), signs.get("jumps_back", 0))
    return astray or signs.get("ended") in ("limit", "cut") or unsound


def complaint(poor: Sequence[str]) -> str:
    """What `asr decode --strict` says of the hypotheses that should not be trusted, by id; empty if there are none."""
    if not poor:
        return ""
    more = f" and {len(poor) - NAMED} more" if len(poor) > NAMED else ""
    is_flagged = "hypothesis is" if len(poor) == 1 else "hypotheses are"
    return (f"--strict: {len(poor)} {is_flagged} not to be trusted, the attention went astray or the sound broke off: "
            f"{', '.join(map(repr, poor[:NAMED]))}{more}: listen to them; 'health' in the output tells where")
