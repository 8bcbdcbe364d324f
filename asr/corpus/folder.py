"""A folder of recordings with label files beside them: `x.wav` and `x.phn`, `x.TextGrid`, `x.lab` or `x.txt`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import soundfile

from asr.corpus.labels import Segments, read_lab, read_phn, read_text
from asr.corpus.records import Utterance
from asr.corpus.splits import recording_seconds
from asr.corpus.textgrid import read_textgrid, read_words
from asr.errors import AsrError
from asr.files import spelt

AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aif", ".aiff")
LABELS = (".phn", ".textgrid", ".lab", ".txt")      # the first there is counts: those with times before those without


def read_folder(folder: Path, *, speaker: str = "folder", tier: str = "", labels: str = "") -> list[Utterance]:
    """Utterances of all recordings below a folder, sorted by path.

    The id is the path without its ending, `/` as `-`. A recording without a label file has no transcript.

    Args:
        folder: looked through to any depth.
        speaker: `folder`: the name of the folder that the file lies in (none for the top one); `none`; or a
            separator such as `_`: what stands before the first one in the file's name.
        tier: of TextGrids; "": the phone tier.
        labels: only label files with this ending, such as `lab`; "": any.

    Raises:
        AsrError: there is no recording, two have the same id, or a label file cannot be understood.
    """
    folder = Path(folder)
    wanted = (f".{labels.lower().removeprefix('.')}",) if labels else LABELS
    if wanted[0] not in LABELS:
        raise AsrError(f"{labels!r} is no label file that is known: choose one of {' '.join(LABELS)}")
    utterances: dict[str, Utterance] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in AUDIO or not path.is_file():
            continue
        name = "-".join(spelt(path.relative_to(folder).with_suffix("")).split("/"))
        if name in utterances:
            raise AsrError(f"{path}: {utterances[name].audio} gives the same id, {name!r}: keep one of the two")
        segments, words = _labels(path, wanted, tier)
        utterances[name] = Utterance(
            name, path.resolve(), duration=recording_seconds(path), phones=segments.phones if segments else None,
            speaker=_speaker(path, folder, speaker), extra=(segments.as_extra() if segments else {}) | words)
    if not utterances:
        raise AsrError(f"{folder}: holds no recording ({' '.join(AUDIO)})")
    return list(utterances.values())


def _labels(audio: Path, wanted: tuple[str, ...], tier: str) -> tuple[Segments | None, dict[str, Any]]:
    """What the label file beside a recording holds, and what it knows of the words."""
    beside = {path.suffix.lower(): path for path in audio.parent.glob(f"{_escaped(audio.stem)}.*")}
    ending = next((ending for ending in wanted if ending in beside), None)
    if ending is None:
        return None, {}
    path = beside[ending]
    if ending == ".phn":
        rate = soundfile.info(os.fsencode(audio)).samplerate
        return read_phn(path, rate), read_phn(beside[".wrd"], rate).as_words() if ".wrd" in beside else {}
    if ending == ".textgrid":
        segments = read_textgrid(path, tier)
        words = read_words(path)
        return segments, words.as_words() if words != segments else {}
    if ending == ".lab":
        return read_lab(path), {}
    return Segments(tuple(read_text(path).split())), {}


def _escaped(stem: str) -> str:
    """A file's stem with the characters escaped that `glob` takes for patterns."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in stem)


def _speaker(path: Path, folder: Path, rule: str) -> str | None:
    if rule == "folder":
        return spelt(Path(path.parent.name)) if path.parent != folder else None
    if rule == "none":
        return None
    return spelt(Path(path.stem)).partition(rule)[0] if rule in path.stem else None
