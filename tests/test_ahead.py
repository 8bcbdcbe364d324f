"""Work ahead by a thread: the same, in the same order, no more than was asked for, and nothing is lost on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command import Done, asr
from decoding import QUICK, Bench
from test_long import bursts, marching, write
from torch import Tensor

from asr.config import Config, override_config
from asr.measured import measure
from asr.model.attention import Memory
from asr.model.file import load_model
from asr.search.ahead import ahead, pays, tensors_in
from asr.search.bound import batch_bound, long_bound
from asr.transcriber import Transcriber

CPU = torch.device("cpu")
DEPTHS = [0, 1, 2, 5, 40]
NEVER, ALWAYS = ("-o", "decode.overlap=never"), ("-o", "decode.overlap=always")


def threads() -> list[str]:
    """Those that work ahead."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("slow", ["nobody", "maker", "user"])
def test_the_same_in_the_same_order_and_no_more_than_was_asked_for(depth: int, slow: str) -> None:
    made, used = 0, 0

    def making() -> Iterator[int]:
        nonlocal made
        for number in range(20):
            made += 1
            assert made <= used + depth + 1
            time.sleep(0.002 * (slow == "maker"))
            yield number
    found = []
    with ahead(making(), depth, CPU) as items:
        for item in items:
            time.sleep(0.002 * (slow == "user"))
            found.append(item)
            used += 1
    assert found == list(range(20))
    assert threads() == []


def test_the_next_is_made_while_one_is_used() -> None:
    begun = threading.Event()

    def making() -> Iterator[int]:
        yield 1
        begun.set()
        yield 2
    with ahead(making(), 1, CPU) as items:
        assert next(items) == 1
        assert begun.wait(10), "nobody makes the second before it is asked for"


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_is_raised_is_raised_at_its_turn(depth: int) -> None:
    def making() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("of the third")
    found = []

    def use() -> None:
        with ahead(making(), depth, CPU) as items:
            for item in items:
                found.append(item)
                time.sleep(0.01)
    with pytest.raises(LookupError, match="of the third"):
        use()
    assert found == [1, 2]
    assert threads() == []


@pytest.mark.parametrize("depth", DEPTHS)
def test_whoever_leaves_early_takes_the_thread_along(depth: int) -> None:
    made = []

    def making() -> Iterator[int]:
        for number in range(10_000):
            time.sleep(0.001)
            made.append(number)
            yield number

    def use() -> None:
        with ahead(making(), depth, CPU) as items:
            for item in items:
                if item == 3:
                    raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        use()
    assert len(made) <= 5 + depth
    assert threads() == []


def test_all_tensors_are_found() -> None:
    """Those that one stream of a CUDA device makes and another uses."""
    a, b, c, d = (torch.full((2,), float(n)) for n in range(4))
    assert [int(x[0]) for x in tensors_in([(a, 7, None), {"x": 1}, Memory(b, c, d)])] == [0, 1, 2, 3]


def test_where_it_pays() -> None:
    settings = {word: Config().decode.model_copy(update={"overlap": word}) for word in ("auto", "always", "never")}
    assert [pays(settings[word], CPU) for word in settings] == [False, True, False]
    assert [pays(settings[word], torch.device("cuda")) for word in settings] == [True, True, False]


# In decoding ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def bench(tmp_path: Path, tiny_config: Callable[..., Config], tiny_network: Callable[..., object]) -> Bench:
    """Twenty short recordings, three of two seconds among them that count as long, and two that cannot be read."""
    keys = (*QUICK, "decode.long.after=1.0", "decode.long.block=0.5", "decode.long.span=0.5", "decode.long.overlap=0.1",
            "decode.long.margin=0.1", "decode.long.batch=2")
    bench = Bench(tmp_path, tiny_config(*keys), tiny_network(*keys, phones=4, seed=3, gain=4.0), 20)
    for number in (4, 12, 13):
        sound = 0.1 * np.random.default_rng(number).standard_normal(4 * 16000)
        soundfile.write(bench.path(number), sound, 16000)
    for number in (2, 9):
        bench.path(number).write_bytes(b"")
    return bench


def silent_about_time(done: Done) -> tuple[int, str, list[str]]:
    return done.code, done.out, done.err.splitlines()[1:]


