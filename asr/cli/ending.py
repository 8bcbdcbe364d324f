"""How a command ends: errors told in one line, exit codes, signals, a reader that went away, a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator

import click

from asr.errors import AsrError, Stopped, UsageError

AGAIN = "nothing half-written is left; give the same command again"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


def run(command: click.Command, arguments: list[str] | None = None) -> int:
    """Run a command line to its end, whatever that is.

    Returns: the exit code: 0 done; 1 failed, said in one line on standard error; 2 wrong use; 128 and its number for a
      signal. An exception that is no fault of the user's or the machine's passes through, with its traceback.
    """
    with contextlib.suppress(AttributeError):       # a character that a terminal cannot show is no reason to end
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with _told_to_stop():
            code = command.main(args=arguments, prog_name="asr", standalone_mode=False)
            sys.stdout.flush()
    except AsrError as error:
        code = _complain(str(error), 2 if isinstance(error, UsageError) else 1)
    except Stopped as error:
        code = _complain(str(error), error.code)
    except click.UsageError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _complain(f"interrupted: {AGAIN}", 130)
    except BrokenPipeError:             # the reader of our output went away: `asr … | head`
        code = _deafen()
    except MemoryError:
        code = _complain("out of memory: make the batches smaller "
                         "(-o train.batch_frames=…, -o decode.batch_size=…)")
    except OSError as error:            # any other is a bug of ours
        if error.errno not in FULL:
            raise
        code = _complain(f"{error.filename or 'standard output'}: cannot be written: {error.strerror}: make room and "
                         "give the same command again")
        _deafen()
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int = 1) -> int:
    click.echo(f"asr: {message}", err=True)
    return code


def _deafen() -> int:
    """What is still buffered for standard output goes nowhere, or Python would try to write it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


@contextlib.contextmanager
def _told_to_stop() -> Iterator[None]:
    """Ctrl-C and SIGTERM unwind, so that no part of a file stays; torchrun's ranks, which wait in C, just go."""
    if "WORLD_SIZE" in os.environ or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        what = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
        raise Stopped(number, f"{what}: {AGAIN}")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    for number in before:                       # what `nohup` or a shell's background job ignores stays ignored
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
