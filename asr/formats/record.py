"""What a decoder has done so far, kept beside its output, so that the same command with `--resume` does only the rest.

Beside `--out OUT` stand `.OUT.KEY.done`, a line for every hypothesis as soon as it is found, and, where something
failed, `OUT.failed.jsonl`: id, audio and reason of each utterance that could not be decoded. KEY is made of the model,
the settings and the names of the inputs, so that another command keeps a record of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr.corpus.records import Hypothesis, TimedPhone
from asr.errors import AsrError
from asr.files import writing


class Record:
    """The hypotheses of one command, found in this call or, with `resume`, in those before it.

    Raises:
        AsrError: the file cannot be written.
    """

    def __init__(self, out: Path, key: Any, *, resume: bool) -> None:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        self.path = out.with_name(f".{out.name}.{digest}.done")
        self.resume = resume
        self.whole = False              # whether nothing is missing
        self.known: dict[str, Hypothesis] = {h.id: h for h in _read(self.path)} if resume else {}
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(self.path)
            self.file = self.path.open("a" if resume else "w", encoding="utf-8", newline="\n")

    def add(self, hypothesis: Hypothesis) -> None:
        """Keep a hypothesis; what was added outlives the process, however it ends."""
        with self._writing():
            self.file.write(json.dumps(asdict(hypothesis), ensure_ascii=False) + "\n")
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
        """End the record. It stays where something is missing, and where the next call may want to know."""
        with contextlib.suppress(OSError):      # all that matters has been flushed
            self.file.close()
        if self.whole and not self.resume:
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AsrError(f"{self.path}: cannot be written: {error.strerror}") from error


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


def _read(path: Path) -> Iterator[Hypothesis]:
    """Hypotheses of an earlier call, exactly as they were; a line that a crash cut off is passed over."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            phones = tuple(TimedPhone(**phone) for phone in row.pop("phones"))
            yield Hypothesis(**row, phones=phones)


def _cut_torn_line(path: Path) -> None:
    """Take away what stands behind the last newline, so that the next line does not grow on it."""
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