@pytest.mark.parametrize("keys", [(), ("decode.beam=1",), ("decode.precision=bf16",), ("decode.batch_size=16",),
                                  ("decode.long.road=stream",), ("decode.times=ctc",), ("decode.times=attention",)])
def test_what_is_found_is_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...]) -> None:
    """To the last bit: phones, scores and times of short ones and long ones, and what is said of those that fail."""
    monkeypatch.setattr("asr.transcriber.AHEAD", 2)
    more = [word for key in keys for word in ("-o", key)]
    plain = bench.decode("plain.jsonl", *more, *NEVER)
    beside = bench.decode("beside.jsonl", *more, *ALWAYS)
    assert silent_about_time(beside)[2] == [line.replace("plain.jsonl", "beside.jsonl")
                                            for line in silent_about_time(plain)[2]]
    assert (plain.code, beside.code) == (1, 1)
    assert (bench.folder / "beside.jsonl").read_bytes() == (bench.folder / "plain.jsonl").read_bytes()
    assert (bench.folder / "beside.jsonl").read_bytes().count(b"\n") == 18
    assert threads() == []


def test_interrupted_it_ends_and_goes_on_where_it_was(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.transcriber.AHEAD", 1)
    wanted = bench.decode("x.jsonl", *ALWAYS), (bench.folder / "x.jsonl").read_bytes()
    (bench.folder / "x.jsonl").unlink()
    whole, calls = Transcriber.batch, []

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return whole(self, *arguments)
    with monkeypatch.context() as patch:
        patch.setattr(Transcriber, "batch", interrupted)
        done = bench.decode("x.jsonl", *ALWAYS)
    assert (done.code, done.out) == (130, "")
    assert done.err == "\nasr: interrupted: nothing half-written is left; give the same command again\n"
    assert threads() == []
    done, searched = bench.searched(lambda: bench.decode("x.jsonl", *ALWAYS, "--resume"))
    assert 0 < len(searched) < 15
    assert (bench.folder / "x.jsonl").read_bytes() == wanted[1]


def test_an_error_of_ours_is_not_swallowed_in_the_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Memory:
        raise ZeroDivisionError("in the encoder")
    monkeypatch.setattr("asr.transcriber.encode", broken)
    with pytest.raises(ZeroDivisionError, match="in the encoder"):
        bench.decode("x.jsonl", *ALWAYS)
    assert not (bench.folder / "x.jsonl").exists()
    assert threads() == []


def test_a_stream_is_never_waited_for_by_a_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C would have to wait for its next byte."""
    seen = []
    whole = Transcriber.frames

    def watched(self, *arguments: object) -> Iterator[Tensor]:
        for piece in whole(self, *arguments):
            seen.append(threading.current_thread() is threading.main_thread())
            yield piece
    monkeypatch.setattr(Transcriber, "frames", watched)
    sound = bench.path(4).read_bytes()
    assert asr("decode", bench.model, "-", "--device", "cpu", *ALWAYS, stdin=sound).code == 0
    assert seen
    assert all(seen)


def test_the_bound_counts_it() -> None:
    """What lives while one batch is searched and the next is encoded: more than either, less than both and the rest."""
    plain = Config()
    beside = override_config(plain, ["decode.overlap=always"])
    for bound in (long_bound, batch_bound):
        never, always = bound(plain, 58), bound(beside, 58)
        assert never.total < always.total
        assert always.total < 2.2 * never.total


@pytest.mark.parametrize("kind", ["long", "short"])
def test_memory_stays_below_the_bound(kind: str, tmp_path: Path) -> None:
    """In a process of its own: five minutes in one recording, or in seventy-five."""
    model = marching(tmp_path / "m.asr", "features.mels=40", "encoder.width=32", "decode.overlap=always",
                     "decode.batch_size=8")
    (tmp_path / "sounds").mkdir()
    count = 1 if kind == "long" else 75
    for number in range(count):
        write(tmp_path / "sounds" / f"x{number}.wav", bursts(300 / count, seed=number))
    measured = measure(model, [str(tmp_path / "sounds")], tmp_path / "x.jsonl")
    assert measured is not None
    assert (measured.failures, round(measured.speech)) == ([], 300)
    bound = (long_bound if kind == "long" else batch_bound)(load_model(model).config, 7)
    assert bound.beside
    assert measured.above < bound.total, f"{measured.above / 1e6:.1f} MB, the bound says {bound.total / 1e6:.1f}"
