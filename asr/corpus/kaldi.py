"""Kaldi data directories, read and written: `wav.scp`, `segments`, `text`, `utt2spk`, `utt2dur`.

A line of `wav.scp` that ends in `|` is a shell command. It is never run unless the caller asks for it.
"""

from __future__ import annotations

import io
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path

import soundfile

from asr.corpus.labels import read_text
from asr.corpus.records import Utterance
from asr.corpus.splits import recording_seconds
from asr.errors import AsrError
from asr.files import spelt, writing

CLOSE = 0.01        # seconds: an utterance that ends so near its recording's end is not a part of it
Table = Mapping[str, tuple[int, str]]       # key -> (line number, the rest of the line)


def read_kaldi(folder: Path, *, root: Path | None = None, phones: Path | None = None, allow_pipes: bool = False,
               audio: Path = Path("audio")) -> list[Utterance]:
    """Utterances of a data directory, sorted by id; the transcript of `text` becomes the phones.

    Args:
        folder: holds `wav.scp`; `segments`, `text`, `utt2spk` and `utt2dur` if there are any.
        root: what relative paths in `wav.scp` start from; None: the folder, one of the three above it, or the working
            folder, the first from which the first relative path leads to a file.
        phones: a table to take instead of `text`.
        allow_pipes: run the commands in `wav.scp`.
        audio: where recordings that come out of a command or an archive (`file.ark:123`) are kept as `.wav`.

    Raises:
        AsrError: a table is missing or has a bad line, an id is in one table and not in the other, a recording is
            missing, or a command stands in `wav.scp` and `allow_pipes` is not set.
    """
    folder = Path(folder)
    recordings = read_table(folder / "wav.scp")
    text = read_table(phones or folder / "text", optional=phones is None)
    speakers = read_table(folder / "utt2spk", optional=True)
    durations = read_table(folder / "utt2dur", optional=True)
    segments = read_segments(folder / "segments", recordings)
    for name, table in (("text", text), ("utt2spk", speakers)):
        stray = [key for key in segments if table and key not in table]
        if stray:
            raise AsrError(f"{folder / name}: has no line for {stray[0]!r}"
                           f"{f' and {len(stray) - 1:,} more' if stray[1:] else ''}: run utils/fix_data_dir.sh")
    where = folder / "wav.scp"
    files = _Recordings(where, recordings, root, allow_pipes, audio)
    utterances = []
    for key in sorted(segments):
        recording, start, end = segments[key]
        path = files.path(recording)
        duration = end - start if end is not None else _seconds(durations, key, folder) or recording_seconds(path)
        utterances.append(Utterance(
            key, path, start, round(duration, 6), tuple(text[key][1].split()) if text else None,
            speakers[key][1] if speakers else None))
    return utterances


def write_kaldi(utterances: Sequence[Utterance], folder: Path, *, prefix_speaker: bool = False) -> None:
    """Write a data directory, every table sorted as the C locale sorts.

    `segments` is written if an utterance is a part of its recording. `text` holds the phones, if all have some.

    Args:
        utterances: what to write; those without a speaker are their own.
        folder: made if it is not there.
        prefix_speaker: put the speaker before ids that do not begin with it, as Kaldi's sorting by speaker wants.

    Raises:
        AsrError: an id, a speaker or a path has a space in it, some utterances have phones and some have none, or a
            file cannot be read or written.
    """
    folder = Path(folder)
    rows = []
    for utterance in utterances:
        speaker = utterance.speaker or utterance.id
        key = utterance.id
        if prefix_speaker and not key.startswith(speaker):
            key = f"{speaker}-{key}"
        for value in (key, speaker):
            if len(value.split()) != 1:
                raise AsrError(f"{folder}: {value!r} has a space in it, which Kaldi's tables cannot hold: rename it")
        rows.append((key, speaker, utterance))
    transcribed = [utterance.phones is not None for utterance in utterances]
    if any(transcribed) and not all(transcribed):
        raise AsrError(f"{folder}: utterance {utterances[transcribed.index(False)].id!r} has no phones and others do: "
                       "give phones to all or to none")
    for name, table in _tables(rows, all(transcribed)).items():
        with writing(folder / name) as file:
            # Code points sort as the bytes of UTF-8 do, which is what LC_ALL=C means.
            file.writelines(f"{key} {value}".rstrip() + "\n" for key, value in sorted(table.items()))


