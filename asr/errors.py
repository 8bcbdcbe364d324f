"""The one exception that users see without a traceback."""

from __future__ import annotations


def printable(text: str) -> str:
    """A text from anywhere as one line for a terminal: what would break it, or move the cursor, as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class AsrError(Exception):
    """What went wrong, where, and what to try, in one line.

    `cli.main` prints it as `asr: MESSAGE` on standard error and exits with 1.
    Anything else that reaches `cli.main` is a bug of ours and keeps its traceback. What is quoted from a file may hold
    anything; what would break the line, or move a terminal's cursor, is written as an escape.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UsageError(AsrError):
    """The command line itself is wrong, whatever the files hold: the exit code is 2."""


class Stopped(Exception):  # noqa: N818 (like SystemExit: no error)
    """A signal asked us to stop, and what was at hand has been saved; the exit code is 128 + its number."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.code = 128 + signal
