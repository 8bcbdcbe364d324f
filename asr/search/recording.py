"""What has been found in a long recording so far, in few bytes; and memory that is handed back on the way."""

from __future__ import annotations

import contextlib
import ctypes
from array import array
from typing import Any

from asr.search.health import health
from asr.search.longform import Settled


class Recording:
    """Phones as they settle: 12 bytes for each, where lists of numbers would take a hundred and more.

    A focus as float32 is good to a millisecond for the first three hours, and to 8 ms after a day.
    """

    def __init__(self) -> None:
        self.ids = array("i")
        self.log_probs, self.foci = array("f"), array("f")
        self.entropy = 0.0          # of all steps together
        self.score = 0.0
        self.pushed = self.again = 0
        self.cut = False            # some part of it was ended by the length limit

    def add(self, piece: Settled) -> None:
        """The next piece."""
        self.ids.extend(piece.ids)
        self.log_probs.extend(piece.log_probs)
        self.foci.extend(piece.foci)
        self.entropy += sum(piece.entropies)
        self.score += piece.score
        self.pushed += piece.pushed
        self.again += piece.again
        self.cut |= piece.ended == "limit"

    def health(self, seconds: float, *, broken: bool = False) -> dict[str, Any]:
        """The signs of `search.health`, and how often the focus was pushed on or a span searched again.

        Args:
            seconds: of an encoder frame
            broken: the sound breaks off before its end
        """
        ended = "cut" if broken else "limit" if self.cut else "eos"
        entropies = [self.entropy / len(self.foci)] if self.foci else []
        signs = health(self.ids, self.foci, entropies, seconds=seconds, ended=ended)
        return signs | {"pushed": self.pushed, "again": self.again}


def hand_back() -> None:
    """Give memory that was freed back to the system, where the C library can do that (glibc).

    Blocks of changing sizes leave holes between them: without this, an hour ends with more in hand than it needs.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