def read_table(path: Path, optional: bool = False) -> Table:
    """Lines `KEY REST`.

    Raises:
        AsrError: the file is missing (unless optional) or repeats a key.
    """
    if optional and not path.exists():
        return {}
    table: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        key, _, rest = line.strip().replace("\t", " ").partition(" ")
        if not key:
            continue
        if key in table:
            raise AsrError(f"{path}:{number}: {key!r} was in line {table[key][0]} already: take one out")
        table[key] = (number, rest.strip())
    if not table and not optional:
        raise AsrError(f"{path}: is empty")
    return table


def read_segments(path: Path, recordings: Table) -> dict[str, tuple[str, float, float | None]]:
    """`(recording, start, end)` of each utterance, in seconds; without `segments`, an utterance is a recording.

    Raises:
        AsrError: a line is not `utterance recording start end`, or names an unknown recording.
    """
    if not path.exists():
        return {key: (key, 0.0, None) for key in recordings}
    segments: dict[str, tuple[str, float, float | None]] = {}
    for key, (number, rest) in read_table(path).items():
        try:
            recording, start, end = rest.split()[:3]
            first, last = float(start), float(end)
        except ValueError:
            raise AsrError(f"{path}:{number}: expected 'utterance recording start end', not {key + ' ' + rest!r:.60}"
                           ) from None
        if recording not in recordings:
            raise AsrError(f"{path}:{number}: recording {recording!r} is not in wav.scp: add it there, or "
                           "take the line out")
        if not 0 <= first < last:
            raise AsrError(f"{path}:{number}: {key!r} ends at {last:g} s, which is not after {first:g} s: "
                           "mend the times")
        segments[key] = (recording, first, last)
    return segments


class _Recordings:
    """Where the audio of each recording lies; commands and archives are read once and kept as files."""

    def __init__(self, where: Path, table: Table, root: Path | None, allow_pipes: bool, audio: Path) -> None:
        self.where, self.table, self.allow_pipes, self.audio = where, table, allow_pipes, audio
        self.root = root or self._guess_root()
        self.kept: dict[str, Path] = {}

    def path(self, recording: str) -> Path:
        """The audio file of a recording."""
        if recording not in self.kept:
            self.kept[recording] = self._find(recording, *self.table[recording])
        return self.kept[recording]

    def _find(self, recording: str, number: int, value: str) -> Path:
        where = f"{self.where}:{number}"
        if value.endswith("|"):
            if not self.allow_pipes:
                raise AsrError(f"{where}: {value!r:.60} is a shell command: convert the audio to files, "
                               "or trust it and say --allow-pipes")
            return self._keep(recording, _run(value[:-1], where), where)
        archive, colon, offset = value.rpartition(":")
        if colon and offset.isdigit() and archive.endswith(".ark"):
            return self._keep(recording, _unpack(self.root / archive, int(offset), where), where)
        path = self.root / value
        if not value or not os.path.exists(path):
            raise AsrError(f"{where}: {path} is not there: name the folder that paths start from with --root")
        return path.resolve()

    def _keep(self, recording: str, wav: bytes, where: str) -> Path:
        if Path(recording).name != recording:
            raise AsrError(f"{where}: {recording!r} cannot be the name of a file: rename the recording")
        path = (self.audio / f"{recording}.wav").resolve()
        with writing(path, "wb") as file:
            file.write(wav)
        return path

    def _guess_root(self) -> Path:
        folder = self.where.parent.resolve()
        roots = [folder, *folder.parents[:3], Path.cwd()]
        for _, value in self.table.values():
            file = value.rpartition(":")[0] if ".ark:" in value else value
            if file and not value.endswith("|") and not Path(file).is_absolute():
                return next((root for root in roots if os.path.exists(root / file)), folder)    # a NUL: not there
        return folder


