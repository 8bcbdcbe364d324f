"""Reading references and hypotheses in whatever form they come."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.corpus.labels import Segments, read_phn
from asr.corpus.records import Hypothesis, Utterance, read_hypotheses, read_manifest
from asr.corpus.textgrid import read_textgrid
from asr.errors import AsrError
from asr.formats.ctm import is_ctm, read_ctm
from asr.formats.files import id_of_file
from asr.formats.text import read_text
from asr.formats.transcript import Transcript
from asr.formats.trn import read_trn
from asr.formats.writers import WRITERS

KINDS = ("manifest", "jsonl", "trn", "ctm", "text", "textgrid", "phn", "score")
DECODED = tuple(form.file for form in WRITERS.values() if form.file.startswith("hypotheses."))     # in a folder
SUBTITLE = re.compile(r"^\d+:\d\d:\d\d,\d+ --> ", re.MULTILINE)
LINES: dict[str, Callable[[str, str], list[Transcript]]] = {"trn": read_trn, "ctm": read_ctm, "text": read_text}


def read_transcripts(source: str, kind: str | None = None) -> list[Transcript]:
    """Read utterances from a file, a folder, or standard input (`-`).

    Args:
        source: a manifest, hypotheses as JSON lines, trn, ctm, Kaldi `text` or data directory, TextGrid, .PHN, a score
            as JSON, or a folder: one that `asr decode` wrote, or of TextGrids or .PHN files, whose utterances are
            named by their files (in TIMIT's tree `speaker_sentence`).
        kind: one of KINDS; None: by ending and content.

    Raises:
        AsrError: it cannot be read, is not of that kind, repeats an id, or has an utterance without phones known.
    """
    if source != "-" and Path(source).is_dir():
        transcripts = _read_folder(Path(source), kind)
    else:
        text = _text_of(source)
        transcripts = _read(source, text, kind or kind_of(source, text))
    name = "standard input" if source == "-" else source
    if not transcripts:
        raise AsrError(f"{name}: holds no utterance: is it empty, or the wrong file?")
    seen: set[str] = set()
    for transcript in transcripts:
        if transcript.id in seen:
            raise AsrError(f"{name}: id {transcript.id!r} occurs twice: an id names one utterance: leave one "
                           "of them out")
        if not all(math.isfinite(second) for time in transcript.times or () for second in time):
            raise AsrError(f"{name}: {transcript.id!r} has a phone whose time is no number of seconds: mend it")
        seen.add(transcript.id)
    return transcripts


def kind_of(source: str, text: str) -> str:
    """What a file holds, by its ending, else by its first line."""
    ending = Path(source).suffix.lower().lstrip(".")
    if ending in ("trn", "ctm", "textgrid", "phn"):
        return ending
    if ending == "srt" or SUBTITLE.search(text):
        raise AsrError(f"{'standard input' if source == '-' else source}: subtitles do not tell which utterance is "
                       "which: give what `asr decode` writes as jsonl, trn, ctm, TextGrid or text")
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    if first == "{":
        return "score"
    if first.startswith("{") or (first and ending == "jsonl"):
        return "manifest" if '"audio_filepath"' in first and '"score"' not in first else "jsonl"
    if "ooTextFile" in first:
        return "textgrid"
    if is_ctm(first):
        return "ctm"
    return "trn" if first.endswith(")") else "text"


def _read(source: str, text: str, kind: str) -> list[Transcript]:
    path = Path(source)
    name = "standard input" if source == "-" else source
    if kind in LINES:
        return LINES[kind](text, name)
    if kind == "score":
        return _read_score(text, name)
    if kind == "textgrid":
        return [_segments(id_of_file(path), read_textgrid(path))]
    if kind == "phn":
        return [_timit(path)]
    if kind == "manifest" and source != "-":
        return [_of_utterance(utterance, name) for utterance in read_manifest(path)]
    return [_of_hypothesis(hypothesis) for hypothesis in read_hypotheses(path if source != "-" else io.StringIO(text))]


def _read_folder(folder: Path, kind: str | None) -> list[Transcript]:
    for name in DECODED:
        if kind is None and (folder / name).is_file():
            return read_transcripts(str(folder / name))
    by_ending: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        by_ending.setdefault(path.suffix.lower().lstrip("."), []).append(path)
    if kind in (None, "textgrid") and "textgrid" in by_ending:
        return [_segments(id_of_file(path), read_textgrid(path)) for path in by_ending["textgrid"]]
    if kind in (None, "phn") and "phn" in by_ending:
        return [_timit(path) for path in by_ending["phn"]]
    if kind in (None, "text") and (folder / "text").is_file():
        return list(_kaldi(folder))
    raise AsrError(f"{folder}: no transcripts here: expected .TextGrid files, .PHN files, a Kaldi 'text', "
                   "or what `asr decode --out` leaves in a folder")


def _timit(path: Path) -> Transcript:
    """An utterance of TIMIT by speaker and sentence: `FCJF0/SI1027.PHN` and `dr1-fcjf0/si1027.phn` are fcjf0_si1027."""
    name = path.stem.lower()
    if name[:2] in ("sa", "si", "sx") and name[2:].isdigit():
        speaker = path.parent.name.lower().rpartition("-")[2]
        return _segments(f"{speaker}_{name}", read_phn(path), speaker)
    return _segments(path.stem, read_phn(path))


def _segments(id: str, segments: Segments, speaker: str | None = None) -> Transcript:
    return Transcript(id, segments.phones, segments.times, speaker)


def _kaldi(folder: Path) -> Iterator[Transcript]:
    speakers = {}
    if (folder / "utt2spk").is_file():
        lines = _text_of(str(folder / "utt2spk")).split("\n")
        speakers = {fields[0]: fields[1] for fields in map(str.split, lines) if len(fields) == 2}
    for transcript in read_text(_text_of(str(folder / "text")), str(folder / "text")):
        yield replace(transcript, speaker=speakers.get(transcript.id))


def _of_utterance(utterance: Utterance, where: str) -> Transcript:
    if utterance.phones is None:
        raise AsrError(f"{where}: utterance {utterance.id!r} has no 'text': its phones must be known to score against")
    times: Any = utterance.extra.get("phone_times")
    if times is not None:
        try:
            times = tuple((float(start), float(end)) for start, end in times)
        except (TypeError, ValueError):
            raise AsrError(f"{where}: 'phone_times' of {utterance.id!r} are not [[start, end], …]: a pair of "
                           "seconds for each phone") from None
        if len(times) != len(utterance.phones):
            raise AsrError(f"{where}: {utterance.id!r} has {len(utterance.phones)} phones, {len(times)} 'phone_times': "
                           "give every phone its own")
    return Transcript(utterance.id, utterance.phones, times, utterance.speaker)


def _of_hypothesis(hypothesis: Hypothesis) -> Transcript:
    phones = hypothesis.phones
    timed = any(p.end > 0 for p in phones)
    speaker = hypothesis.extra.get("speaker")
    return Transcript(hypothesis.id, tuple(p.phone for p in phones),
                      tuple((p.start, p.end) for p in phones) if timed or not phones else None,
                      speaker if isinstance(speaker, str) else None)


def _read_score(text: str, where: str) -> list[Transcript]:
    """The hypotheses of a score that `asr score -f json` wrote, as its protocol left them."""
    try:
        system, = json.loads(text)["systems"]
        return [Transcript(row["id"], tuple(row["hypothesis"].split()), None, row["speaker"],
                           system["protocol"]["digest"]) for row in system["rows"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise AsrError(f"{where}: no score of one system, as `asr score -f json` writes it") from None


def _text_of(source: str) -> str:
    """The text of a file or of standard input, without a byte order mark, lines ended by a newline."""
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"     # Praat writes either
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise AsrError(f"{source}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{source}: not UTF-8 text: {error.reason}: save it as UTF-8") from error
