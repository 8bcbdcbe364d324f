"""A line an utterance: Kaldi's `id phone phone …`, and `txt`, the same with a tab behind the id.

The tab lets an id hold spaces; Kaldi's form does not allow them.
"""

from __future__ import annotations

from asr.corpus.records import Hypothesis
from asr.formats.transcript import Transcript, without_space

_ONE_LINE = str.maketrans("\t\n\r", "   ")


def kaldi_line(hypothesis: Hypothesis) -> str:
    """The line of one utterance in a Kaldi `text` file.

    Raises:
        AsrError: the id has a space in it.
    """
    return f"{without_space(hypothesis.id, 'Kaldi text')} {hypothesis.text}".rstrip() + "\n"


def txt_line(hypothesis: Hypothesis) -> str:
    """Id, tab, phones; a tab or line end in the id becomes a space."""
    return f"{hypothesis.id.translate(_ONE_LINE)}\t{hypothesis.text}\n"


def read_text(text: str, where: str) -> list[Transcript]:
    """Utterances of either form; an id alone is an utterance in which nothing was said."""
    transcripts = []
    for line in text.split("\n"):
        if line.strip():
            id, _, phones = line.partition("\t") if "\t" in line else line.strip().partition(" ")
            transcripts.append(Transcript(id.strip(), tuple(phones.split())))
    return transcripts
