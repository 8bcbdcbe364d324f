"""One beam that walks has a second try where it went astray; healthy speech is given out as if there were none."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from asr.config import Config, Decode
from asr.model.recognizer import Recognizer
from asr.search.health import loops
from asr.search.longform import LongSearch, Settled, walking_lag
from asr.search.seams import behind
from asr.search.second import ASIDE, CALM, Said, SecondTry, is_astray, trouble

Make = Callable[..., Recognizer]
Configure = Callable[..., Config]
KINDS, STEP = 8, 4          # phones there are, few enough that the branch is asked about all; and frames of each


@pytest.fixture
def decode(tiny_config: Configure) -> Decode:
    """The first try is by attention alone; the second has the CTC branch as well."""
    return tiny_config("decode.window.back=0.1", "decode.window.ahead=0.24", "decode.eos_gate=0.1", "decode.beam=2",
                       "decode.ctc_weight=0", "decode.long.span=4.0").decode


@pytest.fixture
def network(tiny_network: Make) -> Recognizer:
    """Its attention marches on four frames a step and repeats what it hears; so does the CTC branch, in other values.

    Of the 30 values of a frame, 0 … 8 are heard by the attention (0: the end), 15 … 23 by the branch (15: blank).
    """
    network = tiny_network("attention.kind=location", "attention.filters=1", "attention.taps=9", "encoder.width=15",
                           "decoder.output_width=16", "decode.long.span=4.0", phones=KINDS + 1)
    attention, output = network.decoder.attention, network.decoder.output
    with torch.no_grad():
        for weights in (attention.filters.weight, attention.query.weight, output.hidden.weight, output.hidden.bias,
                        output.phones.weight, output.phones.bias, network.ctc.weight, network.ctc.bias):
            weights.zero_()
        attention.filters.weight[0, 0, 0] = 1.0         # f_j = α_{j-4}
        attention.location.weight.fill_(2.0)
        attention.energy.weight.fill_(2.0)
        for id in range(KINDS + 1):
            output.hidden.weight[id, network.decoder.settings.width + id] = 2.0
            output.phones.weight[id, id] = 5.0
            network.ctc.weight[id, 15 + id] = 25.0
    return network


def transcript(count: int, seed: int = 0) -> list[int]:
    """Phones of which none comes again within three, nor two together within thirteen: there is nothing to doubt."""
    draw, ids = random.Random(seed), [0, 0, 0]
    while len(ids) < count + 3:
        pairs = set(pairwise(ids[-13:]))
        ids.append(draw.choice([id for id in range(1, KINDS + 1)
                                if id not in ids[-3:] and (ids[-1], id) not in pairs]))
    return ids[3:]


def spoken(ids: Sequence[int], heard: Sequence[int] | None = None, end: bool = True) -> Tensor:
    """Encoder frames (n, 30) in which the CTC branch hears `ids`, and the attention these or `heard`."""
    values = torch.zeros(STEP * (len(ids) + 2), 30)
    values[:, 15] = 1.0
    for u, (id, other) in enumerate(zip(ids, heard or ids, strict=True), start=1):
        first = STEP * u - 2                            # the first look is at frame 4
        values[first:first + STEP, other] = 1.0
        values[first + 2, 15], values[first + 2, 15 + id] = 0.0, 1.0
    if end:
        values[STEP * len(ids) + 2:, 0] = 1.0
    return values


def joined(pieces: Sequence[Settled]) -> tuple[list[int], list[float], list[float]]:
    return ([id for piece in pieces for id in piece.ids], [f for piece in pieces for f in piece.foci],
            [p for piece in pieces for p in piece.log_probs])


def noted(searching: SecondTry) -> list[tuple[int, int]]:
    """The stretches, in frames, that are searched a second time from now on."""
    padded, spans = searching.held.padded, []
    def note(wanted):
        spans.extend((span.start, span.end) for span in wanted)
        return padded(wanted)
    searching.held.padded = note
    return spans


def test_healthy_speech_is_given_out_as_if_there_were_no_second_try(network: Recognizer, decode: Decode) -> None:
    ids = transcript(120)
    blocks = spoken(ids).split(50)
    expected = list(LongSearch(network, decode).run(blocks))
    searching = SecondTry(network, decode)
    spans = noted(searching)
    assert list(searching.run(blocks)) == expected
    assert joined(expected)[0] == ids
    assert len(expected) > 5
    assert not spans


@pytest.mark.parametrize("size", [37, 500])
@pytest.mark.parametrize(("first", "last"), [(50, 65), (0, 15), (105, 120)])
def test_where_the_attention_loops_it_is_searched_again(first: int, last: int, size: int, network: Recognizer,
                                                        decode: Decode) -> None:
    """Once, and nothing else is; what stands is the truth, and its score is the sum of what it is made of."""
    ids = transcript(120)
    heard = [*ids[:first], *[ids[first]] * (last - first), *ids[last:]]
    blocks = spoken(ids, heard).split(size)
    before = list(LongSearch(network, decode).run(blocks))
    assert joined(before)[0] == heard
    assert list(loops(joined(before)[0]))
    searching = SecondTry(network, decode)
    spans = noted(searching)
    pieces = list(searching.run(blocks))
    found, foci, log_probs = joined(pieces)
    assert found == ids
    assert [piece.again for piece in pieces].count(True) == len(spans) == 1
    assert max(abs(a - b) for a, b in zip(foci, joined(before)[1], strict=True)) <= STEP
    assert spans[0][0] >= STEP * (first - 1) - ASIDE / network.seconds
    assert spans[0][1] <= STEP * (last + CALM + 2) + ASIDE / network.seconds
    assert pieces[-1].score == pytest.approx(sum(log_probs), abs=1e-3)
    assert pieces[-1].ended == "eos"


def test_what_is_no_better_does_not_stand(network: Recognizer, decode: Decode) -> None:
    """Where the branch loops as well; and of a loop of minutes, nothing waits longer than a span."""
    ids = [*transcript(40), *[1] * 120, *transcript(40, seed=1)]
    blocks = spoken(ids).split(100)
    searching = SecondTry(network, decode)
    spans = noted(searching)
    expected = list(LongSearch(network, decode).run(blocks))
    pieces = list(searching.run(blocks))
    assert joined(pieces) == joined(expected)
    assert not any(piece.again for piece in pieces)
    assert pieces[-1].score == expected[-1].score
    assert len(spans) >= 2
    assert max(b - a for a, b in spans) * network.seconds <= decode.long.span + 2 * ASIDE + 0.5


def told(searching: LongSearch | SecondTry, values: Tensor) -> list[tuple[int, float, int]]:
    """Phones as they are given out, where they are, and how many frames had been heard by then."""
    heard = 0
    def blocks() -> Iterator[Tensor]:
        nonlocal heard
        for block in values.split(25):
            heard += len(block)
            yield block
    return [(id, focus, heard) for piece in searching.run(blocks())
            for id, focus in zip(piece.ids, piece.foci, strict=False)]


def test_what_waits_is_bounded(network: Recognizer, decode: Decode) -> None:
    """In seconds until it is given out, in phones, and in frames that are held; what is healthy does not wait."""
    values = spoken([*transcript(60), *[1] * 120, *transcript(60, seed=1)])
    searching = SecondTry(network, decode)
    known, most = searching._is_ripe, [0, 0, 0]
    def watched() -> bool:
        held = sum(len(block) for _, block in searching.held.blocks)
        most[:] = [max(pair) for pair in zip(most, (held, len(searching.waiting), len(searching.given)), strict=True)]
        return known()
    searching._is_ripe = watched
    found = told(searching, values)
    plain = told(LongSearch(network, decode), values)
    assert found[:58] == plain[:58]
    late = max((heard - focus) * network.seconds for _, focus, heard in found)
    assert decode.long.span < late < walking_lag(decode.long)
    assert most[0] * network.seconds <= walking_lag(decode.long) + decode.window.ahead + ASIDE + 0.5
    assert most[1:] <= [STEP * decode.long.span / network.seconds, 64]


def test_a_silence_ends_what_waits(network: Recognizer, decode: Decode) -> None:
    """What is in doubt is searched again before the silence is over, and speech behind it is found."""
    ids, after = transcript(60), transcript(60, seed=1)
    silence = torch.zeros(1000, 30)
    silence[:, 15] = 1.0
    heard = [*ids[:50], *[ids[50]] * 10]
    found = told(SecondTry(network, decode), torch.cat([spoken(ids, heard, end=False), silence, spoken(after)]))
    assert [id for id, *_ in found][:59] == ids[:59]
    assert [id for id, *_ in found][-50:] == after[-50:]
    assert max(heard for _, focus, heard in found if focus < STEP * 62) < STEP * 60 + 400


def test_a_focus_that_was_pushed_on_is_searched_again(network: Recognizer, decode: Decode) -> None:
    ids = transcript(100)
    pieces = [Settled(ids[:40], [-0.1] * 40, [4.0 * u for u in range(40)], [0.1] * 40, 0.0, 400, pushed=1),
              Settled(ids[40:], [-0.1] * 60, [4.0 * u for u in range(40, 100)], [0.1] * 60, -10.0, 400, "limit")]
    searching = SecondTry(network, decode)
    spans = noted(searching)
    class Walk:
        def run(self, blocks):
            list(blocks)
            yield from pieces
    searching.walk = Walk()
    found = list(searching.run([spoken(ids)]))
    assert joined(found)[0] == ids
    assert len(spans) == 2, "behind the push, and at the end, which was none"
    assert [piece.again for piece in found].count(True) == 2
    assert sum(piece.pushed for piece in found) == 0
    assert found[-1].ended == "eos"


def said(ids: Sequence[int], foci: Sequence[float]) -> list[Said]:
    return [Said(id, -0.1, focus, 0.1) for id, focus in zip(ids, foci, strict=True)]


@pytest.mark.parametrize(("ids", "foci", "begin"), [
    ([1, 2, 3, 4], [0, 5, 9, 14], None),
    ([1, 2, 3, 3], [0, 5, 9, 14], 3),                               # said twice
    ([1, 2, 3, 1], [0, 5, 9, 14], None),
    ([1, 2, 3, 1, 2], [0, 5, 9, 14, 20], 3),
    ([1, 2, 3, 4], [0, 9, 5, 14], 2),                               # a step back
    ([1, 2, 3, 4, 5], [0, 1, 2, 3, 3], 0),                          # five within four frames
    ([1, 2, 3, 4, 5], [0, 1, 2, 3, 6], None)])
def test_what_is_doubted(ids: list[int], foci: list[float], begin: int | None) -> None:
    assert trouble(said(ids, foci), 0.02) == begin


def test_a_step_back_is_forgotten() -> None:
    ids = transcript(30)
    foci = [*range(0, 50, 5), *range(44, 144, 5)]
    begins = [trouble(said(ids[:count], foci[:count]), 0.02) for count in range(1, 31)]
    assert begins == [None] * 10 + [10] * CALM + [None] * (20 - CALM)


def test_what_is_astray() -> None:
    ids = transcript(40)
    ahead = [5.0 * u for u in range(40)]
    assert not is_astray(said(ids, ahead))
    assert is_astray(said([*ids[:36], 7, 7, 7, 7], ahead))
    assert is_astray(said([7, *ids[:3]], ahead[:4]), said([7, 7, 7], [-3, -2, -1])), "a loop that began before"
    assert not is_astray(said(ids[1:5], ahead[:4]), said([7, 7, 7, 7], [-4, -3, -2, -1])), "a loop that is over"
    back = [focus - 6 * (u in (5, 10, 15)) for u, focus in enumerate(ahead)]
    assert is_astray(said(ids[:25], back[:25]))
    assert not is_astray(said(ids, back)), "three steps of forty"


def test_what_goes_on_behind_what_stays() -> None:
    left = [(1, 0.0), (2, 4.0), (3, 8.0)]
    assert behind([], [(1, 0.0)], 3) == 0
    assert behind(left, [(2, 5.0), (3, 9.0), (4, 12.0)], 3) == 2
    assert behind(left, [(3, 3.0), (2, 4.0), (5, 9.0), (4, 12.0)], 3) == 3      # the 5 stands where the 3 does
    assert behind(left, [(5, 4.0), (6, 8.0), (4, 12.0)], 3) == 2
    assert behind(left, [(4, 12.0)], 3) == 0
