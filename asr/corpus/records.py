"""The records that flow through the recipe, and their JSON-lines form.

A manifest has one JSON object a line, with the field names of NeMo: `id`, `audio_filepath` (absolute, or relative to
the manifest), `offset` and `duration` in seconds, `text` (phones between spaces), `speaker`. Whatever else a row holds
travels along in `extra`. Hypotheses have one object a line: `id`, `text`, `score`, `phones`, `health`.
"""

from __future__ import annotations

import io
import json
import math
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, overload

from asr.corpus.phones import composed
from asr.errors import AsrError
from asr.files import writing


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of a recording, and what was said in it if that is known."""

    id: str
    audio: Path
    offset: float = 0.0                     # seconds into the recording
    duration: float | None = None           # seconds; None: to the end of the recording
    phones: tuple[str, ...] | None = None   # None: not transcribed; (): transcribed, nothing was said
    speaker: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.phones is not None:
            object.__setattr__(self, "phones", tuple(map(composed, self.phones)))


@dataclass(frozen=True, slots=True)
class TimedPhone:
    """A phone and where it was heard."""

    phone: str
    start: float                            # seconds from the start of the utterance
    end: float
    confidence: float = 1.0                 # probability, 0 to 1

    def __post_init__(self) -> None:
        if not self.phone.isascii():
            object.__setattr__(self, "phone", composed(self.phone))


class PackedPhones(Sequence[TimedPhone]):
    """Timed phones of hours: 28 bytes each, where a tuple takes 150; they are made when they are looked at."""

    def __init__(self, phones: Iterable[TimedPhone]) -> None:
        self._numbers: dict[str, int] = {}
        self._ids = array("i")
        self._starts, self._ends, self._confidences = array("d"), array("d"), array("d")
        for phone in phones:
            self._ids.append(self._numbers.setdefault(phone.phone, len(self._numbers)))
            self._starts.append(phone.start)
            self._ends.append(phone.end)
            self._confidences.append(phone.confidence)
        self._names = list(self._numbers)

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, where: int) -> TimedPhone: ...

    @overload
    def __getitem__(self, where: slice) -> tuple[TimedPhone, ...]: ...

    def __getitem__(self, where: int | slice) -> TimedPhone | tuple[TimedPhone, ...]:
        if isinstance(where, slice):
            return tuple(self[i] for i in range(*where.indices(len(self))))
        return TimedPhone(self._names[self._ids[where]], self._starts[where], self._ends[where],
                          self._confidences[where])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == len(self) \
            and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None     # type: ignore[assignment]      # arrays can change


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What was recognised in one utterance."""

    id: str
    phones: Sequence[TimedPhone]
    score: float                            # log probability, natural logarithm, of the whole sequence
    health: dict[str, Any] = field(default_factory=dict)    # how the attention behaved; see search/health.py
    extra: dict[str, Any] = field(default_factory=dict)     # `audio_filepath`, `duration`, `nbest`, …

    @property
    def text(self) -> str:
        """The phones with one space between two."""
        return " ".join(p.phone for p in self.phones)


def read_manifest(path: Path, *, need_phones: bool = False) -> list[Utterance]:
    """Read a manifest and check it at the door.

    Raises:
        AsrError: naming file and line, for a row that is no JSON object, lacks `id` or `audio_filepath`, repeats an
            id, holds a field of the wrong type, or (with `need_phones`) has no or an empty `text`; for an empty file.
    """
    path = Path(path)
    seen: dict[str, int] = {}
    utterances = []
    for number, row in _json_rows(path):
        where = f"{path}:{number}"
        utterance = _utterance(row, where, path.parent)
        if utterance.id in seen:
            raise AsrError(f"{where}: id {utterance.id!r} was used in line {seen[utterance.id]} already: "
                           "rename or remove one")
        if need_phones and not utterance.phones:
            state = "no 'text'" if utterance.phones is None else "an empty 'text'"
            raise AsrError(f"{where}: utterance {utterance.id!r} has {state}, but its phones are needed here: "
                           "transcribe it or take the row out")
        seen[utterance.id] = number
        utterances.append(utterance)
    if not utterances:
        raise AsrError(f"{path}: holds no utterance: is it empty, or the wrong file?")
    return utterances


def each_row(path: Path) -> Iterator[tuple[int, Utterance | AsrError]]:
    """Rows of a manifest by line number, a bad one as the error that `read_manifest` would raise.

    Raises:
        AsrError: the file cannot be read or is not UTF-8.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")     # and not at U+2028, which a text may hold
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{path}: not UTF-8 text: {error.reason}: save it as UTF-8") from error
    for number, line in enumerate(lines, start=1):
        try:
            for _, row in _rows_of(io.StringIO(line), str(path)):
                yield number, _utterance(row, f"{path}:{number}", path.parent)
        except AsrError as error:
            yield number, AsrError(str(error).replace(f"{path}:1:", f"{path}:{number}:", 1))


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write utterances as a manifest; audio below the manifest's folder is named relative to it."""
    path = Path(os.path.abspath(path))
    with writing(path) as file:
        for utterance in utterances:
            file.write(json.dumps(manifest_row(utterance, path.parent), ensure_ascii=False) + "\n")


