"""Named phone inventories, and the way from one to another.

    timit61, timit48, timit39     TIMIT's symbols and their folds (Lee and Hon 1989)
    arpabet, arpabet-stress       the CMU dictionary's 39 phones; vowels with a stress digit
    ipa, xsampa                   the International Phonetic Alphabet, and its ASCII form (Wells 1995)

Tables are data, each with its source in the first line. A map sends a phone to none, one or several phones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from asr.corpus.phones import read_fold
from asr.corpus.records import Utterance
from asr.errors import AsrError

TABLES = Path(__file__).with_name("tables")
TIMIT = Path(__file__).parents[1] / "scoring" / "protocols" / "timit-61-48-39.tsv"
CMU_PHONES = 39         # rows of the ARPAbet table that the CMU dictionary uses; the rest are TIMIT's
ARPABET_VOWELS = frozenset({"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"})
STRESS = re.compile(r"(?<=[A-Z])[0-2]$")
TIE = "\N{COMBINING DOUBLE INVERTED BREVE}"
SPELLINGS = str.maketrans({"g": "ɡ", "'": "ʼ", "’": "ʼ", ":": "ː", "ʤ": "d͡ʒ", "ʧ": "t͡ʃ", "ʦ": "t͡s", "ʣ": "d͡z"})

MapPhone = Callable[[str], tuple[str, ...] | None]


@dataclass(frozen=True, slots=True)
class PhoneMap:
    """A map between inventories: `phone` gives the phones it becomes, or None for a phone that it does not know."""

    source: str
    target: str
    phone: MapPhone

    def __call__(self, phones: Iterable[str], where: str = "") -> tuple[str, ...]:
        """The phones mapped, in order.

        Raises:
            AsrError: naming `where` and the phones that the map does not know.
        """
        return tuple(new for news in self._each(tuple(phones), where) for new in news)

    def utterance(self, utterance: Utterance) -> Utterance:
        """The utterance with its phones mapped; times follow, and one that becomes several is cut into equal parts;
        words keep the phones that theirs become."""
        if utterance.phones is None:
            return utterance
        each = self._each(utterance.phones, utterance.id)
        extra = dict(utterance.extra)
        times = extra.get("phone_times")
        if times is not None:
            if len(times) != len(each):
                raise AsrError(f"{utterance.id}: {len(times)} phone_times for {len(each)} phones")
            extra["phone_times"] = [part for (start, end), news in zip(times, each, strict=True)
                                    for part in _equal_parts(start, end, len(news))]
        if extra.get("word_phones") is not None:
            extra["word_phones"] = _phones_of_words(extra["word_phones"], each, utterance.id)
        return replace(utterance, phones=tuple(new for news in each for new in news), extra=extra)

    def _each(self, phones: tuple[str, ...], where: str) -> list[tuple[str, ...]]:
        each = [self.phone(phone) for phone in phones]
        unknown = sorted({phone for phone, news in zip(phones, each, strict=True) if news is None})
        if unknown:
            place = f"{where}: " if where else ""
            raise AsrError(f"{place}not in {self.source}, or without a form in {self.target}: {' '.join(unknown[:10])}"
                           f"{' …' if len(unknown) > 10 else ''}")
        return [news or () for news in each]


def inventory(name: str) -> tuple[str, ...]:
    """The phones of a named inventory, in the order of its table; for `ipa` and `xsampa`, letters and marks.

    Raises:
        AsrError: there is no inventory of that name.
    """
    if name.startswith("timit") and name in INVENTORIES:
        column = read_fold(TIMIT, "61", name.removeprefix("timit"))
        return tuple(dict.fromkeys(phone for phone in column.values() if phone is not None))
    if name == "arpabet":
        return tuple(read_fold(TABLES / "arpabet-ipa-xsampa.tsv", "arpabet", "ipa"))[:CMU_PHONES]
    if name == "arpabet-stress":
        return tuple(phone + digit for phone in inventory("arpabet")
                     for digit in (("0", "1", "2") if phone in ARPABET_VOWELS else ("",)))
    if name in ("ipa", "xsampa"):
        return tuple(read_fold(TABLES / "ipa-xsampa.tsv", name, name))
    raise AsrError(f"no phone inventory is called {name!r}: there are {' '.join(INVENTORIES)}")


def phone_map(source: str, target: str) -> PhoneMap:
    """The map from one named inventory to another.

    Raises:
        AsrError: a name is unknown, or no table leads from one to the other.
    """
    for name in (source, target):
        if name not in INVENTORIES:
            raise AsrError(f"no phone inventory is called {name!r}: there are {' '.join(INVENTORIES)}")
    if (source, target) not in MAPS:
        ways = " ".join(name for start, name in MAPS if start == source) or "nothing"
        raise AsrError(f"no table leads from {source} to {target}: from {source} one gets to {ways}")
    return PhoneMap(source, target, MAPS[source, target])


def normalise_ipa(phone: str) -> str:
    """One spelling for one IPA symbol: Unicode's composed form, `ɡ` for `g`, `ʼ` for `'`, ligatures as ties."""
    return unicodedata.normalize("NFC", phone.translate(SPELLINGS))


def strip_stress(phone: str) -> str:
    """An ARPAbet phone without its stress digit."""
    return STRESS.sub("", phone)


def ipa_to_xsampa(phone: str) -> str | None:
    """X-SAMPA of one IPA phone, letter by letter and mark by mark; None if a symbol has no form or two readings."""
    table = _symbols("ipa", "xsampa")
    letters = _spread(phone)
    if not letters or any(letter not in table for letter in letters):
        return None
    text = "".join(table[letter] for letter in letters)
    # `_` ties letters and begins marks: h͡w would read back as hʷ.
    return text if xsampa_to_ipa(text) == normalise_ipa(phone) else None


def xsampa_to_ipa(phone: str) -> str | None:
    """IPA of one X-SAMPA phone, the longest symbol first; None if a symbol is not in the table."""
    table = _symbols("xsampa", "ipa")
    result, rest = "", phone
    while rest:
        size = next((size for size in range(min(5, len(rest)), 0, -1) if rest[:size] in table), 0)
        if not size:
            return None
        result, rest = result + table[rest[:size]], rest[size:]
    return normalise_ipa(result)


def ipa_to_arpabet(phone: str) -> tuple[str, ...] | None:
    """The CMU phones nearest to an IPA phone of English, stress and length marks aside; `ʔ` becomes none."""
    table = _english()
    bare = normalise_ipa(phone).replace("ˈ", "").replace("ˌ", "").replace(TIE, "")
    found = table.get(bare, table.get(bare.replace("ː", "")))
    return None if found is None else tuple(found.replace("-", "").split())


def _spread(phone: str) -> list[str]:
    """Letters and marks of an IPA phone, apart; `ç` is a letter of its own."""
    parts: list[str] = []
    for character in normalise_ipa(phone):
        parts += [character] if character == "ç" else unicodedata.normalize("NFD", character)
    return parts


def _equal_parts(start: float, end: float, count: int) -> list[list[float]]:
    edges = [round(start + (end - start) * part / count, 6) for part in range(count + 1)] if count else []
    return [[left, right] for left, right in pairwise(edges)]


def _phones_of_words(counts: Any, each: Sequence[tuple[str, ...]], where: str) -> list[int]:
    """`word_phones` after every phone has become others."""
    try:
        ends = list(accumulate(counts, initial=0))
        if ends[-1] != len(each) or min(counts, default=0) < 0:
            raise ValueError
        return [sum(map(len, each[first:end])) for first, end in pairwise(ends)]
    except (TypeError, ValueError):
        raise AsrError(f"{where}: its word_phones are no numbers of phones that make up its {len(each)}") from None


@lru_cache
def _symbols(source: str, target: str) -> Mapping[str, str]:
    rows = read_fold(TABLES / "ipa-xsampa.tsv", source, target)
    return {key: value for key, value in rows.items() if value is not None}


@lru_cache
def _english() -> Mapping[str, str]:
    rows = read_fold(TABLES / "ipa-arpabet.tsv", "ipa", "arpabet")
    return {normalise_ipa(ipa).replace(TIE, ""): arpabet or "-" for ipa, arpabet in rows.items()}


def _table(path: Path, source: str, target: str) -> MapPhone:
    @lru_cache
    def rows() -> Mapping[str, str | None]:
        return read_fold(path, source, target)

    def phone(name: str) -> tuple[str, ...] | None:
        if name not in rows():
            return None
        new = rows()[name]
        return () if new is None else (new,)
    return phone


def _one(function: Callable[[str], str | None]) -> MapPhone:
    def phone(name: str) -> tuple[str, ...] | None:
        new = function(name)
        return None if new is None else (new,)
    return phone


def _arpabet_to(target: str) -> MapPhone:
    look_up = _table(TABLES / "arpabet-ipa-xsampa.tsv", "arpabet", target)
    unstressed = {"AH0": "AX", "ER0": "AXR"}    # the dictionary's schwas, which have letters of their own in IPA
    return lambda name: look_up(unstressed.get(name, strip_stress(name)))


def _drop_stress(name: str) -> tuple[str, ...] | None:
    known = _table(TABLES / "arpabet-ipa-xsampa.tsv", "arpabet", "arpabet")
    return known(strip_stress(name))


def _xsampa_to_arpabet(name: str) -> tuple[str, ...] | None:
    ipa = xsampa_to_ipa(name)
    return None if ipa is None else ipa_to_arpabet(ipa)


INVENTORIES = ("timit61", "timit48", "timit39", "arpabet", "arpabet-stress", "ipa", "xsampa")
MAPS: Mapping[tuple[str, str], MapPhone] = {
    ("timit61", "timit48"): _table(TIMIT, "61", "48"),
    ("timit61", "timit39"): _table(TIMIT, "61", "39"),
    ("timit48", "timit39"): _table(TIMIT, "48", "39"),
    ("arpabet-stress", "arpabet"): _drop_stress,
    ("arpabet-stress", "ipa"): _arpabet_to("ipa"),
    ("arpabet-stress", "xsampa"): _arpabet_to("xsampa"),
    ("arpabet", "ipa"): _arpabet_to("ipa"),
    ("arpabet", "xsampa"): _arpabet_to("xsampa"),
    ("ipa", "arpabet"): ipa_to_arpabet,
    ("ipa", "xsampa"): _one(ipa_to_xsampa),
    ("xsampa", "ipa"): _one(xsampa_to_ipa),
    ("xsampa", "arpabet"): _xsampa_to_arpabet,
}
