"""The search over recordings of any length: the same result as the search of the whole, in bounded memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from asr.config import Config, Decode
from asr.model.attention import Memory
from asr.model.recognizer import Recognizer
from asr.search.beam import search
from asr.search.longform import PAUSE, LongSearch, Settled, walking_lag, widest
from asr.search.stepper import AttentionStepper

Make = Callable[..., Recognizer]
Configure = Callable[..., Config]


def settings(tiny_config: Configure, *overrides: str) -> Decode:
    return tiny_config("decode.window.back=0.1", "decode.window.ahead=0.24", "decode.eos_gate=0.1",
                       "decode.fallback=false", *overrides).decode


def marching(make: Make, *overrides: str, seed: int = 0) -> Recognizer:
    """A network whose location attention steps ahead four frames at a time, and whose other weights are random."""
    network = make("attention.kind=location", "attention.filters=1", "attention.taps=9", "decoder.width=6",
                   *overrides, phones=7, gain=3.0, seed=seed)
    attention = network.decoder.attention
    with torch.no_grad():
        attention.filters.weight.zero_()
        attention.filters.weight[0, 0, 0] = 1.0         # f_j = α_{j-4}
        attention.location.weight.fill_(2.0)
        attention.query.weight.zero_()
        attention.energy.weight.fill_(2.0)
        network.decoder.output.phones.weight.mul_(2)
    return network


def frames(count: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))


def run(network: Recognizer, decode: Decode, blocks: list[Tensor]) -> list[Settled]:
    return list(LongSearch(network, decode).run(blocks))


def whole(pieces: list[Settled]) -> tuple[list[int], list[float], list[float]]:
    """Ids, foci and log probabilities of a recording."""
    return ([i for p in pieces for i in p.ids], [f for p in pieces for f in p.foci],
            [s for p in pieces for s in p.log_probs])


def test_a_window_of_an_hour_is_no_wider_than_phones_wait(tiny_network: Make, tiny_config: Configure) -> None:
    network = marching(tiny_network)
    decode = settings(tiny_config, "decode.window.back=3600", "decode.window.ahead=3600")
    window = LongSearch(network, decode).stepper.aids.window
    assert window is not None
    assert (window.back, window.ahead) == (round(widest(decode.long) / network.seconds),) * 2


@pytest.mark.parametrize("weight", [0, 0.3])
@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("seed", [0, 1])
@torch.inference_mode()
def test_one_block_is_the_plain_search(beam: int, weight: float, seed: int, tiny_network: Make,
                                       tiny_config: Configure) -> None:
    network = marching(tiny_network, seed=seed)
    decode = settings(tiny_config, f"decode.beam={beam}", f"decode.ctc_weight={weight}")
    values = frames(120, seed)
    memory = network.decoder.attention.remember(values.unsqueeze(0), torch.tensor([120]))
    stepper = AttentionStepper(network, decode)
    best = search(stepper, stepper.start(memory), [math.ceil(120 * network.seconds * decode.longest)],
                  width=beam)[0][0]
    pieces = run(network, decode, [values])
    ids, foci, log_probs = whole(pieces)
    assert best.ended == pieces[-1].ended
    assert weight == 0 or best.ended == "eos"
    assert len(best.ids) > 15
    count = len(best.log_probs)         # at the limit, the long search goes on for some more steps
    assert ids[:len(best.ids)] == best.ids
    assert foci[:count] == best.notes[:, 0].tolist()
    assert log_probs[:count] == pytest.approx(best.log_probs, abs=1e-4)
    if best.ended == "eos":
        assert len(ids) == len(best.ids)
        assert pieces[-1].score == pytest.approx(best.score, abs=1e-4)


@pytest.mark.parametrize(("beam", "weight"), [(1, 0.3), (4, 0.3), (4, 0)])
def test_the_cut_into_blocks_does_not_matter(beam: int, weight: float, tiny_network: Make,
                                             tiny_config: Configure) -> None:
    network = marching(tiny_network)
    decode = settings(tiny_config, f"decode.beam={beam}", f"decode.ctc_weight={weight}")
    values = frames(400)
    expected = run(network, decode, [values])
    assert len(whole(expected)[0]) > 60
    for size in (1, 13, 399):
        found = run(network, decode, list(values.split(size)))
        assert whole(found)[0] == whole(expected)[0]
        assert whole(found)[1] == whole(expected)[1]
        assert found[-1].score == pytest.approx(expected[-1].score, rel=1e-5)
        assert found[-1].ended == expected[-1].ended


def test_empty_blocks_are_nothing(tiny_network: Make, tiny_config: Configure) -> None:
    network, decode, values = marching(tiny_network), settings(tiny_config, "decode.beam=2"), frames(200)
    none = values[:0]
    found = run(network, decode, [none, values[:90], none, none, values[90:], none])
    assert whole(found) == whole(run(network, decode, [values[:90], values[90:]]))
    for empty in ([], [none], [none, none]):
        assert run(network, decode, empty) == [Settled([], [], [], [], 0.0, 0, "eos")]


def test_what_has_settled_stays(tiny_network: Make, tiny_config: Configure) -> None:
    """A piece is given out before the recording ends, and the pieces are one hypothesis whose score is their sum."""
    network = marching(tiny_network)
    decode = settings(tiny_config, "decode.beam=4", "decode.ctc_weight=0", "decode.long.settle=8")
    read: list[int] = []
    def blocks() -> Iterator[Tensor]:
        for number, block in enumerate(frames(700).split(50)):
            read.append(number)
            yield block
    behind = [(len(read), piece) for piece in LongSearch(network, decode).run(blocks())]
    assert behind[0][0] < 4
    assert [piece.ended for _, piece in behind[:-1]] == [""] * (len(behind) - 1)
    pieces = [piece for _, piece in behind]
    ids, foci, log_probs = whole(pieces)
    assert len(log_probs) == len(foci) == len(ids) + (pieces[-1].ended == "eos")
    assert pieces[-1].score == pytest.approx(sum(log_probs), rel=1e-5)
    assert max(len(piece.ids) for piece in pieces[:-1]) <= 8
    assert foci[-1] > 690


def watched(network: Recognizer, decode: Decode, blocks: Iterator[Tensor]) -> tuple[int, int, list[Settled]]:
    """The largest memory in frames, the longest beam in phones, and the pieces."""
    long, largest, longest = LongSearch(network, decode), 0, 0
    supply = long._supply
    def supplied(beam: object, *rest: object) -> object:
        nonlocal largest, longest
        beam = supply(beam, *rest)
        largest = max(largest, beam.state.memory.values.size(1))
        longest = max(longest, beam.ids.size(2))
        return beam
    long._supply = supplied
    return (pieces := list(long.run(blocks))) and (largest, longest, pieces)


def test_memory_is_bounded(tiny_network: Make, tiny_config: Configure) -> None:
    """Half a minute of random frames, which the attention of a random network finds no way through by itself."""
    decode = settings(tiny_config, "decode.beam=4", "decode.long.settle=10")
    for network in (marching(tiny_network), tiny_network(phones=7, gain=3.0)):
        block, count = 100, 14
        largest, longest, pieces = watched(network, decode, (frames(block, seed) for seed in range(count)))
        window = AttentionStepper(network, decode).aids.window
        # Ahead of the first focus one window and a block; behind the last two windows; between them a guard's leap.
        assert largest <= block + 6 * window.width
        assert longest <= 12
        assert pieces[-1].encoded == block * count
        assert max(pieces[-1].foci) > block * count - 50


def test_evenly_spread_attention_begins_at_the_beginning(tiny_network: Make, tiny_config: Configure) -> None:
    network = marching(tiny_network, "attention.start=uniform")
    found = run(network, settings(tiny_config, "decode.beam=2"), list(frames(700).split(350)))
    assert found[0].foci[0] < 20


def silent(network: Recognizer, before: int, silence: int, after: int) -> Tensor:
    """Random frames around a stretch for which the CTC branch says blank; elsewhere it never does."""
    values = frames(before + silence + after)
    with torch.no_grad():
        network.ctc.weight.zero_()
        network.ctc.bias.zero_()
        network.ctc.weight[0, 0] = 1.0
    values[:, 0] = -20.0
    values[before:before + silence, 0] = 20.0
    return values



@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("silence", [400, 3000])
def test_a_long_silence_is_stepped_over(silence: int, beam: int, tiny_network: Make, tiny_config: Configure) -> None:
    """Few phones are said in it, however long it is and however it is cut, and speech behind it is found."""
    network = marching(tiny_network)
    values = silent(network, 150, silence, 150)
    decode = settings(tiny_config, f"decode.beam={beam}")
    expected = None
    for size in (len(values), 173, 40):
        ids, foci, _ = whole(run(network, decode, list(values.split(size))))
        inside = [focus for focus in foci if 155 < focus < 145 + silence]
        assert len(inside) <= 5
        assert len([focus for focus in foci if focus >= 145 + silence]) > 20
        assert len([focus for focus in foci if focus <= 155]) > 20
        expected = expected or (ids, foci)
        assert (ids, foci) == expected


@pytest.mark.parametrize("beam", [1, 4])
def test_the_last_phone_before_a_silence_is_not_kept_until_the_next(beam: int, tiny_network: Make,
                                                                    tiny_config: Configure) -> None:
    """Behind six minutes of it, its evidence was gone, and its start was told behind the silence."""
    network = marching(tiny_network)
    decode = settings(tiny_config, f"decode.beam={beam}")
    heard = 0
    def blocks() -> Iterator[Tensor]:
        nonlocal heard
        for block in silent(network, 150, 18000, 150).split(600):
            heard += len(block)
            yield block
    told = [(heard, focus, piece.pause) for piece in LongSearch(network, decode).run(blocks()) for focus in piece.foci]
    before = [moment for moment, focus, _ in told if focus <= 155]
    assert len(before) > 20
    assert (max(before) - 150) * network.seconds < PAUSE + 600 * network.seconds + 1 < walking_lag(decode.long)
    assert max(focus for _, focus, pause in told if pause) < 180
    assert len([focus for _, focus, _ in told if focus >= 18145]) > 20


@pytest.mark.parametrize("seed", range(2))
def test_memory_does_not_hold_a_silence_for_one_that_lags_behind(seed: int, tiny_network: Make,
                                                                 tiny_config: Configure) -> None:
    """Hypotheses come to a silence one after another; they meet there, and none is said twice or lost."""
    decode = settings(tiny_config, "decode.beam=6", "decode.long.settle=20")
    network = tiny_network(phones=7, gain=3.0, seed=seed)
    largest, _, pieces = watched(network, decode, iter(silent(network, 100, 1500, 100).split(50)))
    window = AttentionStepper(network, decode).aids.window
    assert largest <= PAUSE / network.seconds + 50 + 6 * window.width
    _, foci, log_probs = whole(pieces)
    assert pieces[-1].score == pytest.approx(sum(log_probs), rel=1e-5)
    assert any(piece.pause for piece in pieces)
    assert min(foci) < 105
    assert max(foci) > 1600


def test_a_silent_end_is_not_filled_with_phones(tiny_network: Make, tiny_config: Configure) -> None:
    network = marching(tiny_network)
    values = silent(network, 150, 900, 0)
    found = run(network, settings(tiny_config, "decode.beam=4"), list(values.split(100)))
    assert len([focus for focus in whole(found)[1] if 155 < focus < 1030]) <= 5


def test_a_silent_beginning(tiny_network: Make, tiny_config: Configure) -> None:
    network = marching(tiny_network)
    values = silent(network, 0, 900, 150)
    foci = whole(run(network, settings(tiny_config, "decode.beam=4"), list(values.split(100))))[1]
    assert len([focus for focus in foci if focus < 890]) <= 6
    assert len([focus for focus in foci if focus >= 890]) > 20


def test_a_focus_that_is_stuck_is_pushed_on(tiny_network: Make, tiny_config: Configure) -> None:
    network = marching(tiny_network)
    with torch.no_grad():
        network.decoder.attention.filters.weight.zero_()
        network.decoder.attention.filters.weight[0, 0, 4] = 1.0     # look where you looked
    pieces = run(network, settings(tiny_config, "decode.beam=2"), list(frames(200).split(50)))
    assert sum(piece.pushed for piece in pieces) > 5
    assert max(whole(pieces)[1]) > 180


def test_a_focus_that_always_goes_back_comes_to_the_end(tiny_network: Make, tiny_config: Configure) -> None:
    """It came back to where it had been pushed on from, for ever."""
    network = marching(tiny_network)
    with torch.no_grad():
        network.decoder.attention.filters.weight.zero_()
        network.decoder.attention.filters.weight[0, 0, 8] = 1.0     # f_j = α_{j+4}
    decode = settings(tiny_config, "decode.beam=2", "decode.jump_back=0")
    pieces = run(network, decode, list(frames(300).split(50)))
    assert pieces[-1].ended
    assert max(whole(pieces)[1]) > 250


def test_long_input_needs_the_window(tiny_network: Make, tiny_config: Configure) -> None:
    for network, decode in ((tiny_network(), settings(tiny_config, "decode.window.enabled=false")),
                            (tiny_network("attention.kind=none"), settings(tiny_config))):
        with pytest.raises(ValueError, match="long input needs the attention's window"):
            LongSearch(network, decode)


def test_memory_is_cut_and_joined(tiny_network: Make) -> None:
    network, values = tiny_network(), frames(30)
    whole_memory = network.decoder.attention.remember(values.unsqueeze(0), torch.tensor([30]))
    parts = [network.decoder.attention.remember(v.unsqueeze(0), torch.tensor([len(v)])) for v in values.split([7, 23])]
    joined = Memory(torch.cat([p.values for p in parts], 1), torch.cat([p.keys for p in parts], 1),
                    torch.tensor(list(itertools.accumulate(int(p.lengths) for p in parts))[-1:]))
    torch.testing.assert_close(joined.keys, whole_memory.keys)
    assert torch.equal(joined.lengths, whole_memory.lengths)
