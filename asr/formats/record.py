"""What a decoder has done so far, kept beside its output, so that the same command with `--resume` does only the rest.

Beside `--out OUT` stand `.OUT.KEY.done`, a line for every hypothesis as soon as it is found, and, where something
failed, `OUT.failed.jsonl`: id, audio and reason of each utterance that could not be decoded. KEY is made of the model,
the settings and the names of the inputs; an output has one record, so that another command takes this one's away.
A hypothesis is taken for known only where its sound is the same: file, size, time, offset and duration. When nothing
is missing any more, one line is left of the record, which says of what OUT is the whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from asr.corpus.records import Hypothesis, TimedPhone, Utterance
from asr.errors import AsrError
from asr.files import stamp, writing


class Record:
    """The hypotheses of one command, found in this call or, with `resume`, in those before it.

    Args:
        key: what decides, beside the sound, what is found.
        marks: of each utterance, by id, what `mark` gives. One without a mark, such as a stream, is never known.
        formats: of the output.

    Raises:
        AsrError: the file cannot be written.
    """

    def __init__(self, out: Path, key: Any, marks: Mapping[str, str], formats: Sequence[str], *, resume: bool) -> None:
        self.out, self.marks = out, marks
        self.path = out.with_name(f".{out.name}.{_digest(key)}.done")
        self.content = _digest([list(marks.items()), list(formats)])
        self.whole = False              # whether nothing is missing
        self.known: dict[str, Hypothesis] = dict(_read(self.path, marks)) if resume else {}
        last, seal = _last(self.path), self._seal()
        self.up_to_date = resume and isinstance(last, dict) and {key: last.get(key) for key in seal} == seal
        self.poor: list[str] = last.get("poor", []) if self.up_to_date else []     # ids of what should not be trusted
        if self.up_to_date:
            return
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._forget_others()
            _cut_torn_line(self.path)
            self.file = self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")
            # Of several processes, all append.
            if not resume:
                self.file.truncate(0)

    def add(self, hypothesis: Hypothesis) -> None:
        """Keep a hypothesis; what was added outlives the process, however it ends.

        One of sound that broke off is not kept: a later call shall say again that there is no more.
        """
        if hypothesis.health.get("ended") == "cut":
            return
        row = {"mark": self.marks.get(hypothesis.id), "hypothesis": asdict(replace(hypothesis, phones=()))}
        before, empty, after = json.dumps(row, ensure_ascii=False).partition('"phones": []')
        with self._writing():
            self.file.write(before + empty[:-1])
            for number, phone in enumerate(hypothesis.phones):      # of hours: no list of objects
                self.file.write(", " * bool(number) + json.dumps(asdict(phone), ensure_ascii=False))
            self.file.write(f"]{after}\n")
            self.file.flush()

    def keep(self, hypotheses: Iterable[Hypothesis]) -> Iterator[Hypothesis]:
        """The same hypotheses, those that are new put down as they come."""
        for hypothesis in hypotheses:
            if hypothesis.id not in self.known:
                self.add(hypothesis)
            yield hypothesis

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *error: object) -> None:
        """End the record. It stays where something is missing; else one line does."""
        with contextlib.suppress(OSError):      # all that matters has been flushed
            self.file.close()
        if self.whole:
            with contextlib.suppress(AsrError), writing(self.path) as file:     # the output is there, with or without
                file.write(json.dumps({**self._seal(), "poor": self.poor}) + "\n")

    def _seal(self) -> dict[str, Any]:
        """What tells that the output is the whole of these utterances, and has not been touched since."""
        paths = [self.out, *sorted(self.out.rglob("*"))] if self.out.is_dir() else [self.out]
        return {"whole": self.content, "output": _digest([(str(path), stamp(path)) for path in paths])}

    def _forget_others(self) -> None:
        """Take away the records of other commands for this output, which is about to become another."""
        name = re.compile(rf"\.{re.escape(self.out.name)}\.[0-9a-f]{{12}}\.done")
        for path in self.path.parent.iterdir():
            if path != self.path and name.fullmatch(path.name):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AsrError(f"{self.path}: cannot be written: {error.strerror}") from error


def keepable(out: Path | None) -> Path | None:
    """The output under a name beside which something can be kept; None for standard output and devices."""
    if out is None or (out.exists() and not out.is_file() and not out.is_dir()):
        return None
    return out if out.name else out.absolute()          # the folder `.`


def mark(utterance: Utterance, store: str = "") -> str:
    """What changes when the sound of an utterance does: where it lies, and the file's size and time.

    Args:
        store: the fingerprint of the store whose features are read; the audio file does not matter then.
    """
    return _digest([str(utterance.audio), utterance.offset, utterance.duration, store or stamp(utterance.audio)])


def write_failures(out: Path, failures: Iterable[tuple[str, str]], audio: Mapping[str, Path]) -> Path | None:
    """Write what failed beside the output, or take away the list of an earlier call; the file, if there is one."""
    path = out.with_name(out.name + ".failed.jsonl")
    rows = [{"id": id, "audio_filepath": str(audio.get(id, "")), "reason": reason} for id, reason in failures]
    if not rows:
        path.unlink(missing_ok=True)
        return None
    with writing(path) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _read(path: Path, marks: Mapping[str, str]) -> Iterator[tuple[str, Hypothesis]]:
    """Hypotheses of an earlier call for the same sound, by id; a line that a crash cut off is passed over."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            row = json.loads(line)
            found = row["hypothesis"]
            if row["mark"] is not None and row["mark"] == marks.get(found["id"]):
                phones = tuple(TimedPhone(**phone) for phone in found.pop("phones"))
                yield found["id"], Hypothesis(**found, phones=phones)


def _last(path: Path) -> Any:
    """The last line of a record, None if there is none or it was cut off."""
    with contextlib.suppress(OSError, ValueError, IndexError, RecursionError):
        return json.loads(path.read_bytes().splitlines()[-1])
    return None


def _cut_torn_line(path: Path) -> None:
    """Take away what stands behind the last newline, so that the next line does not grow on it."""
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
