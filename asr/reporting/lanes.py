"""Reference and hypothesis as lanes under a picture: which phone stands where, and what was wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asr.formats.transcript import Transcript
from asr.scoring.align import index_pairs
from asr.scoring.pra import kind
from asr.scoring.protocol import Protocol
from asr.scoring.score import Row

Times = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A phone in a lane."""

    phone: str
    start: float        # s
    end: float
    kind: str           # "" right, "S", "D" (in the reference), "I" (in the hypothesis)
    tip: str            # what a pointer that rests on it is told


@dataclass(frozen=True, slots=True)
class Lane:
    """All phones of one side."""

    name: str
    marks: tuple[Mark, ...]
    note: str = ""      # where the times come from, if they are not the lane's own


def lanes(row: Row, protocol: Protocol, reference: Transcript, hypothesis: Transcript, name: str,
          seconds: float) -> tuple[Lane, Lane]:
    """The lanes of one utterance.

    Phones stand as the protocol leaves them. A side without times borrows the other's through the alignment; without
    any times at all, both are spread evenly.

    Args:
        row: the utterance as scored
        protocol: by which it was
        reference, hypothesis: its phones and times before the protocol
        name: of the hypothesis' lane
        seconds: length of the utterance
    """
    said, heard = _own_times(protocol, reference), _own_times(protocol, hypothesis)
    said_note = heard_note = ""
    pairs = list(index_pairs(row.alignment))
    if heard is None and said is None:
        heard, heard_note = spread(len(row.hypothesis), 0.0, seconds), "no times known: spread evenly"
    if said is None and heard is not None:
        said, said_note = borrow(pairs, heard, seconds), "times borrowed from the hypothesis"
    if heard is None and said is not None:
        heard = borrow([(j, i) for i, j in pairs], said, seconds)
        heard_note = "times borrowed from the reference"
    assert said is not None
    assert heard is not None
    kinds = [(i, j, kind(None if i is None else row.reference[i], None if j is None else row.hypothesis[j]))
             for i, j in pairs]
    above = tuple(Mark(row.reference[i], *said[i], fault, _tip(row.reference[i], said[i], fault, j, row.hypothesis))
                  for i, j, fault in kinds if i is not None)
    below = tuple(Mark(row.hypothesis[j], *heard[j], fault, _tip(row.hypothesis[j], heard[j], fault, i, row.reference))
                  for i, j, fault in kinds if j is not None)
    return Lane("reference", above, said_note), Lane(name, below, heard_note)


def _own_times(protocol: Protocol, transcript: Transcript) -> Times | None:
    """Times of the phones that the protocol leaves; None where the transcript has none."""
    if transcript.times is None:
        return None
    times = transcript.times
    return [(times[first][0], times[last][1]) for _, first, last in protocol.spans(transcript.phones)]


def borrow(pairs: Sequence[tuple[int | None, int | None]], times: Times, seconds: float) -> Times:
    """Times for the left side of `pairs` out of those of the right side.

    A pair shares its time; phones without a partner divide the time of the partner before them (the first ones: of
    the one behind them) with its own phone.
    """
    slots: list[tuple[tuple[float, float], list[int]]] = []     # a time, and the phones of the left side that share it
    early: list[int] = []
    for i, j in pairs:
        if j is not None:
            slots.append((times[j], []))
        if i is not None:
            (slots[-1][1] if slots else early).append(i)
    if not slots:
        slots.append(((0.0, seconds), []))
    slots[0][1][:0] = early
    return [time for (start, end), group in slots for time in spread(len(group), start, end)]


def spread(count: int, start: float, end: float) -> Times:
    """So many equal parts of a stretch."""
    step = (end - start) / max(1, count)
    return [(start + n * step, start + (n + 1) * step) for n in range(count)]


def _tip(phone: str, time: tuple[float, float], fault: str, other: int | None, others: Sequence[str]) -> str:
    where = f"{phone}  {time[0]:.3f} to {time[1]:.3f} s"
    if fault == "S" and other is not None:
        return f"{where}, against {others[other]}"
    return where + {"D": ", deleted", "I": ", inserted"}.get(fault, "")
