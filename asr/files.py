"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from asr.errors import AsrError


@contextlib.contextmanager
def writing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file beside `path` and rename it to `path` when the block ends well.

    A reader sees the old file or the new one, never a part: the data are flushed to the disk before the
    rename, and a block that raises leaves `path` as it was and nothing beside it. A link is followed; a device or a
    named pipe, which a rename would replace, is written into. Of text, what has no form in UTF-8, as the odd bytes of a
    file's name, is written as JSON escapes it.

    Raises:
        AsrError: the folder cannot be written or the disk is full.
    """
    target = Path(os.path.realpath(path))
    whole = not os.path.exists(target) or target.is_file()
    part = target.with_name(f".{cut_name(target.name, 200)}.{os.getpid()}.part") if whole else target
    text: dict[str, Any] = {} if "b" in mode else {
        "encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open(mode, **text) as file:
            yield file
            file.flush()
            if whole:
                os.fsync(file.fileno())
        if whole:
            part.replace(target)
    except OSError as error:
        raise AsrError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if whole:
            with contextlib.suppress(OSError):
                part.unlink()


def cut_name(name: str, most: int) -> str:
    """The beginning of a file's name, of so many bytes at most: a disk counts these, not letters."""
    return name if len(os.fsencode(name)) <= most else os.fsencode(name)[:most].decode("utf-8", "ignore")


def spelt(path: Path) -> str:
    """A path as text that any file can hold: bytes that are no UTF-8, as old archives have them, become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Steady:
    """Files that are read at the beginning of a long work, and must be the same at its end; pipes are not watched.

    Made before the files are read.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.stamps = {path: stamp(path) for path in map(Path, paths) if path.is_file()}

    def check(self, advice: str = "nothing was overwritten; give the same command again") -> None:
        """Look whether they are.

        Raises:
            AsrError: naming one that was written, replaced or taken away since, and the advice.
        """
        for path, before in self.stamps.items():
            if stamp(path) != before:
                raise AsrError(f"{path}: changed while it was worked from: {advice}")


def stamp(path: Path) -> tuple[int, int] | None:
    """Bytes and ns of a file, None if it is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def locking(folder: Path) -> Iterator[None]:
    """Keep a folder for this process; the lock goes with the process, however it ends.

    A folder that was not there before goes with the lock if nothing has been put in it.

    Raises:
        AsrError: another process is at work in the folder, naming it and its host; or the folder cannot be written.
    """
    path = Path(folder) / ".lock"
    made = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(path)
    except OSError as error:
        raise AsrError(f"{folder}: cannot be written: {error.strerror}") from error
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if made:
                with contextlib.suppress(OSError):      # it is not empty: something has been done
                    path.parent.rmdir()


def _locked(path: Path) -> IO[str]:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            owner = file.read().strip() or "of unknown number"
            file.close()
            raise AsrError(f"{path.parent}: process {owner} is at work here: wait for it, or name another folder"
                           ) from None
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            file.truncate(0)
            file.write(f"{os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            return file
        file.close()                    # its owner left, and took the file with it, between our open and our lock
