"""NIST's ctm: `recording channel start duration phone confidence`, a line a phone.

An utterance in which nothing was recognised has no line in a ctm; here it leaves the comment `;; empty ID`, which
sclite passes over and `read_ctm` understands.
"""

from __future__ import annotations

from asr.corpus.records import Hypothesis
from asr.errors import AsrError
from asr.formats.transcript import Transcript, without_space

EMPTY = ";; empty "


def ctm_lines(hypothesis: Hypothesis) -> str:
    """The lines of one utterance, in order of time; the recording is named by the utterance's id.

    Raises:
        AsrError: the id has a space in it.
    """
    name = without_space(hypothesis.id, "ctm")
    if not hypothesis.phones:
        return f"{EMPTY}{name}\n"
    return "".join(f"{name} 1 {p.start:.3f} {p.end - p.start:.3f} {p.phone} {p.confidence:.4f}\n"
                   for p in hypothesis.phones)


def read_ctm(text: str, where: str) -> list[Transcript]:
    """Utterances of a ctm file, each a recording; its phones are put in order of time.

    Raises:
        AsrError: naming the line that is none of a ctm.
    """
    timed: dict[str, list[tuple[float, float, str]]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith(EMPTY):
            timed.setdefault(line[len(EMPTY):].strip(), [])
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split()
        try:
            name, _, start, duration, phone = fields[:5]
            timed.setdefault(name, []).append((float(start), float(start) + float(duration), phone))
        except ValueError:
            raise AsrError(f"{where}:{number}: expected 'recording channel start duration phone [confidence]', "
                           f"not {line!r:.60}") from None
    return [_transcript(name, sorted(phones, key=lambda p: p[:2])) for name, phones in timed.items()]


def is_ctm(line: str) -> bool:
    """Whether a line looks like one of a ctm: two times with a decimal point in third and fourth place."""
    fields = line.split()
    if line.startswith(";;"):
        return True
    try:
        return len(fields) in (5, 6) and all("." in field and float(field) >= 0 for field in fields[2:4])
    except ValueError:
        return False


def _transcript(name: str, timed: list[tuple[float, float, str]]) -> Transcript:
    return Transcript(name, tuple(phone for _, _, phone in timed), tuple((start, end) for start, end, _ in timed))