def _run(command: str, where: str) -> bytes:
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AsrError(f"{where}: {command.strip()!r:.60} failed with {done.returncode}: "
                       f"{said[-1] if said else 'no output'}")
    return done.stdout


def _unpack(path: Path, offset: int, where: str) -> bytes:
    """The WAV file that lies in an archive at an offset, as Kaldi's `wav-copy` puts it there: its header has its size.

    Raises:
        AsrError: the archive cannot be read, or there is no whole recording at that place.
    """
    try:
        with path.open("rb") as archive:
            archive.seek(offset)
            head = archive.read(8)
            size = int.from_bytes(head[4:], "little")
            if head[:4] != b"RIFF":
                raise ValueError("no WAV begins there")
            if size > path.stat().st_size - offset - 8:
                raise ValueError(f"its header promises {size:,} bytes, which the archive does not have")
            wav = head + archive.read(size)
        soundfile.info(io.BytesIO(wav))
    except (OSError, OverflowError, ValueError, soundfile.LibsndfileError) as error:
        raise AsrError(f"{where}: no recording at {path}:{offset}: {getattr(error, 'strerror', None) or error}: make "
                       "wav.scp again, or name the folder that paths start from with --root") from error
    return wav


def _seconds(table: Table, key: str, folder: Path) -> float | None:
    if key not in table:
        return None
    number, value = table[key]
    try:
        return float(value) or None
    except ValueError:
        raise AsrError(f"{folder / 'utt2dur'}:{number}: {value!r} is no number of seconds: mend it or "
                       "take the line out") from None


def _tables(rows: Sequence[tuple[str, str, Utterance]], transcribed: bool) -> dict[str, dict[str, str]]:
    """The tables of a data directory, by file name; the rows are `(id, speaker, utterance)`."""
    whole = {audio: recording_seconds(audio) for audio in {utterance.audio for _, _, utterance in rows}}
    spans = {key: (utterance.offset, whole[utterance.audio] if utterance.duration is None
                   else utterance.offset + utterance.duration) for key, _, utterance in rows}
    cut = len(whole) < len(rows) or any(
        utterance.offset or spans[key][1] < whole[utterance.audio] - CLOSE for key, _, utterance in rows)
    names = _recording_names(utterance.audio for _, _, utterance in rows)
    tables: dict[str, dict[str, str]] = {name: {} for name in ("wav.scp", "utt2spk", "utt2dur", "spk2utt")}
    tables |= {"segments": {}} if cut else {}
    tables |= {"text": {}} if transcribed else {}
    of_speaker = defaultdict(list)
    for key, speaker, utterance in rows:
        start, end = spans[key]
        path = str(utterance.audio.resolve())
        if len(path.split()) != 1:
            raise AsrError(f"{path}: has a space in it, which wav.scp cannot hold: rename the file")
        if path.endswith("|") or spelt(Path(path)) != path:
            raise AsrError(f"{path}: wav.scp would take this name for a command, or for another: rename the file")
        tables["wav.scp"][names[utterance.audio] if cut else key] = path
        tables["utt2spk"][key] = speaker
        tables["utt2dur"][key] = _decimal(end - start)
        of_speaker[speaker].append(key)
        if cut:
            tables["segments"][key] = f"{names[utterance.audio]} {_decimal(start)} {_decimal(end)}"
        if transcribed:
            tables["text"][key] = " ".join(utterance.phones or ())
    tables["spk2utt"] = {speaker: " ".join(sorted(keys)) for speaker, keys in of_speaker.items()}
    return tables


def _recording_names(recordings: Iterable[Path]) -> dict[Path, str]:
    """A name for each recording: the file's, with a number where two files have the same."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for audio in recordings:
        if audio not in names:
            stem = "_".join(audio.stem.split())
            names[audio] = next(name for name in chain([stem], (f"{stem}-{n}" for n in count(2))) if name not in taken)
            taken.add(names[audio])
    return names


def _decimal(seconds: float) -> str:
    """Seconds as Kaldi reads them, to the microsecond, never with an exponent."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
