"""How well the attention behaved over a hypothesis: the signs by which a failed search can be told from a good one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

SKIP = 1.0          # s: a step of the focus further than this skips speech or a pause
NAMED = 5           # hypotheses that a complaint names
LOOP = 4            # repetitions of the same phones in a row that count as a loop


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
        `entropy` (mean, nats), `ended`.
    """
    jumps = [b - a for a, b in itertools.pairwise(foci)]
    back = sum(jump < 0 for jump in jumps)
    skipped = sum(jump * seconds - SKIP for jump in jumps if jump * seconds > SKIP)
    return {"monotonic": round(1 - back / max(1, len(jumps)), 4), "jumps_back": back, "skipped": round(skipped, 2),
            "loops": loops(phones), "entropy": round(sum(entropies) / max(1, len(entropies)), 3), "ended": ended}


def loops(phones: Sequence[int] | Sequence[str], longest: int = 12) -> int:
    """How many stretches repeat one to `longest` phones at least four times in a row."""
    found, start = 0, 0
    while start < len(phones):
        for period in range(1, longest + 1):
            run = 0
            while start + period + run < len(phones) and phones[start + run] == phones[start + period + run]:
                run += 1
            if run >= period * (LOOP - 1):
                found, start = found + 1, start + period + run
                break
        else:
            start += 1
    return found


def is_poor(signs: dict[str, Any], phones: int) -> bool:
    """Whether a hypothesis should not be trusted as it stands. Where nothing was found, the end is the only sign."""
    wandering = signs.get("monotonic", 1.0) < 0.9 and signs.get("jumps_back", 0) > 2
    unsound = phones > 0 and not math.isfinite(signs.get("entropy", 0.0))
    return signs.get("loops", 0) > 0 or signs.get("ended") in ("limit", "cut") or wandering or unsound


def complaint(poor: Sequence[str]) -> str:
    """What `asr decode --strict` says of the hypotheses that should not be trusted, by id; empty if there are none."""
    if not poor:
        return ""
    more = f" and {len(poor) - NAMED} more" if len(poor) > NAMED else ""
    is_flagged = "hypothesis is" if len(poor) == 1 else "hypotheses are"
    return (f"--strict: {len(poor)} {is_flagged} not to be trusted, the attention went astray or the sound broke off: "
            f"{', '.join(map(repr, poor[:NAMED]))}{more}: listen to them; 'health' in the output tells more")
