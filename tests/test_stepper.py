"""The recogniser's step for the search: guards, and batches that do not matter."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from asr.config import Config, Decode
from asr.corpus.phones import PhoneSet
from asr.corpus.records import TimedPhone, hypothesis_row
from asr.model.attention import Memory
from asr.model.recognizer import Recognizer
from asr.search.beam import Found, search
from asr.search.health import health, is_poor, loops
from asr.search.recognise import hypothesis_of, recognise, timed_phones
from asr.search.stepper import AttentionStepper, SearchState

Make = Callable[..., Recognizer]
Configure = Callable[..., Config]
FRAMES = torch.tensor([60, 41, 18, 53, 7])


def feats() -> Tensor:
    torch.manual_seed(6)
    return torch.randn(5, 60, 8)


def settings(tiny_config: Configure, *overrides: str) -> Decode:
    return tiny_config("decode.window.back=0.1", "decode.window.ahead=0.2", "decode.eos_gate=0.1",
                       "decode.fallback=false", *overrides).decode


DECODERS = [
    (f"decode.window.enabled={window}", f"decode.ctc_weight={weight}", f"decode.beam={beam}", "decode.nbest=2")
    for window, weight, beam in itertools.product(["true", "false"], [0, 0.4], [1, 4])]


@pytest.mark.parametrize("overrides", DECODERS, ids=lambda o: " ".join(v.split("=")[1] for v in o))
@pytest.mark.parametrize("kind", ["hybrid", "none"])
def test_an_utterance_does_not_depend_on_its_batch(overrides: tuple[str, ...], kind: str, tiny_network: Make,
                                                   tiny_config: Configure) -> None:
    network = tiny_network(f"attention.kind={kind}", phones=7, gain=3.0)
    decode, x = settings(tiny_config, *overrides), feats()

    def found(rows: list[int]) -> list[list[Found]]:
        longest = int(FRAMES[rows].max())
        return recognise(network, x[rows, :longest], FRAMES[rows], decode)

    together = found([0, 1, 2, 3, 4])
    shuffled = dict(zip([3, 1, 4, 0, 2], found([3, 1, 4, 0, 2]), strict=True))
    alone = [found([row])[0] for row in range(5)]
    for row in range(5):
        for other in (shuffled[row], alone[row]):
            assert [(f.ids, f.ended) for f in other] == [(f.ids, f.ended) for f in together[row]]
            assert [f.score for f in other] == pytest.approx([f.score for f in together[row]], abs=1e-4)
            for one, two in zip(other, together[row], strict=True):
                torch.testing.assert_close(one.notes, two.notes, atol=1e-3, rtol=0)
    assert len({tuple(f[0].ids) for f in together}) > 1     # there was something to tell apart


@pytest.mark.parametrize("weight", [0, 0.4])
def test_a_window_that_is_large_enough_changes_nothing(weight: float, tiny_network: Make,
                                                       tiny_config: Configure) -> None:
    network = tiny_network(phones=7, gain=3.0)
    common = (f"decode.ctc_weight={weight}", "decode.beam=4")
    with_window = settings(tiny_config, *common, "decode.window.back=9", "decode.window.ahead=9")
    without = settings(tiny_config, *common, "decode.window.enabled=false")
    for one, two in zip(recognise(network, feats(), FRAMES, with_window), recognise(network, feats(), FRAMES, without),
                        strict=True):
        assert one[0].ids == two[0].ids
        assert one[0].score == pytest.approx(two[0].score, abs=1e-4)


def test_a_window_of_an_hour_is_no_wider_than_the_recording(tiny_network: Make, tiny_config: Configure,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    network, widths = tiny_network(phones=7, gain=3.0), []
    begin = AttentionStepper.start

    def start(self: AttentionStepper, memory: Memory) -> SearchState:
        assert self.aids.window is not None
        widths.append((self.aids.window.width, memory.values.size(1)))
        return begin(self, memory)
    monkeypatch.setattr(AttentionStepper, "start", start)
    found = [recognise(network, feats(), FRAMES, settings(tiny_config, f"decode.window.back={wide}",
                                                          f"decode.window.ahead={wide}")) for wide in (9, 3600)]
    assert [[f.ids for f in row] for row in found[0]] == [[f.ids for f in row] for row in found[1]]
    assert widths
    assert all(width <= 2 * frames + 1 for width, frames in widths)


def test_scores_are_those_of_the_decoder(tiny_network: Make, tiny_config: Configure) -> None:
    network = tiny_network(phones=7, gain=3.0)
    decode = settings(tiny_config, "decode.ctc_weight=0", "decode.window.enabled=false", "decode.eos_gate=0",
                      "decode.jump_back=0")
    for row, (found, *_) in enumerate(recognise(network, feats(), FRAMES, decode)):
        memory = network.encode(feats()[row:row + 1, :int(FRAMES[row])], FRAMES[row:row + 1])
        with torch.no_grad():
            logits, weights = network.decoder(torch.tensor([[0, *found.ids]]), memory)
        steps = [*found.ids, 0] if found.ended == "eos" else found.ids
        own = logits[0].log_softmax(1)[torch.arange(len(steps)), steps]
        assert found.log_probs == pytest.approx(own.tolist(), abs=1e-4)
        entropy = -(weights[0] * weights[0].clamp(min=1e-10).log()).sum(1)[:len(steps)]
        torch.testing.assert_close(found.notes[:, 1], entropy, atol=1e-3, rtol=0)


def test_no_end_before_the_gate(tiny_network: Make, tiny_config: Configure) -> None:
    network = tiny_network(phones=7, gain=3.0)
    decode = settings(tiny_config, "decode.eos_gate=0.1", "decode.ctc_weight=0")
    gate = round(0.1 / network.seconds)
    stepper = AttentionStepper(network, decode)
    with torch.no_grad():
        memory = network.encode(feats(), FRAMES)
        state = stepper.start(memory)
        last = torch.zeros(5, 1, dtype=torch.long)
        forbidden = 0
        for step in range(30):
            said, state = stepper.step(last, state)
            far = said.notes[:, :, 0] < memory.lengths.unsqueeze(1) - 1 - gate
            assert torch.equal(said.log_probs[:, :, 0] == -math.inf, far)
            forbidden += int(far.sum())
            last = torch.full_like(last, 1 + step % 6)
            state = stepper.pick(state, torch.arange(5).unsqueeze(1), last)
    assert forbidden > 10


def guarded(network: Recognizer, decode: Decode, before: list[int], focus: list[int]) -> list[bool]:
    """Which hypotheses of an utterance of 100 frames are dropped when their focus moves from `before` to `focus`."""
    stepper = AttentionStepper(network, decode)
    log_probs = stepper._guarded(torch.zeros(1, len(focus), 3), torch.tensor([before]), torch.tensor([focus]),
                                 torch.tensor([100]))
    dropped = log_probs[0] == -math.inf
    assert torch.equal(dropped[:, 1], dropped[:, 2])
    return dropped[:, 1].tolist()


def test_a_focus_that_jumps_drops_the_hypothesis_unless_all_do(tiny_network: Make, tiny_config: Configure) -> None:
    network = tiny_network()        # 20 ms a frame
    decode = settings(tiny_config, "decode.jump_back=0.1", "decode.jump_ahead=0.2")
    assert guarded(network, decode, [50, 50, 50, 50, 50], [45, 44, 60, 61, 50]) == [False, True, False, True, False]
    assert guarded(network, decode, [50, 50], [44, 61]) == [False, False]
    free = settings(tiny_config, "decode.jump_back=0", "decode.jump_ahead=0")
    assert guarded(network, free, [50, 50], [0, 50]) == [False, False]


@torch.no_grad()
def test_the_end_is_forbidden_by_a_window_that_does_not_reach_it(tiny_network: Make, tiny_config: Configure) -> None:
    """Also where no gate does so: the CTC branch knows that something may follow."""
    network = tiny_network(phones=3, gain=3.0)
    decode = settings(tiny_config, "decode.eos_gate=0", "decode.beam=50")
    stepper = AttentionStepper(network, decode)
    memory = network.encode(feats()[:1], FRAMES[:1])
    said, _ = stepper.step(torch.zeros(1, 1, dtype=torch.long), stepper.start(memory))
    assert float(said.log_probs[0, 0, 0]) == -math.inf
    found = search(stepper, stepper.start(memory), [2], width=50, nbest=3)[0]
    assert all(f.ended == "limit" and f.score > -1e6 for f in found)


def test_limits_follow_the_duration(tiny_network: Make, tiny_config: Configure) -> None:
    network = tiny_network(phones=7)
    with torch.no_grad():
        network.decoder.output.phones.bias[0] = -50.0       # it never wants to end
    decode = settings(tiny_config, "decode.longest=10", "decode.ctc_weight=0", "decode.beam=1")
    found = recognise(network, feats(), FRAMES, decode)
    seconds = [-(-n // 2) * 0.02 for n in FRAMES.tolist()]
    assert [len(f[0].ids) for f in found] == [math.ceil(s * 10 - 1e-9) for s in seconds]
    with torch.no_grad():
        network.decoder.output.phones.bias[0] = 50.0        # it wants to end at once
    decode = replace_decode(decode, shortest=10.0, eos_gate=0.0)
    assert [len(f[0].ids) for f in recognise(network, feats(), FRAMES, decode)] \
        == [math.floor(s * 10 + 1e-9) for s in seconds]


def replace_decode(decode: Decode, **changes: object) -> Decode:
    return decode.model_copy(update=changes)


def test_bf16_on_a_cpu(tiny_network: Make, tiny_config: Configure) -> None:
    network = tiny_network(phones=7, gain=3.0)
    for overrides in DECODERS[1::4]:
        exact = recognise(network, feats(), FRAMES, settings(tiny_config, *overrides))
        rough = recognise(network, feats(), FRAMES, settings(tiny_config, *overrides, "decode.precision=bf16"))
        for one, two in zip(exact, rough, strict=True):
            assert math.isfinite(two[0].score)
            assert abs(len(one[0].ids) - len(two[0].ids)) <= 10


# From what was found to a record.


def test_phones_tile_the_utterance() -> None:
    timed = list(timed_phones(["a", "b", "c"], [2, 5, 4, 9], [-0.5, -1.0, 0.1, 0.0], seconds=0.1, duration=1.0))
    assert [(p.phone, round(p.start, 6), round(p.end, 6), round(p.confidence, 6)) for p in timed] == [
        ("a", 0.0, 0.4, round(math.exp(-0.5), 6)), ("b", 0.4, 0.55, round(math.exp(-1), 6)), ("c", 0.55, 1.0, 1.0)]
    assert list(timed_phones([], [3], [-1.0], seconds=0.1, duration=1.0)) == []
    # a prefix that the CTC branch held impossible and then does not: its score leaps up
    beyond = list(timed_phones(["a", "b"], [50, 90], [0.0, 999.0], seconds=0.1, duration=1.0))
    assert beyond == [TimedPhone("a", 0.0, 1.0), TimedPhone("b", 1.0, 1.0)]


def test_a_hypothesis_with_its_n_best() -> None:
    best = Found([2, 1], -1.25, [-0.25, -0.5, -0.5], torch.tensor([[1, 0.5], [3, 0.25], [8, 0.0]]), "eos")
    other = Found([1], -3.5, [-3.0, -0.5], torch.tensor([[1, 0.5], [8, 0.5]]), "eos")
    row = hypothesis_row(hypothesis_of("x", [best, other], PhoneSet(["a", "b"]), seconds=0.1, duration=1.0))
    assert row == {
        "id": "x", "text": "b a", "score": -1.25,
        "phones": [{"phone": "b", "start": 0.0, "end": 0.25, "confidence": 0.7788},
                   {"phone": "a", "start": 0.25, "end": 1.0, "confidence": 0.6065}],
        "health": {"monotonic": 1.0, "jumps_back": 0, "skipped": 0, "loops": 0, "astray": [],
                   "entropy": 0.25, "ended": "eos", "pushed": 0, "again": 0},
        "nbest": [{"text": "b a", "score": -1.25}, {"text": "a", "score": -3.5}]}
    nothing = hypothesis_of("x", [], PhoneSet(["a"]), seconds=0.1, duration=1.0)
    assert json.loads(json.dumps(hypothesis_row(nothing)))["health"] == {"ended": "limit"}


def test_health() -> None:
    assert health([1, 2, 3], [0, 30, 20, 60], [1.0, 2.0, 3.0, 2.0], seconds=0.05, ended="eos") == {
        "monotonic": 0.6667, "jumps_back": 1, "skipped": 1.5, "loops": 0, "astray": [], "entropy": 2.0,
        "ended": "eos"}
    good = {"monotonic": 1.0, "jumps_back": 0, "skipped": 0, "loops": 0, "entropy": 0.2, "ended": "eos"}
    assert not is_poor(good, 9)
    for sign in ({"loops": 1}, {"astray": [[1.0, 2.0]]}, {"ended": "limit"}, {"ended": "cut"},
                 {"monotonic": 0.8, "jumps_back": 3}, {"entropy": math.nan}):
        assert is_poor(good | sign, 9)
    assert not is_poor(good | {"monotonic": 0.8, "jumps_back": 2}, 9)       # a short one, twice


@pytest.mark.parametrize(("phones", "count"), [
    ("", 0), ("aaa", 0), ("aaaa", 1), ("aaaaaaaaa", 1), ("abababab", 1), ("abababa", 0), ("xabcabcabcabcy", 1),
    ("aaaabbbb", 2), ("abcdefghijkl" * 4, 1), ("abcdefghijklm" * 4, 0), ("aabbaabbaabbaabb", 1)])
def test_loops(phones: str, count: int) -> None:
    places = list(loops(phones))
    assert len(places) == count
    for first, last in places:
        assert any(phones[first:last - period] == phones[first + period:last] for period in range(1, 13))


def test_where_it_went_astray() -> None:
    """An hour of good steps, with a loop at its tenth minute and a minute of wandering at its end."""
    phones = [number % 37 for number in range(36000)]
    phones[6000:6010] = [1, 2] * 5
    foci = [float(u) for u in range(36000)]
    assert health(phones[:6000], foci[:6000], [0.0], seconds=0.1, ended="eos")["astray"] == []
    foci[35500:] = [35500 + (-1) ** u for u in range(500)]
    signs = health(phones, foci, [0.0], seconds=0.1, ended="eos")
    assert (signs["loops"], is_poor(signs, 36000)) == (1, True)
    assert signs["monotonic"] > 0.99, "over the whole hour it does not show"
    [loop, [start, end]] = signs["astray"]
    assert loop == [600.0, 600.9]
    assert 3480 <= start <= 3550 <= end <= 3550.2


def test_a_spot_that_is_said_over_and_over_is_astray() -> None:
    """Of one syllable twenty phones were made, none of them four times alike, in the midst of fifty good ones.

    Foci of an espeak sentence of 5.4 s, 40 ms each, which passed for a good one: nine steps in ten went on.
    """
    stuck = [36, 37, 39, 36, 37, 36, 35, 35, 36, 37, 38, 39, 39, 36, 37, 38, 36, 36, 37, 38, 38, 36, 36, 38]
    foci = [4, 5, 8, 9, 11, 12, 17, 19, 21, 23, 28, 32, *stuck, *range(58, 132, 2)]
    signs = health(list(range(len(foci))), foci, [1.0], seconds=0.04, ended="eos")
    assert signs["monotonic"] > 0.9
    assert signs["loops"] == 0
    [[start, end]] = signs["astray"]
    assert start <= 35 * 0.04 < 39 * 0.04 <= end < 4
    assert is_poor(signs, len(foci))
    spread = [float(u - 2 * (u % 29 == 28)) for u in range(300)]        # ten steps back, but each alone
    signs = health(list(range(300)), spread, [1.0], seconds=0.04, ended="eos")
    assert (signs["jumps_back"], signs["astray"]) == (10, [])
    assert not is_poor(signs, 300)


def test_a_state_is_replaced_never_changed(tiny_network: Make, tiny_config: Configure) -> None:
    stepper = AttentionStepper(tiny_network(phones=7, gain=3.0), settings(tiny_config))
    with torch.no_grad():
        state = stepper.start(stepper.network.encode(feats(), FRAMES))
        last = torch.zeros(5, 1, dtype=torch.long)
        one, _ = stepper.step(last, state)
        two, _ = stepper.step(last, replace(state))
    assert torch.equal(one.log_probs, two.log_probs)
