"""Laws of times: the best path is the best there is, whole = followed along, blocks = at once; phones tile."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from asr.config import Config
from asr.corpus.phones import PhoneSet
from asr.corpus.records import read_manifest
from asr.errors import AsrError
from asr.frontend.fbank import Moments, Normaliser, frame_centres
from asr.frontend.store import OnTheFly
from asr.model.file import Header, Model, load_model, save_model
from asr.model.frames import FrameClassifier
from asr.model.recognizer import Recognizer
from asr.search.blocks import encode_blocks
from asr.search.follow import Follower, Timekeeper
from asr.search.times import (
    Evidence,
    EvidenceStream,
    best_path,
    method_of,
    monotone_foci,
    place,
    stretches,
    tiled,
    unsmoothed,
)
from asr.training.times import fit_times, frame_labels


def evidence_of(path: list[int], phones: int, sure: float = 0.9) -> Tensor:
    """Rows (T, V) in which each id of the path has the probability `sure`."""
    rows = torch.full((len(path), phones), (1 - sure) / (phones - 1))
    rows[torch.arange(len(path)), torch.tensor(path)] = sure
    return rows.log()


def random_rows(frames: int, phones: int, seed: int) -> Tensor:
    return (3 * torch.randn(frames, phones, generator=torch.Generator().manual_seed(seed))).log_softmax(1)


def spelt(path: tuple[int, ...]) -> list[int]:
    return [id for id, _ in itertools.groupby(path) if id]


def total(rows: Tensor, path: list[int]) -> float:
    return float(rows[torch.arange(len(path)), torch.tensor(path)].sum())


# Paths ----------------------------------------------------------------------------------------------------------------

def test_a_path_finds_the_rows_where_phones_begin_over_pauses_and_repeats() -> None:
    path = [0, 0, 1, 1, 1, 2, 0, 2, 2, 3, 0, 0]
    rows = evidence_of(path, 4)
    assert best_path(rows, [1, 2, 2, 3]) == path
    first, confidences = stretches(path, rows, [1, 2, 2, 3])
    assert first == [2, 5, 7, 9]
    assert confidences == pytest.approx([0.9] * 4)


@pytest.mark.parametrize("ids", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_no_path_that_spells_the_phones_is_better(ids: list[int]) -> None:
    for seed in range(5):
        rows = random_rows(6, 3, seed)
        every = [total(rows, list(path)) for path in itertools.product(range(3), repeat=6) if spelt(path) == ids]
        assert total(rows, best_path(rows, ids)) == pytest.approx(max(every), abs=1e-5)


def test_nothing_said_is_a_pause_and_too_little_room_is_told() -> None:
    assert best_path(random_rows(3, 4, 0), []) == [0, 0, 0]
    assert best_path(torch.zeros(0, 4), []) == []
    with pytest.raises(AsrError, match=r"^3 phones need 4 frames at least, and there are 3: is the transcript"):
        best_path(random_rows(3, 4, 0), [1, 1, 2])


def test_foci_never_go_back_and_weigh_most() -> None:
    weights = torch.rand(4, 6, generator=torch.Generator().manual_seed(3)).softmax(1)
    logs = weights.log()
    best = max(itertools.combinations_with_replacement(range(6), 4), key=lambda path: float(
        sum(logs[u, frame] for u, frame in enumerate(path))))
    assert monotone_foci(weights) == list(best)


# Following ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(4))
def test_following_in_pieces_is_the_whole_search(seed: int) -> None:
    ids = torch.randint(1, 5, (12,), generator=torch.Generator().manual_seed(seed)).tolist()
    rows = random_rows(90, 5, seed)
    follower = Follower(band=64, lag=1000)
    follower.expect(ids)
    for piece in rows.split(7):
        follower.listen(piece)
    first, confidences = list(follower.finish()), list(follower.confidences())
    whole = stretches(best_path(rows, ids), rows, ids)
    assert first == whole[0]
    assert confidences == pytest.approx(whole[1], abs=1e-5)


def test_a_narrow_band_and_a_short_memory_follow_sound_evidence_to_the_end() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 6, (300,), generator=generator).tolist()
    path: list[int] = []
    for id in ids:
        path += [id] * int(torch.randint(1, 6, (1,), generator=generator)) + [0]
    rows = evidence_of(path, 6, 0.7)
    follower = Follower(band=16, lag=40)
    held = 0
    for start in range(0, 300, 10):         # the transcript becomes known bit by bit
        follower.expect(ids[start:start + 10])
        end = sum(len(list(group)) for _, group in itertools.islice(itertools.groupby(path), 2 * start + 18))
        follower.listen(rows[follower.settled + len(follower.back):end])
        held = max(held, len(follower.back))
    follower.listen(rows[follower.settled + len(follower.back):])
    assert list(follower.finish()) == stretches(path, rows, ids)[0]
    assert held < 40


def test_what_does_not_fit_is_told() -> None:
    follower = Follower()
    follower.expect([1, 2] * 40)
    follower.listen(random_rows(10, 3, 0))
    with pytest.raises(AsrError, match=r"^the recording ends about phone \d+ of 80: is the transcript"):
        follower.finish()
    assert (Follower().finish(), list(Follower().confidences())) == ([], [])
    with pytest.raises(ValueError, match="a band of 6 states"):
        Follower(band=6)


# Tiling ---------------------------------------------------------------------------------------------------------------

def test_phones_tile_the_recording_whatever_the_starts() -> None:
    timed = tiled("abcd", [0.3, 0.5, 0.4, 9.0], [0.5, 2.0, -1.0, 0.0], 1.0)
    assert [(p.phone, p.start, p.end, p.confidence) for p in timed] == [
        ("a", 0.0, 0.5, 0.5), ("b", 0.5, 0.5, 1.0), ("c", 0.5, 1.0, 0.0), ("d", 1.0, 1.0, 0.0)]
    assert tiled([], [], [], 1.0) == ()
    assert [(p.start, p.end) for p in tiled("a", [0.7], [1.0], 2.0)] == [(0.0, 2.0)]


def test_confidences_are_what_label_smoothing_hides() -> None:
    phones = tiled("abcd", [0, 0, 0, 0], [0.92, 0.02, 0.47, 1.0], 1.0)      # 1 - s + s / V and s / V are 1 and 0
    assert [p.confidence for p in unsmoothed(phones, 0.1, 5)] == pytest.approx([1.0, 0.0, 0.5, 1.0])
    assert tuple(unsmoothed(phones, 0.0, 5)) == phones


# The classifier -------------------------------------------------------------------------------------------------------

Network = Callable[..., Recognizer]


@pytest.fixture
def timing_model(tiny_network: Network, tiny_config: Callable[..., Config]) -> Model:
    """A tiny network and a classifier, random both."""
    config = tiny_config("times.width=6", "times.reach=2", "encoder.pyramid=[2, 2]")
    network = tiny_network("encoder.pyramid=[2, 2]", gain=2.0)
    torch.manual_seed(5)
    classifier = FrameClassifier(config.times, 8, network.encoder.width, 4, 5).eval()
    header = Header(config, PhoneSet(["a", "b", "c", "d"]), {}, "", {})
    return Model(header, network, Normaliser(torch.zeros(8), torch.ones(8)), classifier)


@pytest.mark.parametrize("method", ["frames", "ctc"])
def test_padding_does_not_move_a_border(timing_model: Model, method: str) -> None:
    evidence = Evidence(timing_model, method)      # type: ignore[arg-type]
    feats, frames = torch.randn(3, 23, 8), torch.tensor([23, 17, 2])
    feats[1, 17:], feats[2, 2:] = 1e3, 1e3
    together = evidence.rows(feats, frames, timing_model.network.encode(feats, frames))
    for row, length in enumerate(frames.tolist()):
        one, alone = feats[row:row + 1, :length], frames[row:row + 1]
        expected = evidence.rows(one, alone, timing_model.network.encode(one, alone))[0]
        assert len(together[row]) == (length if method == "frames" else -(-length // 4))
        torch.testing.assert_close(together[row], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["frames", "ctc"])
@pytest.mark.parametrize("frames", [3, 64, 203])
def test_evidence_in_blocks_is_that_of_the_whole(timing_model: Model, method: str, frames: int) -> None:
    evidence = Evidence(timing_model, method)      # type: ignore[arg-type]
    feats, network = torch.randn(frames, 8), timing_model.network
    stream = EvidenceStream(evidence)
    values, rows = [], []
    with torch.inference_mode():
        for block in encode_blocks(network, stream.features(feats.split(19)), block=0.4, margin=0.2):
            values.append(block)
            rows.append(stream.rows(block))
    rest = stream.finish()
    found = torch.cat([*rows, rest] if rest is not None else rows)
    lengths = torch.tensor([frames])
    memory = network.decoder.attention.remember(torch.cat(values).unsqueeze(0), lengths)
    torch.testing.assert_close(found, evidence.rows(feats.unsqueeze(0), torch.tensor([len(memory.values[0])])
                                                    if method == "ctc" else lengths, memory)[0][:len(found)])
    assert len(found) == (frames if method == "frames" else -(-frames // 4))


def test_a_keeper_places_phones_as_the_whole_evidence_does(timing_model: Model) -> None:
    evidence, feats, ids = Evidence(timing_model, "frames"), torch.randn(160, 8), [1, 2, 3, 1, 4, 2]
    keeper = Timekeeper(evidence, held=100)
    stream = EvidenceStream(evidence)
    rows, settled = [], 0
    with torch.inference_mode():
        blocks = encode_blocks(timing_model.network, keeper.features(stream.features([feats])), block=0.4, margin=0.2)
        for block in keeper.blocks(keeper.evident(blocks)):
            rows.append(stream.rows(block))
            keeper.settle(ids[settled:settled + 2], [float(10 * settled), float(10 * settled)])
            settled += 2
    rest = stream.finish()
    assert rest is not None
    expected = place(torch.cat([*rows, rest]), ids, evidence)
    found = keeper.finish()
    assert len(found.starts) == 6
    assert list(found.starts) == sorted(found.starts)
    whole = Timekeeper(evidence, held=0)
    whole.expect(ids)
    with torch.inference_mode():
        blocks = encode_blocks(timing_model.network, whole.features([feats]), block=0.4, margin=0.2)
        for _ in whole.blocks(whole.evident(blocks)):
            assert whole.rows == 0          # nothing waits
    placed = whole.finish()
    assert placed.starts == pytest.approx(expected.starts)
    assert placed.confidences == pytest.approx(expected.confidences, abs=1e-5)


def test_the_most_exact_method_that_a_model_has(timing_model: Model, tiny_network: Network,
                                                tiny_config: Callable[..., Config]) -> None:
    plain = Model(timing_model.header, timing_model.network, timing_model.normaliser)
    bare = Model(Header(tiny_config("attention.kind=none"), timing_model.phones, {}, "", {}),
                 tiny_network("train.ctc_weight=0", "attention.kind=none"), timing_model.normaliser)
    assert [method_of(model, "auto") for model in (timing_model, plain, bare)] == ["frames", "ctc", "attention"]
    assert method_of(timing_model, "ctc") == "ctc"
    with pytest.raises(AsrError, match="times by 'frames': the model has no classifier of frames, which is trained "
                                       "where manifests have phone_times: choose 'auto' or one of ctc, attention"):
        method_of(plain, "frames")
    with pytest.raises(AsrError, match="times by 'ctc': the model has no CTC branch: choose 'auto' or one of no other"):
        method_of(bare, "ctc")


def test_the_model_file_brings_the_classifier_back(timing_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.asr"
    save_model(path, timing_model.network, timing_model.config, timing_model.phones, timing_model.normaliser, {},
               classifier=timing_model.classifier)
    loaded, again = load_model(path).classifier, timing_model.classifier
    assert loaded is not None
    assert again is not None
    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), again.parameters(), strict=True))
    save_model(path, timing_model.network, timing_model.config, timing_model.phones, timing_model.normaliser, {})
    assert load_model(path).classifier is None


# Its training ---------------------------------------------------------------------------------------------------------

def test_labels_are_what_is_said_in_the_middle_of_a_frame(tiny_config: Callable[..., Config]) -> None:
    centres = frame_centres(8, tiny_config().features)
    assert centres.tolist() == pytest.approx([0.0125 + 0.01 * t for t in range(8)])
    assert frame_labels([2, 1], [[0.02, 0.04], [0.06, 0.0725]], centres).tolist() == [0, 2, 2, 0, 0, 1, 0, 0]


def tones(manifest: Callable[..., Path], name: str, count: int, seed: int) -> Path:
    """The manifest of tones, each 0.1 s long, with their times."""
    path = manifest(name, count, seed)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["phone_times"] = [[u / 10, (u + 1) / 10] for u in range(len(row["text"].split()))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_classifier_learns_where_tones_begin(manifest: Callable[..., Path], tiny_network: Network,
                                               tiny_config: Callable[..., Config]) -> None:
    config = tiny_config("times.width=12", "times.updates=40", "times.lr=0.01")
    phones, network = PhoneSet(["a", "b", "c"]), tiny_network(phones=4)
    source = OnTheFly(read_manifest(tones(manifest, "train", 24, 0)), config.features)
    normaliser = Normaliser.of(source.moments())
    classifier = fit_times(network, source, phones, normaliser, config)
    evidence = Evidence(Model(Header(config, phones, {}, "", {}), network, normaliser, classifier), "frames")
    test = OnTheFly(read_manifest(tones(manifest, "test", 12, 1)), config.features)
    errors = []
    for i, utterance in enumerate(test.utterances):
        feats = normaliser(test.static(i)).unsqueeze(0)
        lengths = torch.tensor([feats.size(1)])
        rows = evidence.rows(feats, lengths, network.encode(feats, lengths))[0]
        said = utterance.phones or ()
        starts = place(rows, phones.encode(said), evidence).starts
        # between two equal tones there is nothing to hear
        errors += [abs(starts[u] - u / 10) for u in range(1, len(said)) if said[u] != said[u - 1]]
    assert len(errors) > 5
    assert max(errors) < 0.03
    assert sum(errors) / len(errors) < 0.01


def test_training_is_a_function_of_the_seed_and_leaves_no_trace_in_others_draws(
        manifest: Callable[..., Path], tiny_network: Network, tiny_config: Callable[..., Config]) -> None:
    config, phones, network = tiny_config("times.updates=2"), PhoneSet(["a", "b", "c"]), tiny_network(phones=4)
    source = OnTheFly(read_manifest(tones(manifest, "train", 3, 0)), config.features)
    normaliser = Normaliser.of(source.moments())
    before = torch.get_rng_state()
    one, other = (fit_times(network, source, phones, normaliser, config) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one is not None
    assert other is not None
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_without_times_or_width_there_is_no_classifier_and_bad_times_are_told(
        manifest: Callable[..., Path], tiny_network: Network, tiny_config: Callable[..., Config]) -> None:
    phones, network, config = PhoneSet(["a", "b", "c"]), tiny_network(phones=4), tiny_config()
    normaliser = Normaliser.of(Moments.of(torch.randn(20, 8)))
    plain = OnTheFly(read_manifest(manifest("plain", 2)), config.features)
    assert fit_times(network, plain, phones, normaliser, config) is None
    timed = OnTheFly(read_manifest(tones(manifest, "timed", 2, 0)), config.features)
    assert fit_times(network, timed, phones, normaliser, tiny_config("times.width=0")) is None
    bad = OnTheFly(read_manifest(manifest("bad", 1, phone_times=[[0.0, 0.1]])), config.features)
    with pytest.raises(AsrError, match=r"^utterance 'bad-0': its phone_times are no \[start, end\] in seconds for each "
                                       "of its 2 phones"):
        fit_times(network, bad, phones, normaliser, config)
