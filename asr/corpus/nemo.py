"""NeMo manifests: ours without ids, and with words where we have phones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.corpus.records import Utterance, manifest_row
from asr.corpus.splits import recording_seconds
from asr.errors import AsrError


def read_nemo(path: Path) -> list[Utterance]:
    """Utterances of a NeMo manifest; `text` becomes the phones, keys that we do not know travel along.

    A row without `id` is named after its audio file, with its place in the file where several rows share one.

    Raises:
        AsrError: naming the line that is no JSON object, lacks `audio_filepath`, or holds a field of the wrong type.
    """
    path = Path(path)
    rows = list(_rows(path))
    stems = Counter(Path(row["audio_filepath"]).stem for _, row in rows)
    utterances = []
    seen: dict[str, int] = {}
    for number, row in rows:
        stem = Path(row["audio_filepath"]).stem
        name = row.pop("id", None) or (stem if stems[stem] == 1 else f"{stem}-{seen.get(stem, 0):04d}")
        seen[stem] = seen.get(stem, 0) + 1
        text = row.pop("text", None)
        utterances.append(Utterance(
            str(name), path.parent / row.pop("audio_filepath"), _seconds(row, "offset", path, number) or 0.0,
            _seconds(row, "duration", path, number), None if text is None else tuple(str(text).split()),
            None if (speaker := row.pop("speaker", None)) is None else str(speaker), row))
    twice = [name for name, times in Counter(utterance.id for utterance in utterances).items() if times > 1]
    if twice:
        raise AsrError(f"{path}: id {twice[0]!r} stands for {'two' if len(twice) == 1 else 'several'} rows: give "
                       "each its own")
    return utterances


def nemo_row(utterance: Utterance) -> dict[str, Any]:
    """NeMo's row for an utterance: absolute path, duration always given; the id travels along.

    Raises:
        AsrError: the duration is not known and the recording cannot be read.
    """
    row = manifest_row(utterance)
    duration = utterance.duration
    if duration is None:
        duration = round(recording_seconds(utterance.audio) - utterance.offset, 6)
    known = {"audio_filepath": str(utterance.audio.resolve()), "duration": duration}
    return known | {key: value for key, value in row.items() if key not in known}


def write_nemo(utterances: Sequence[Utterance]) -> Iterator[str]:
    """Lines of a NeMo manifest."""
    for utterance in utterances:
        yield json.dumps(nemo_row(utterance), ensure_ascii=False)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")      # and not at U+2028, which a text may hold
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{path}: not UTF-8 text: {error.reason}: save it as UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AsrError(f"{path}:{number}: not JSON: {getattr(error, 'msg', error)}: mend the line or take it out"
                           ) from error
        if not isinstance(row, dict) or not isinstance(row.get("audio_filepath"), str) or not row["audio_filepath"]:
            raise AsrError(f"{path}:{number}: expected a JSON object with 'audio_filepath'")
        yield number, row


def _seconds(row: dict[str, Any], key: str, path: Path, number: int) -> float | None:
    value = row.pop(key, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise AsrError(f"{path}:{number}: {key!r} is {value!r}: it must be a number of seconds, 0 or more")
    return float(value)
