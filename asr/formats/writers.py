"""Writing hypotheses, in one format or several at once, to standard output, a file or a folder."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.corpus.records import Hypothesis, hypothesis_row
from asr.errors import AsrError, UsageError
from asr.files import writing
from asr.formats.ctm import ctm_lines
from asr.formats.files import file_of_id
from asr.formats.srt import srt
from asr.formats.text import kaldi_line, txt_line
from asr.formats.textgrid import textgrid
from asr.formats.trn import trn_line

Sink = Callable[[Hypothesis], None]
PIECE = 1000        # phones of a hypothesis that are JSON objects at the same time


@dataclass(frozen=True, slots=True)
class Format:
    """How a hypothesis looks, and what its file is called in a folder."""

    text: Callable[[Hypothesis], Any]   # a str; of a binary format bytes
    file: str                   # a name; of a format with a file for each utterance the ending
    each: bool = False          # a file for each utterance
    sorted: bool = False        # by id, as sclite and Kaldi want it, so at the end; the others are written as they come
    binary: bool = False
    pieces: Callable[[Hypothesis], Iterable[str]] | None = None     # the text bit by bit, where it may be of hours


def jsonl_pieces(hypothesis: Hypothesis) -> Iterator[str]:
    """The JSON object of one utterance, on a line, bit by bit; `read_hypotheses` reads it back.

    Phones become text a thousand at a time: the text of two hours would take more memory than the search did.
    """
    frame = hypothesis_row(replace(hypothesis, phones=())) | {"text": hypothesis.text}
    before, empty, after = json.dumps(frame, ensure_ascii=False).partition('"phones": []')
    yield before + empty[:-1]
    for first in range(0, len(hypothesis.phones), PIECE):
        row = hypothesis_row(replace(hypothesis, phones=hypothesis.phones[first:first + PIECE]))
        yield ", " * bool(first) + json.dumps(row["phones"], ensure_ascii=False)[1:-1]
    yield f"]{after}\n"


def jsonl_line(hypothesis: Hypothesis) -> str:
    """The same as a whole."""
    return "".join(jsonl_pieces(hypothesis))


WRITERS: dict[str, Format] = {
    "jsonl": Format(jsonl_line, "hypotheses.jsonl", pieces=jsonl_pieces),
    "txt": Format(txt_line, "hypotheses.txt"),
    "trn": Format(trn_line, "hypotheses.trn"),
    "ctm": Format(ctm_lines, "hypotheses.ctm", sorted=True),
    "kaldi": Format(kaldi_line, "text", sorted=True),
    "textgrid": Format(textgrid, ".TextGrid", each=True),
    "srt": Format(srt, ".srt", each=True),
}


class _Nothing(Exception):  # noqa: N818 (no error: it keeps `writing` from its rename)
    """There was no hypothesis."""


def write_hypotheses(hypotheses: Iterable[Hypothesis], formats: str | Sequence[str], out: Path | None = None,
                     more: Mapping[str, Format] | None = None) -> int:
    """Write hypotheses as they come, and tell how many there were.

    Args:
        hypotheses: read once; nothing is kept in memory but what a format must sort.
        formats: names from WRITERS or `more`. Several need a folder.
        out: None for standard output; a file; or a folder (one that exists, or any for several formats or for a
            format with a file for each utterance). In a folder the files are named by the format or by the id.
        more: formats that need more than a hypothesis, such as pictures.

    Raises:
        AsrError: an unknown format, a file that cannot be written, an utterance that a format cannot hold, or more
            than one of these where a folder is needed. What was whole before stays, a part of a file does not.

    Of no hypothesis at all nothing is written, and an earlier file stays: an empty one would look like a result.
    """
    names = [formats] if isinstance(formats, str) else list(dict.fromkeys(formats))
    known = WRITERS | dict(more or {})
    for name in names:
        if name not in known:
            raise AsrError(f"-f {name}: no such format: choose among {', '.join(known)}")
    if len(names) > 1 and (out is None or out.is_file()):
        raise UsageError(f"{len(names)} formats ({', '.join(names)}) need a folder: give --out FOLDER")
    written = 0
    with contextlib.suppress(_Nothing), ExitStack() as stack:
        sinks = [stack.enter_context(_sink(name, known[name], out, len(names) > 1)) for name in names]
        for hypothesis in hypotheses:
            for sink in sinks:
                sink(hypothesis)
            written += 1
        if not written:
            raise _Nothing
    return written


def _sink(name: str, form: Format, out: Path | None, several: bool) -> contextlib.AbstractContextManager[Sink]:
    """Where the hypotheses of one format go."""
    if out is not None and form.each and (several or out.is_dir() or out.suffix.lower() != form.file.lower()):
        return contextlib.nullcontext(_each_in(out, form))
    if out is not None and (several or out.is_dir()):
        out = out / form.file
    if form.each:
        return _only_one(name, form, out)
    return _sorted(form, out) if form.sorted else _live(form, out)


def _each_in(folder: Path, form: Format) -> Sink:
    def write(hypothesis: Hypothesis) -> None:
        text = form.text(hypothesis)
        with writing(folder / (file_of_id(hypothesis.id) + form.file), "wb" if form.binary else "w") as file:
            file.write(text)
    return write


@contextlib.contextmanager
def _live(form: Format, out: Path | None) -> Iterator[Sink]:
    """Line by line, flushed, so that whoever reads along sees each at once."""
    with _opened(out) as write:
        def write_one(hypothesis: Hypothesis) -> None:
            for piece in form.pieces(hypothesis) if form.pieces is not None else [form.text(hypothesis)]:
                write(piece)
        yield write_one


@contextlib.contextmanager
def _sorted(form: Format, out: Path | None) -> Iterator[Sink]:
    """All at the end, in the order of the C locale, which is that of UTF-8's bytes."""
    blocks: list[tuple[bytes, str]] = []
    with _opened(out) as write:
        yield lambda hypothesis: blocks.append((hypothesis.id.encode(), form.text(hypothesis)))
        write("".join(text for _, text in sorted(blocks)))


@contextlib.contextmanager
def _only_one(name: str, form: Format, out: Path | None) -> Iterator[Sink]:
    """A format with a file for each utterance, to one place: so of one utterance."""
    if form.binary and out is None and sys.stdout.isatty():
        raise AsrError(f"-f {name}: is nothing for a terminal: give --out FILE{form.file}")
    texts: list[Any] = []

    def write_one(hypothesis: Hypothesis) -> None:
        if texts:
            raise AsrError(f"{name} of several utterances needs a folder: give --out FOLDER")
        texts.append(form.text(hypothesis))
    with _opened(out, form.binary) as write:
        yield write_one
        for text in texts:
            write(text)


@contextlib.contextmanager
def _opened(out: Path | None, binary: bool = False) -> Iterator[Callable[[Any], None]]:
    stdout = sys.stdout.buffer if binary else sys.stdout
    with writing(out, "wb" if binary else "w") if out is not None else contextlib.nullcontext(stdout) as file:
        def write(text: Any) -> None:
            file.write(text)
            file.flush()
        yield write
