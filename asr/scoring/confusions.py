"""What was taken for what: by phone and by class of phone."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asr.scoring.align import pairs
from asr.scoring.report import table
from asr.scoring.score import Score

CLASSES = ("vowel", "approximant", "nasal", "fricative", "affricate", "stop", "click", "silence", "other")
TABLE = Path(__file__).with_name("protocols") / "phone-classes.tsv"
TIMIT = Path(__file__).with_name("protocols") / "timit-61-48-39.tsv"
_AFFRICATE = re.compile("^[tdkɡgpbʈɖcɟq][\u0361\u035c]?[szʃʒɕʑʂʐfvxɣθðɬɮçʝχ]")

Confusions = Counter[tuple[str | None, str | None]]     # (reference, hypothesis); None: inserted, or deleted


def confusions(score: Score) -> Confusions:
    """How often each phone was taken for each, itself included."""
    return Counter(pair for row in score.rows for pair in pairs(row.alignment, row.reference, row.hypothesis))


def by_class(counts: Confusions) -> Confusions:
    """The same between classes of phones."""
    classes = classify({phone for pair in counts for phone in pair if phone is not None})
    grouped: Confusions = Counter()
    for (reference, hypothesis), number in counts.items():
        grouped[None if reference is None else classes[reference],
                None if hypothesis is None else classes[hypothesis]] += number
    return grouped


def classify(phones: Iterable[str]) -> dict[str, str]:
    """The class of each phone, one of CLASSES, by the manner of articulation.

    Phones in ASCII letters are looked up among ARPAbet's and TIMIT's symbols, whatever their case and stress digit; a
    set with any other letter in it, and what is not found there, is read as IPA: by the first letter of each phone
    (so that `aɪ` is a vowel), two letters where they are an affricate.
    """
    phones = list(phones)
    silence = {symbol: "silence" for symbol, name in _column(TABLE, "arpabet").items() if name == "silence"}
    if all(phone.isascii() for phone in phones):
        table = _column(TIMIT, "61") | _column(TIMIT, "48") | _column(TIMIT, "39") | _column(TABLE, "arpabet")
        found = {phone: table.get(phone.lower().rstrip("012")) for phone in phones}
    else:
        found = {phone: silence.get(phone.lower()) for phone in phones}
    ipa = _column(TABLE, "ipa")
    return {phone: name or _ipa_class(phone, ipa) for phone, name in found.items()}


def _ipa_class(phone: str, table: Mapping[str, str]) -> str:
    if _AFFRICATE.match(phone):
        return "affricate"
    letters = unicodedata.normalize("NFC", phone)       # ç is a letter of its own, ẽ an e
    bases = (letter if letter in table else unicodedata.normalize("NFD", letter)[0] for letter in letters)
    return next((table[base] for base in bases if base in table), "other")


def _column(path: Path, column: str) -> dict[str, str]:
    """Symbol to class, out of a table with a column `class`."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    at, of = rows[0].index(column), rows[0].index("class")
    return {symbol: row[of] for row in rows[1:] for symbol in row[at].split() if symbol != "-"}


def confusions_text(score: Score, most: int = 50) -> str:
    """The commonest confusions, then the matrix by class and by phone: a row a reference phone."""
    counts = confusions(score)
    wrong = [(pair, number) for pair, number in counts.items() if pair[0] != pair[1]]
    wrong.sort(key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))
    lines = [(number, pair[0] or "-", pair[1] or "-", _rate(counts, pair)) for pair, number in wrong[:most]]
    left_out = f"… and {len(wrong) - most:,} rarer pairs\n" if len(wrong) > most else ""
    return "\n".join([
        table(lines, ("count", "reference", "hypothesis", "of reference"), left=0) + left_out,
        matrix(by_class(counts), CLASSES), matrix(counts, sorted({p for pair in counts for p in pair if p}))])


def matrix(counts: Confusions, names: Sequence[str]) -> str:
    """Counts as a table: reference phones down, hypotheses across, `del` and `ins` at the edges; zeros as dots."""
    used: list[str | None] = [*(name for name in names if any(name in pair for pair in counts)), None]
    rows = [(reference or "ins", *(counts[reference, hypothesis] or "." for hypothesis in used)) for reference in used]
    rows[-1] = (*rows[-1][:-1], "")
    return table(rows, ("ref \\ hyp", *(name or "del" for name in used)))


def _rate(counts: Confusions, pair: tuple[str | None, str | None]) -> str:
    """The share of the reference phone that became this; insertions have none."""
    if pair[0] is None:
        return "-"
    return f"{100 * counts[pair] / sum(n for (reference, _), n in counts.items() if reference == pair[0]):.1f} %"
