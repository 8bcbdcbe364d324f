"""The stage `prep`: features of all utterances of a manifest, computed once, into a store.

The manifest is cut into shards, always at the same places, and a shard is named after everything that decides what is
in it: features, manifest rows, size and time of each audio file. So processes and ranks share them out as they like,
a run that was killed finds the finished ones, and the store's bytes are the same on every road.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asr.config import Config, Features
from asr.corpus.records import Utterance, manifest_row, read_manifest, write_manifest
from asr.errors import AsrError
from asr.files import Steady, locking, stamp, writing
from asr.frontend.audio import change_speed
from asr.frontend.fbank import Fbank, Moments, add_deltas, static_width
from asr.frontend.store import (
    FORMAT,
    INDEX,
    ShardIndex,
    Store,
    copies,
    no_moments,
    plain_moments,
    read_shard,
    read_utterance,
    refuse_silence,
    static_frames,
    write_shard,
)

SHARD = 64                      # utterances
NAMED = 20                      # utterances that are named in a complaint
PART_OF_A_STORE = re.compile(r"shard-[0-9a-f]{16}\.(f16|json)|manifest-[0-9a-f]{16}\.jsonl")
WATCH = 0.2                     # seconds between two looks of a worker at whether its parent is alive


@dataclass(frozen=True)
class PrepReport:
    """What `prepare` did."""

    utterances: int
    frames: int                 # at speed 1, in the store; 0 if there are problems
    built: int                  # shards
    kept: int                   # shards that an earlier run had finished
    problems: list[str] = field(default_factory=list)   # one line for each utterance that cannot be used
    untranscribed: int = 0      # utterances without phones

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to do."""
        return not self.built and not self.problems


@dataclass(frozen=True)
class Shard:
    """A stretch of the manifest, and the name that its content gives it."""

    name: str
    utterances: tuple[Utterance, ...]
    stamps: tuple[tuple[int, int] | None, ...]          # bytes and ns of each audio file; None: it is not there


def prepare(manifest: Path, out: Path, config: Config, jobs: int = 0) -> PrepReport:
    """Write the features of a manifest's utterances into the store `out`.

    Under torchrun each rank takes its share of the shards and rank 0 writes the index.

    Args:
        manifest: the utterances; they need not be transcribed.
        out: a folder; if it is a store that is up to date, nothing is done.
        config: its section `features`.
        jobs: processes; 0: one for each core.

    Returns:
        What was done. With problems, `out` is the store that it was before; finished shards stay for the next run.

    Raises:
        AsrError: the manifest or the config is at fault, the folder cannot be written, or a worker died.
    """
    manifest, out = Path(manifest), Path(out)
    steady = Steady([manifest])
    utterances, features = read_manifest(manifest), config.features
    Fbank(features)                                     # a bad setting is reported now, once
    if out.exists() and not out.is_dir():
        raise AsrError(f"{out}: is a file: name a folder for the store")
    _refuse_other_files(out)
    untranscribed = sum(not utterance.phones for utterance in utterances)
    shards = _shards(utterances, features)
    fingerprint = _digest([shard.name for shard in shards])
    if _is_whole(out, fingerprint):
        return PrepReport(len(utterances), Store(out).moments().count, 0, len(shards),
                          untranscribed=untranscribed)
    with _ranks() as ranks, locking(out) if ranks.rank == 0 else contextlib.nullcontext():
        mine = [shard for shard in shards[ranks.rank::ranks.world] if not _is_built(out, shard, features)]
        problems = ranks.gather(_build_all(mine, out, features, ranks.jobs(jobs)))
        built = ranks.gather([shard.name for shard in mine])
        frames = 0
        if not problems and ranks.rank == 0:
            steady.check("the store was left as it is; give the same command again")
            frames = _merge(out, utterances, features, fingerprint, shards)
        ranks.gather([])                                # nobody leaves before the index is there
    order = {utterance.id: number for number, utterance in enumerate(utterances)}
    lines = [line for _, line in sorted(problems, key=lambda problem: order[problem[0]])]
    return PrepReport(len(utterances), frames, len(built), len(shards) - len(built), lines, untranscribed)


