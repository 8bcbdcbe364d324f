"""The one exception that users see without a traceback."""

from __future__ import annotations


class AsrError(Exception):
    """What went wrong, where, and what to try, in one line.

    `cli.main` prints it as `asr: MESSAGE` on standard error and exits with 1.
    Anything else that reaches `cli.main` is a bug of ours and keeps its traceback.
    """


class Stopped(Exception):  # noqa: N818 (like SystemExit: no error)
    """A signal asked us to stop, and what was at hand has been saved; the exit code is 128 + its number."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.code = 128 + signal
