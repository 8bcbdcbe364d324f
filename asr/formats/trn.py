"""NIST's trn: `phone phone phone (utterance-id)`, a line an utterance, for sclite.

sclite gives `@ { } / ( )` a meaning of its own (nothing, alternatives, optional words). In phones and ids they are
written as `%40 %7B %7D %2F %28 %29`, and `%` as `%25`; the reader turns those back and takes every other symbol as
it stands. sclite ignores case unless it is told `-s`.
"""

from __future__ import annotations

import re

from asr.corpus.records import Hypothesis
from asr.errors import AsrError
from asr.formats.transcript import Transcript

SPECIAL = "@{}/()%\t\n\r"
_ESCAPE = str.maketrans({character: f"%{ord(character):02X}" for character in SPECIAL})
_ESCAPED = re.compile("|".join(f"%{ord(character):02X}" for character in SPECIAL))
_LINE = re.compile(r"(.*?)\s*\(([^()]*)\)\s*")


def trn_line(hypothesis: Hypothesis) -> str:
    """The line of one utterance; an empty one is still a line."""
    phones = [p.phone.translate(_ESCAPE) for p in hypothesis.phones]
    return " ".join([*phones, f"({hypothesis.id.translate(_ESCAPE)})"]) + "\n"


def read_trn(text: str, where: str) -> list[Transcript]:
    """Utterances of a trn file.

    Raises:
        AsrError: naming the line that does not end in an id between brackets.
    """
    transcripts = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None or not match[2].strip():
            raise AsrError(f"{where}:{number}: a trn line ends in its id, like 'k ae t (utt-1)': {line!r:.60}")
        transcripts.append(Transcript(_plain(match[2].strip()), tuple(_plain(phone) for phone in match[1].split())))
    return transcripts


def _plain(symbol: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[0][1:], 16)), symbol)