def tell(report: PrepReport, out: Path) -> list[str]:
    """What `asr prep` says at its end, line by line; of several ranks, the first speaks."""
    if os.environ.get("RANK", "0") != "0":
        return []
    if not report.problems:
        state = "is up to date" if report.up_to_date else "is ready"
        lines = [f"{out} {state}: {report.utterances} utterances, {report.frames} frames"]
        if report.untranscribed:
            lines.append(f"{out}: {report.untranscribed} of {report.utterances} utterances have no phones: "
                         "they can be decoded, but not trained on")
        return lines
    count = len(report.problems)
    more = [f"  … and {count - NAMED} more"] if count > NAMED else []
    return [f"asr: {out}: no store was made: {count} of {report.utterances} utterances cannot be used:",
            *(f"  {line}" for line in report.problems[:NAMED]), *more]


def _refuse_other_files(out: Path) -> None:
    """A folder for something else is no place for a store, which takes away what it does not know.

    Hidden files do not count, nor does what somebody put into a store.
    """
    names = sorted(name for name in os.listdir(out) if not name.startswith(".")) if out.is_dir() else []
    others = [name for name in names if not PART_OF_A_STORE.fullmatch(name)]
    if others and (INDEX not in others or len(others) == len(names)):
        raise AsrError(f"{out}: holds other files ({others[0]}) and is no store: name a new folder, or an empty one")


def _shards(utterances: Sequence[Utterance], features: Features) -> list[Shard]:
    stamps: dict[Path, tuple[int, int] | None] = {}
    for utterance in utterances:
        if utterance.audio not in stamps:
            stamps[utterance.audio] = stamp(utterance.audio)
    shards = []
    settings = features.model_dump()
    for first in range(0, len(utterances), SHARD):
        part = tuple(utterances[first:first + SHARD])
        times = tuple(stamps[utterance.audio] for utterance in part)
        content = [FORMAT, settings, [manifest_row(_absolute(utterance)) for utterance in part], times]
        shards.append(Shard(f"shard-{_digest(content)}", part, times))
    return shards


def _absolute(utterance: Utterance) -> Utterance:
    return utterance if utterance.audio.is_absolute() and ".." not in utterance.audio.parts \
        else replace(utterance, audio=Path(os.path.abspath(utterance.audio)))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _is_whole(out: Path, fingerprint: str) -> bool:
    try:
        return Store(out).fingerprint == fingerprint
    except AsrError:
        return False


def _is_built(out: Path, shard: Shard, features: Features) -> bool:
    """Whether an earlier run finished a shard: its JSON is written last."""
    try:
        rows = sum(map(sum, read_shard(out, shard.name).frames))
        return (out / f"{shard.name}.f16").stat().st_size == 2 * rows * static_width(features)
    except (AsrError, OSError):
        return False


def _build(shard: Shard, out: Path, features: Features) -> list[tuple[str, str]]:
    """Compute a shard; ids and complaints of utterances that cannot be used, in which case nothing is written."""
    fbank, total = Fbank(features), no_moments(features)
    counts, problems = [], []
    with contextlib.suppress(_UnusableError), writing(out / f"{shard.name}.f16", "wb") as file:
        for utterance, known in zip(shard.utterances, shard.stamps, strict=True):
            try:
                rows = _stored_frames(utterance, known, fbank)
            except AsrError as error:
                problems.append((utterance.id, str(error)))
                continue
            for frames in rows:
                file.write(frames.tobytes())
            total = total + Moments.of(add_deltas(torch.from_numpy(rows[0]).float(), features.deltas))
            counts.append([len(frames) for frames in rows])
        if problems:
            raise _UnusableError
    if not problems:
        with writing(out / f"{shard.name}.json") as file:
            write_shard(file, ShardIndex(counts, total))
    return problems


class _UnusableError(Exception):
    """Leaves a file unwritten."""


