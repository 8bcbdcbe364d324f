"""What all readers give: an utterance's phones, and their times where the file tells."""

from __future__ import annotations

from dataclasses import dataclass

from asr.corpus.phones import composed
from asr.errors import AsrError


@dataclass(frozen=True, slots=True)
class Transcript:
    """The phones of one utterance."""

    id: str
    phones: tuple[str, ...]
    times: tuple[tuple[float, float], ...] | None = None    # (start, end) of each phone, s from the utterance's start
    speaker: str | None = None
    protocol: str | None = None     # digest of the scoring protocol that the phones went through already

    def __post_init__(self) -> None:
        object.__setattr__(self, "phones", tuple(map(composed, self.phones)))


def without_space(id: str, form: str) -> str:
    """The id, for a format that separates by spaces.

    Raises:
        AsrError: it has one.
    """
    if id.split() != [id]:
        raise AsrError(f"id {id!r} has a space in it, which {form} cannot hold: write jsonl, txt or trn, or rename it")
    return id
