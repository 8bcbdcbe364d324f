"""Label files of one recording: TIMIT's .PHN, HTK's .lab, plain phones, Praat's TextGrid.

Every reader gives `Segments`: the phones, and where each lies in seconds if the file tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import AsrError

HTK_UNIT = 1e-7     # seconds: HTK counts in 100 ns


@dataclass(frozen=True, slots=True)
class Segments:
    """Phones in order, with `(start, end)` in seconds for each, or no times at all."""

    phones: tuple[str, ...]
    times: tuple[tuple[float, float], ...] | None = None

    def as_extra(self) -> dict[str, list[list[float]]]:
        """The row key `phone_times` of a manifest, empty without times."""
        return {} if self.times is None else {"phone_times": [[start, end] for start, end in self.times]}

    def as_words(self) -> dict[str, Any]:
        """The row keys `words` and `word_times`, for segments that are words; empty without words or times, or where a
        label is several words, whose borders are not known."""
        if not self.phones or self.times is None or any(label.split() != [label] for label in self.phones):
            return {}
        return {"words": " ".join(self.phones), "word_times": [[start, end] for start, end in self.times]}


def read_text(path: Path) -> str:
    """A label file's text.

    Raises:
        AsrError: it cannot be read or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{path}: not UTF-8 text: {error.reason}: save it as UTF-8") from error


def read_phn(path: Path, rate: int = 16000) -> Segments:
    """TIMIT's `.PHN` or `.WRD`: lines `start_sample end_sample label`.

    Raises:
        AsrError: naming the line that is something else.
    """
    return _timed_lines(path, 1 / rate, "start_sample end_sample phone")


def read_lab(path: Path) -> Segments:
    """HTK's `.lab`: lines `start end phone [score …]` in units of 100 ns, or `phone` alone, or phones between spaces.

    Raises:
        AsrError: naming the line whose times are no numbers or go backwards.
    """
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    timed = lines and all(len(fields) >= 3 and fields[0].isdigit() and fields[1].isdigit() for fields in lines)
    if timed:
        return _timed_lines(path, HTK_UNIT, "start end phone")
    if any(fields[0].isdigit() for fields in lines):
        raise AsrError(f"{path}: some lines begin with a number and some do not: expected 'start end phone' in units "
                       "of 100 ns on every line, or phones alone")
    return Segments(tuple(phone for fields in lines for phone in fields))


def _timed_lines(path: Path, unit: float, form: str) -> Segments:
    phones, times = [], []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < 3 or not (fields[0].isdigit() and fields[1].isdigit()) or int(fields[0]) > int(fields[1]):
            raise AsrError(f"{path}:{number}: {line.strip()!r} is not of the form '{form}': mend the line")
        phones.append(fields[2])
        times.append((round(int(fields[0]) * unit, 6), round(int(fields[1]) * unit, 6)))
    return Segments(tuple(phones), tuple(times))