def _stored_frames(utterance: Utterance, known: tuple[int, int] | None, fbank: Fbank) -> list[np.ndarray]:
    """Static frames (T, S) float16 of an utterance, one array for each copy."""
    samples = read_utterance(utterance, fbank.features)
    where = f"{utterance.audio} (utterance {utterance.id!r})"
    refuse_silence(samples, where)
    rows = [static_frames(samples, fbank, speed).numpy().astype(np.float16) for speed in copies(fbank.features)]
    if not all(len(frames) for frames in rows):
        raise AsrError(f"{where}: lasts {1000 * len(samples) / fbank.features.rate:.1f} ms, less than one window of "
                       f"{fbank.features.window:g} ms: take it out")
    if stamp(utterance.audio) != known:
        raise AsrError(f"{where}: changed while it was read: run `asr prep` again when it stands still")
    return rows


def _merge(out: Path, utterances: Sequence[Utterance], features: Features, fingerprint: str,
           shards: Sequence[Shard]) -> int:
    """Write manifest and index, then take away what they do not name; the number of frames."""
    total = no_moments(features)
    for shard in shards:
        total = total + read_shard(out, shard.name).moments
    listing = f"manifest-{fingerprint}.jsonl"
    write_manifest(out / listing, map(_absolute, utterances))
    with writing(out / INDEX) as file:
        json.dump({"format": FORMAT, "fingerprint": fingerprint, "features": features.model_dump(),
                   "shards": [shard.name for shard in shards], **plain_moments(total)}, file, indent=1)
        file.write("\n")
    named = {INDEX, listing} | {f"{shard.name}{end}" for shard in shards for end in (".f16", ".json")}
    for pattern in ("shard-*", "manifest-*.jsonl", ".shard-*.part", ".manifest-*.part", f".{INDEX}.*.part"):
        for path in out.glob(pattern):
            if path.name not in named:
                path.unlink(missing_ok=True)
    return total.count


def _build_all(shards: Sequence[Shard], out: Path, features: Features, jobs: int) -> list[tuple[str, str]]:
    """Build shards, in parallel if there are several; what `_build` complains about."""
    total = sum(len(shard.utterances) for shard in shards)
    problems: list[tuple[str, str]] = []
    if jobs == 1 or len(shards) < 2:
        with _progress(total) as advance:
            for shard in shards:
                problems += _build(shard, out, features)
                advance(len(shard.utterances))
        return problems
    for speed in copies(features):      # loads librosa, where it is needed, once here instead of once in each process
        change_speed(np.zeros(100, np.float32), features.rate, speed)
    pool = ProcessPoolExecutor(min(jobs, len(shards)), get_context("fork"), _start_worker, (os.getpid(),))
    try:
        futures: dict[Future, Shard] = {pool.submit(_build, shard, out, features): shard for shard in shards}
        with _progress(total) as advance:
            for future in as_completed(futures):
                problems += future.result()
                advance(len(futures[future].utterances))
    except BrokenProcessPool:
        raise AsrError(f"{out}: a worker process died, perhaps for want of memory: run `asr prep` again with a "
                       "smaller -j; what is finished stays") from None
    finally:
        pool.shutdown(cancel_futures=True)
    return problems


def _start_worker(parent: int) -> None:
    """One thread to compute with, no answer to Ctrl-C or SIGTERM (the parent gives it), no life without the parent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty() or not total:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("prep"), BarColumn(), MofNCompleteColumn(), TextColumn("utterances"),
                  TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("prep", total=total)
        yield lambda done: bar.advance(task, done)


class _Alone:
    """One process without others."""

    rank, world = 0, 1

    def jobs(self, wanted: int) -> int:
        """How many workers to start."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return wanted or max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

    def gather(self, own: list[Any]) -> list[Any]:
        """The lists of all ranks, joined in their order."""
        return own


class _Torchrun(_Alone):
    """One of several ranks."""

    def __init__(self) -> None:
        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def gather(self, own: list[Any]) -> list[Any]:
        lists: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(lists, own)
        return [entry for entries in lists for entry in entries]


@contextlib.contextmanager
def _ranks() -> Iterator[_Alone]:
    """The processes that share the work: torchrun's, if it started this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield _Alone()
        return
    from datetime import timedelta

    torch.distributed.init_process_group("gloo", timeout=timedelta(days=1))
    try:
        yield _Torchrun()
    finally:
        torch.distributed.destroy_process_group()
