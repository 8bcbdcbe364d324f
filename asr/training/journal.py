"""What a run tells: log.jsonl always, a bar or a line an epoch on standard error, TensorBoard if it is installed."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from asr.errors import AsrError


class Journal:
    """Writes a run's story. On processes other than the main one it is silent."""

    def __init__(self, run: Path, *, main: bool, epochs: int, progress: dict[str, Any] | None = None) -> None:
        """`progress`: of the state from which the run goes on; what the log tells of later is dropped."""
        self.main, self.epochs = main, epochs
        self.bar: Any = None
        self.per = ""                   # the last dev PER, for the bar
        self.board: Any = None
        if not main:
            return
        path = run / "log.jsonl"
        kept = [line for line in read_log(path) if progress and _is_before(line, progress)]
        try:
            self.file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise AsrError(f"{path}: cannot be written: {error.strerror}") from error
        for line in kept:
            self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter
            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=progress and progress["update"])

    def log(self, event: str, **figures: Any) -> None:
        """A line of log.jsonl, and the figures to TensorBoard."""
        if not self.main:
            return
        self.file.write(json.dumps({"event": event, **figures}) + "\n")
        self.file.flush()
        if self.board is not None and "update" in figures:
            for name, value in figures.items():
                if isinstance(value, int | float) and name not in ("epoch", "update"):
                    self.board.add_scalar(f"{event}/{name}", value, figures["update"])

    def say(self, text: str) -> None:
        """A line on standard error."""
        if self.main:
            print(text, file=sys.stderr, flush=True)

    def begin_epoch(self, epoch: int, updates: int, done: int) -> None:
        """Show a bar for the epoch, on a terminal."""
        if self.main and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
            self.bar = Progress(TextColumn(f"epoch {epoch + 1:3d}/{self.epochs}"), BarColumn(),
                                TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeRemainingColumn(),
                                TextColumn("{task.fields[tale]}"), console=Console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task("", total=updates, completed=done, tale="")

    def update(self, report: dict[str, float], speed: float) -> None:
        """Move the bar on."""
        if self.bar is not None:
            tale = f"loss {report['loss']:.3f}  {self.per}  {speed:,.0f} frames/s"
            self.bar.update(self.task, advance=1, tale=tale)

    def end_epoch(self, figures: dict[str, Any], better: bool) -> None:
        """One line for the epoch."""
        self.per = f"dev PER {figures['per']:.2f} %"
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        self.say(f"epoch {figures['epoch'] + 1:3d}/{self.epochs}  loss {figures['loss']:.3f}  "
                 f"right {figures['accuracy']:.1f} %  dev PER {figures['per']:.2f} %{' *' if better else '  '}  "
                 f"{figures['frames_per_second']:,} frames/s  {figures['seconds']:.0f} s")

    def close(self) -> None:
        """End bar, log and board."""
        if self.bar is not None:
            self.bar.stop()
        if self.main:
            self.file.close()
            if self.board is not None:
                self.board.close()


def _is_before(line: dict[str, Any], progress: dict[str, Any]) -> bool:
    """Whether a line was written before the state was saved; an epoch counts once its figures are in the state."""
    return line.get("update", 0) <= progress["update"] \
        and (line.get("event") != "epoch" or line["epoch"] < progress["epoch"])


def read_log(path: Path) -> list[dict[str, Any]]:
    """The log so far, none if there is no file; a line that a crash cut off or damaged is passed over."""
    lines = []
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    lines.append(entry)
    return lines
