"""What a long decoding shows while it runs: phones on standard output as they settle, progress on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from asr.corpus.records import Hypothesis, TimedPhone
from asr.formats.writers import WRITERS, Format


class LiveLine:
    """A line of `txt` or `jsonl` that grows while a recording is being decoded.

    Called with phones as they settle it writes the line's beginning; as a format it then gives what is left of the
    line, so that the whole is, byte for byte, what the plain format writes at the end.
    """

    def __init__(self, form: str) -> None:
        self.form = WRITERS[form]
        self.quote = form == "jsonl"
        self.id, self.shown = "", ""

    @property
    def format(self) -> Format:
        """The format for `write_hypotheses`."""
        return replace(self.form, pieces=self.rest)

    def __call__(self, id: str, phones: Sequence[TimedPhone]) -> None:
        """More phones of a recording."""
        if id != self.id:
            empty = self.form.text(Hypothesis(id, (), 0.0))
            self.id, self.shown = id, ""
            self._write(empty[:empty.index('"text": "') + len('"text": "')] if self.quote else empty.removesuffix("\n"))
            self.first = True
        if phones:
            text = " ".join(phone.phone for phone in phones)
            text = json.dumps(text, ensure_ascii=False)[1:-1] if self.quote else text
            self._write(text if self.first else f" {text}")
            self.first = False

    def rest(self, hypothesis: Hypothesis) -> Iterator[str]:
        """What has not been written yet of a hypothesis, bit by bit."""
        form, shown = self.form, self.shown if hypothesis.id == self.id else ""
        for piece in form.pieces(hypothesis) if form.pieces is not None else [form.text(hypothesis)]:
            assert piece.startswith(shown[:len(piece)]), "settled phones have changed"
            yield piece[len(shown):]
            shown = shown[len(piece):]

    def _write(self, text: str) -> None:
        self.shown += text
        sys.stdout.write(text)
        sys.stdout.flush()


class Watch:
    """Seconds done, real-time factor and time left, on a terminal; nowhere else, and not over live phones."""

    def __init__(self, total: float | None) -> None:
        """`total`: seconds of all input; None where it is not known."""
        self.bar: Any = None
        self.total, self.began, self.done = total, time.monotonic(), 0.0
        if sys.stderr.isatty() and not sys.stdout.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
            self.bar = Progress(BarColumn(), TextColumn("{task.fields[tale]}"), TimeRemainingColumn(),
                                console=Console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task("", total=total, tale="")

    def show(self, current: float) -> None:
        """`current`: seconds of the recording at hand, beside those that are done."""
        if self.bar is not None:
            seconds = self.done + current
            factor = (time.monotonic() - self.began) / max(seconds, 1e-9)
            of = f" of {self.total:,.0f}" if self.total else ""
            self.bar.update(self.task, completed=seconds, tale=f"{seconds:,.0f}{of} s  {factor:.4f} x real time")

    def add(self, seconds: float) -> None:
        """An utterance is done."""
        self.done += seconds
        self.show(0.0)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
