"""Spans of long recordings: cuts lose nothing, none waits behind hours of silence, evidence of times waits for all."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
import torch
from test_long import bursts, check, decoded, marching, write
from torch import Tensor

from asr.config import Long
from asr.model.file import load_model
from asr.search.spans import PAUSE, Cutter, SpanSearch, lag, patience

PAD = 2


def recording(seed: int) -> Tensor:
    """Log probabilities of the blank: long silences, long speech, and chance."""
    draw = random.Random(seed)
    frames: list[float] = []
    while len(frames) < 600:
        frames += [0.0] * draw.randrange(150) if draw.random() < 0.5 else [-9.0] * draw.randrange(120)
        frames += [draw.choice([-9.0, -5.0, -0.01]) for _ in range(draw.randrange(60))]
    return torch.tensor(frames)


@pytest.mark.parametrize(("longest", "overlap"), [(100, 5), (100, 25), (20, 5), (20, 0), (4, 1)])
def test_all_that_is_said_lies_in_a_span_and_nothing_in_three(longest: int, overlap: int) -> None:
    for seed in range(20):
        quiet, cutter = recording(seed), Cutter(longest, overlap, pause=25, pad=PAD, smooth=1)
        spans = [span for block in quiet.split(40) for span in cutter.push(block)] + [*cutter.finish()]
        inside = torch.zeros(len(quiet), dtype=torch.long)
        for span in spans:
            assert 0 < span.end - span.start <= longest + overlap + PAD
            inside[span.start:span.end] += 1
        assert bool(inside[quiet < -0.2].all()), "something is left out"
        assert int(inside.max()) <= 2
        assert all(a.start < b.start and a.end < b.end for a, b in itertools.pairwise(spans))
        assert all(a.shared for a, b in itertools.pairwise(spans) if b.start < a.end)
        assert not spans[-1].shared, "it would wait for a next one"


def test_speech_that_begins_late_in_a_span_is_cut_where_enough_is_known() -> None:
    """Behind eighteen seconds of silence the place to cut lay beyond all that was known, and decoding crashed."""
    cutter = Cutter(longest=100, overlap=5, pause=25, pad=PAD, smooth=1)
    quiet = torch.cat([torch.zeros(95), torch.full((120,), -9.0)])
    spans = [*cutter.push(quiet[:131]), *cutter.push(quiet[131:]), *cutter.finish()]
    assert (spans[0].start, spans[-1].end) == (95 - PAD, 215)


def test_speech_up_to_the_end_is_no_pause() -> None:
    """The last span was cut at its full length, in the midst of speech, when five seconds and more followed."""
    cutter = Cutter(longest=100, overlap=20, pause=25, pad=PAD, smooth=1)
    quiet = torch.full((128,), -9.0)
    quiet[69:72] = -1.0
    spans = [*cutter.push(quiet), *cutter.finish()]
    assert [(span.start, span.end, span.shared) for span in spans] == [(0, 90, True), (50, 128, False)]


def test_what_is_left_behind_a_cut_is_more_than_both_share() -> None:
    """A span that lay within the one before it was searched for nothing, and could take phones from that one's end."""
    for end in (110, 120):
        cutter = Cutter(longest=100, overlap=20, pause=25, pad=PAD, smooth=1)
        quiet = torch.cat([torch.full((end,), -9.0), torch.zeros(60 * (end == 110))])
        assert [(s.start, s.end) for s in [*cutter.push(quiet), *cutter.finish()]] == [(0, end + PAD * (end == 110))]


class Told(SpanSearch):
    """A search that is told what is silence: frames of zeros. It notes how many encoder frames are held."""

    most = 0

    def _quiet(self, values: Tensor) -> Tensor:
        self.most = max(self.most, sum(len(block) for _, block in self.held.blocks))
        return torch.where(values.abs().amax(1) > 0, -9.0, 0.0)


def test_nothing_waits_behind_a_silence(tiny_network, tiny_config) -> None:
    """Of an hour of silence nothing is held, and what was said before is told before it ends."""
    decode = tiny_config("decode.beam=1", "decode.fallback=false", "decode.long.span=4.0",
                         "decode.long.block=2.0").decode
    network = tiny_network(phones=5)
    def frames(seconds: float) -> int:
        return round(seconds / network.seconds)
    searching, heard = Told(network, decode), 0
    def blocks() -> Iterator[Tensor]:
        nonlocal heard
        speech = torch.randn(frames(12), 12, generator=torch.Generator().manual_seed(0))
        for block in torch.cat([speech, torch.zeros(frames(3600), 12), speech]).split(frames(2)):
            heard += len(block)
            yield block
    told = [(heard, focus) for piece in searching.run(blocks()) for focus in piece.foci]
    before = [moment for moment, focus in told if focus < frames(13)]
    assert before
    assert max(before) < frames(13 + patience(decode.long) + decode.long.block)
    assert [focus for _, focus in told if focus >= frames(3611)]
    assert searching.most <= frames(patience(decode.long) + 3 * decode.long.block)


@pytest.mark.parametrize("long", [Long(), Long(batch=1), Long(span=4.0, overlap=1.0, batch=1), Long(block=60.0)])
def test_evidence_waits_for_whatever_may_wait(long: Long) -> None:
    assert patience(long) >= long.span + long.overlap + PAUSE + long.block     # what it takes to cut a span
    assert lag(long) >= patience(long) + long.block + long.span                # and one more, until it is stitched


@pytest.mark.parametrize("keys", [["batch=1"], ["batch=1", "span=2.0", "overlap=0.5"], ["span=0.1", "overlap=0"],
                                  ["block=0.5", "margin=0"], ["span=1.0", "overlap=0.25"]])
def test_settings_at_their_limits(keys: list[str], tmp_path) -> None:
    model = marching(tmp_path / "m.asr", *(f"decode.long.{key}" for key in keys), "decode.beam=1")
    [row] = decoded(model, write(tmp_path / "x.wav", bursts(12)))
    check(row, 12)
    assert load_model(model).config.decode.long.road == "spans"
