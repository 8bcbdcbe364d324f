"""The inventory of phones that a model knows, and maps between inventories.

A phone with marks, such as ã, can be written in several ways that look alike. Everywhere it is the composed one
(Unicode's normal form C): utterances, hypotheses, phone sets and folds bring their phones into it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asr.errors import AsrError


def composed(phone: str) -> str:
    """A phone in normal form C, in which what looks alike is alike."""
    return phone if phone.isascii() else unicodedata.normalize("NFC", phone)


END = "<eos>"   # id 0: the end for the decoder, the start as its first input, the blank for the CTC branch


class PhoneSet:
    """Phones and their ids. Id 0 is `<eos>`; phones count from 1 in the order given."""

    def __init__(self, phones: Sequence[str]) -> None:
        bad = [p for p in phones if not p or p != "".join(p.split()) or p == END]
        if bad:
            raise AsrError(f"{bad[0]!r} cannot be a phone: a phone is not empty, has no space in it, and is not {END}")
        phones = [composed(phone) for phone in phones]
        if len(set(phones)) != len(phones):
            raise AsrError("a phone set names a phone twice")
        self.phones: tuple[str, ...] = tuple(phones)
        self._ids = {phone: number for number, phone in enumerate(self.phones, start=1)}

    @classmethod
    def of(cls, transcripts: Iterable[Iterable[str]]) -> PhoneSet:
        """The set of all phones that occur in the transcripts, sorted by name."""
        return cls(sorted({composed(phone) for transcript in transcripts for phone in transcript}))

    def __len__(self) -> int:
        """The number of ids, `<eos>` counted: the V of the model."""
        return len(self.phones) + 1

    def __contains__(self, phone: str) -> bool:
        return phone in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PhoneSet) and self.phones == other.phones

    def __hash__(self) -> int:
        return hash(self.phones)

    def encode(self, phones: Iterable[str], where: str = "") -> list[int]:
        """Ids of phones.

        Raises:
            AsrError: for a phone outside the set, naming it and `where`.
        """
        try:
            return [self._ids[composed(phone)] for phone in phones]
        except KeyError as error:
            place = f"{where}: " if where else ""
            raise AsrError(f"{place}unknown phone {error.args[0]!r}: map it or take it out, the model knows "
                           f"{' '.join(self.phones[:60])}{' …' if len(self.phones) > 60 else ''}") from None

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Phones of ids; `<eos>` has none and must not be among them."""
        return [self.phones[number - 1] for number in ids if number > 0]


def read_fold(path: Path, source: str, target: str) -> Mapping[str, str | None]:
    """Read one fold out of a table of phone inventories.

    The table is tab-separated: comment lines begin with `#`, the first other line names the columns (say `61 48 39`),
    and `-` in the target column means that the phone is dropped (None in the map).

    Raises:
        AsrError: the file or a column is missing, or a row has another number of fields.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{path}: not UTF-8 text: {error.reason}: save it as UTF-8") from error
    rows = [composed(line).split("\t") for line in lines if line.strip() and not line.startswith("#")]
    header = rows[0] if rows else []
    for column in (source, target):
        if column not in header:
            raise AsrError(f"{path}: has no column {column!r}: it has {' '.join(header)}")
    bad = [row for row in rows if len(row) != len(header)]
    if bad:
        raise AsrError(f"{path}: the row {' '.join(bad[0])!r} has {len(bad[0])} fields, the header {len(header)}: part "
                       "them by tabs")
    src, dst = header.index(source), header.index(target)
    return {row[src]: None if row[dst] == "-" else row[dst] for row in rows[1:]}