def manifest_row(utterance: Utterance, folder: Path | None = None) -> dict[str, Any]:
    """The manifest's JSON object for an utterance; audio below `folder` is named relative to it."""
    audio = str(utterance.audio)
    if folder is not None:
        audio = os.path.abspath(audio).removeprefix(os.path.join(os.path.abspath(folder), ""))
    row: dict[str, Any] = {"id": utterance.id, "audio_filepath": audio}
    if utterance.offset:
        row["offset"] = utterance.offset
    if utterance.duration is not None:
        row["duration"] = utterance.duration
    if utterance.phones is not None:
        row["text"] = " ".join(utterance.phones)
    if utterance.speaker is not None:
        row["speaker"] = utterance.speaker
    return row | utterance.extra


def read_hypotheses(source: Path | IO[str]) -> list[Hypothesis]:
    """Read hypotheses from a JSON-lines file or an open stream.

    Raises:
        AsrError: naming the line, for a row that is no hypothesis or repeats an id.
    """
    name = getattr(source, "name", "standard input") if not isinstance(source, Path) else source
    seen: dict[str, int] = {}
    hypotheses = []
    for number, row in _json_rows(source):
        where = f"{name}:{number}"
        hypothesis = _hypothesis(row, where)
        if hypothesis.id in seen:
            raise AsrError(f"{where}: id {hypothesis.id!r} was used in line {seen[hypothesis.id]} already: "
                           "rename or remove one")
        seen[hypothesis.id] = number
        hypotheses.append(hypothesis)
    return hypotheses


def hypothesis_row(hypothesis: Hypothesis) -> dict[str, Any]:
    """The JSON object for a hypothesis."""
    phones = [{"phone": p.phone, "start": round(p.start, 4), "end": round(p.end, 4),
               "confidence": round(p.confidence, 4)} for p in hypothesis.phones]
    score = round(hypothesis.score, 4) if math.isfinite(hypothesis.score) else None     # JSON knows no infinity
    return {"id": hypothesis.id, "text": hypothesis.text, "score": score, "phones": phones,
            "health": hypothesis.health} | hypothesis.extra


def _utterance(row: dict[str, Any], where: str, folder: Path) -> Utterance:
    for key in ("id", "audio_filepath"):
        if key not in row:
            raise AsrError(f"{where}: the row has no {key!r}: every row needs 'id' and 'audio_filepath'")
    for key in ("id", "audio_filepath", "text", "speaker"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise AsrError(f"{where}: {key!r} is {row[key]!r}: write it as text between quotes")
    if not (row["id"] or "").strip() or not row["audio_filepath"]:
        raise AsrError(f"{where}: 'id' and 'audio_filepath' cannot be empty: fill them in or take the row out")
    for key in ("id", "text", "speaker"):
        if any("\ud800" <= character <= "\udfff" for character in row.get(key) or ""):
            raise AsrError(f"{where}: {key!r} is {row[key]!r}: it holds half of a character: write it as UTF-8")
    if "\0" in row["audio_filepath"]:
        raise AsrError(f"{where}: 'audio_filepath' holds a NUL character: mend the path")
    offset = _seconds(row, "offset", where) or 0.0
    duration = _seconds(row, "duration", where)
    if duration == 0:
        raise AsrError(f"{where}: 'duration' of {row['id']!r} is 0 s: give the true duration or leave it out")
    text = row.get("text")
    known = {"id", "audio_filepath", "offset", "duration", "text", "speaker"}
    return Utterance(
        id=row["id"], audio=folder / row["audio_filepath"], offset=offset, duration=duration,
        phones=None if text is None else tuple(text.split()), speaker=row.get("speaker"),
        extra={key: value for key, value in row.items() if key not in known})


def _hypothesis(row: dict[str, Any], where: str) -> Hypothesis:
    known = {"id", "text", "score", "phones", "health"}
    try:
        if not isinstance(row["id"], str):
            raise TypeError
        if "phones" in row:
            phones = tuple(
                TimedPhone(str(p["phone"]), float(p["start"]), float(p["end"]), float(p.get("confidence", 1)))
                for p in row["phones"])
        else:
            phones = tuple(TimedPhone(phone, 0.0, 0.0) for phone in row["text"].split())
        score = row.get("score", 0.0)
        return Hypothesis(row["id"], phones, -math.inf if score is None else float(score),
                          dict(row.get("health") or {}),
                          {key: value for key, value in row.items() if key not in known})
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AsrError(f"{where}: no hypothesis: expected 'id' and 'text' or timed 'phones', "
                       "as `asr decode -f jsonl` writes them") from None


def _seconds(row: dict[str, Any], key: str, where: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise AsrError(f"{where}: {key!r} is {value!r}: it must be a number of seconds, 0 or more")
    return float(value)


def _json_rows(source: Path | IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered JSON objects of a file; blank lines are passed over."""
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                yield from _rows_of(file, str(source))
        except OSError as error:
            raise AsrError(f"{source}: cannot be read: {error.strerror}") from error
    else:
        yield from _rows_of(source, getattr(source, "name", "standard input"))


def _rows_of(file: Iterable[str | bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    try:
        for number, raw in enumerate(file, start=1):
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8") if isinstance(raw, bytes) else raw
            if line.strip():
                row = json.loads(line.strip())
                if not isinstance(row, dict):
                    raise AsrError(f"{name}:{number}: expected a JSON object, like {{\"id\": …}}")
                yield number, row
    except UnicodeDecodeError as error:
        raise AsrError(f"{name}:{number}: not UTF-8 text: {error.reason}: save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        reason = str(getattr(error, "msg", error)).removesuffix(" at")
        raise AsrError(f"{name}:{number}: not JSON: {reason}: mend the line or take it out") from error
