"""Error rate against length: the joins are exact, every length holds the same speech, the table says what was found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import asr

from asr import curve as stage
from asr.config import Config, override_config
from asr.corpus.records import Utterance, read_manifest
from asr.curve import Options, joins_of, measure_curve
from asr.errors import AsrError
from asr.measured import Measured
from asr.scoring.curve import Curve, Line, Point, apart, curve_data, curve_text, plot_curve
from asr.scoring.score import Counts

BASE = [Utterance(f"u{i}", Path(f"u{i}.wav"), phones=("a", "b")) for i in range(7)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_length_holds_every_utterance_once(count: int) -> None:
    joins = joins_of(BASE, count, same=False)
    assert Counter(part.id for join in joins for part in join.parts) == Counter(u.id for u in BASE)
    assert [len(join.parts) for join in joins[:-1]] == [count] * (len(joins) - 1)
    assert [part.id for join in joins for part in join.parts] == [j.parts[0].id for j in joins_of(BASE, 1, same=False)]


def test_beyond_the_base_each_utterance_counts_as_often() -> None:
    [join] = joins_of(BASE, 21, same=False)
    rounds = [[part.id for part in join.parts[first:first + 7]] for first in (0, 7, 14)]
    assert [sorted(ids) for ids in rounds] == [sorted(u.id for u in BASE)] * 3
    assert rounds[0] != rounds[1] != rounds[2] != rounds[0]
    assert rounds[0] == [j.parts[0].id for j in joins_of(BASE, 1, same=False)]
    assert len(join.phones("")) == 3 * 14


def test_the_same_joined_with_itself() -> None:
    joins = joins_of(BASE, 3, same=True)
    assert [[part.id for part in join.parts] for join in joins] == [[u.id] * 3 for u in BASE]


def test_the_reference_of_a_join() -> None:
    join = joins_of(BASE, 2, same=False)[0]
    assert join.phones("") == ("a", "b", "a", "b")
    assert join.phones("sil") == ("a", "b", "sil", "a", "b")


# The stage, with a decoder that is a stand-in: it hears what is written beside each recording -------------------------

@pytest.fixture
def model(tmp_path: Path, tiny_network, tiny_config) -> Path:
    import torch

    from asr.corpus.phones import PhoneSet
    from asr.frontend.fbank import Normaliser
    from asr.model.file import save_model
    path = tmp_path / "m.asr"
    save_model(path, tiny_network(), tiny_config(), PhoneSet.of([["a", "b", "c", "sil"]]),
               Normaliser(torch.zeros(8), torch.ones(8)), {})
    return path


def perfect(heard: list[float], slow: float = 0.0):
    """A decoder without errors, which notes how long the recordings are."""
    def measure(model, inputs, out, overrides, *, device, timeout):
        plain = "decode.window.enabled=false" in overrides
        lengths = [soundfile.info(u.audio).duration for u in read_manifest(Path(inputs[0]))]
        heard.extend(lengths)
        rows = []
        for utterance in read_manifest(Path(inputs[0])):
            phones = measure.references[utterance.id]
            rows.append({"id": utterance.id, "text": " ".join(phones[1:] if plain else phones), "score": 0,
                         "health": {"monotonic": 1.0, "jumps_back": 0, "skipped": 0.5, "loops": int(plain),
                                    "entropy": 1.0, "ended": "eos"}})
        out.write_text("".join(json.dumps(row) + "\n" for row in rows))
        wall = slow * max(lengths) if plain else 0.1
        return Measured(sum(lengths), wall, 0.5, 100, 1_000_100, [])
    measure.references = {}
    return measure


@pytest.mark.parametrize("gap_phone", [None, ""])
def test_recordings_and_references_are_exact(gap_phone: str | None, model: Path, manifest, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []
    fake = perfect(heard)
    base = read_manifest(manifest("test", 6))
    label = "sil" if gap_phone is None else ""
    fake.references = {j.id: j.phones(label) for k in (1, 3) for j in joins_of(base, k, same=False)}
    monkeypatch.setattr(stage, "measure", fake)
    found = measure_curve(model, tmp_path / "test.jsonl", (), Options(joins=(1, 3), gap=0.25, gap_phone=gap_phone),
                          tmp_path / "out")
    speech = sum(soundfile.info(u.audio).duration for u in base)
    assert sum(heard[:6]) == pytest.approx(speech)
    assert sum(heard[6:]) == pytest.approx(speech + 4 * 0.25)
    single, joined = found.lines[0].points
    assert (single.counts.errors, joined.counts.errors) == (0, 0)
    assert joined.counts.phones == single.counts.phones + 4 * bool(label)
    assert found.gap_phone == label
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "as-configured-1.hyp.jsonl", "as-configured-3.hyp.jsonl", "curve.json", "curve.png", "curve.svg", "curve.txt"]


def test_joined_samples_are_the_samples(model: Path, manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = read_manifest(manifest("test", 2))
    sounds = {}

    def measure(model, inputs, out, overrides, *, device, timeout):
        for utterance in read_manifest(Path(inputs[0])):
            sounds[utterance.id] = soundfile.read(utterance.audio, dtype="float32")[0]
        raise AsrError("enough")
    monkeypatch.setattr(stage, "measure", measure)
    with pytest.raises(AsrError, match="enough"):
        measure_curve(model, tmp_path / "test.jsonl", (), Options(joins=(2,), gap=0.1))
    parts = {u.id: soundfile.read(u.audio, dtype="float32")[0] for u in base}
    first, second = (part.id for part in joins_of(base, 2, same=False)[0].parts)
    assert np.array_equal(sounds["join-2-0001"], np.concatenate([parts[first], np.zeros(1600), parts[second]]))


def test_what_would_take_too_long_is_left_out(model: Path, manifest, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    fake = perfect([], slow=10.0)
    base = read_manifest(manifest("test", 6))
    fake.references = {j.id: j.phones("") for k in (1, 2, 3, 6) for j in joins_of(base, k, same=False)}
    monkeypatch.setattr(stage, "measure", fake)
    options = Options(joins=(1, 2, 3, 6), gap_phone="", plain=True, budget=4.0)
    windowed, plain = measure_curve(model, tmp_path / "test.jsonl", (), options).lines
    assert [p.joins for p in windowed.points] == [1, 2, 3, 6]
    assert [p.joins for p in plain.points] == [1]
    assert plain.left_out == ("2 joins: would take some 8 s, more than --budget 4 s allows", "3, 6 joins: longer still")
    assert plain.points[0].counts.deletions == 6
    assert plain.points[0].poor == 6        # by its loops


def test_an_hour_is_one_recording_of_all_utterances(model: Path, manifest, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []
    fake = perfect(heard)
    base = read_manifest(manifest("test", 6))
    speech = sum(soundfile.info(u.audio).duration for u in base)
    fake.references = {j.id: j.phones("sil") for k in (1, 18) for j in joins_of(base, k, same=False)}
    monkeypatch.setattr(stage, "measure", fake)
    options = Options(joins=(1,), hours=2.5 * (speech + 0.6) / 3600, gap=0.1)
    single, hour = measure_curve(model, tmp_path / "test.jsonl", (), options).lines[0].points
    assert (hour.joins, hour.recordings, hour.counts.errors) == (18, 1, 0)
    assert heard[-1] == pytest.approx(3 * speech + 17 * 0.1)
    assert hour.counts.phones == 3 * single.counts.phones + 17
    with pytest.raises(AsrError, match="--hours: takes utterances in several orders: leave out --same"):
        measure_curve(model, tmp_path / "test.jsonl", (), Options(joins=(1,), hours=1.0, same=True))


def test_a_join_needs_utterances(model: Path, manifest, tmp_path: Path) -> None:
    manifest("test", 2)
    with pytest.raises(AsrError, match=r"has 2 utterances, too few for 5 joins: .*--joins.*--same"):
        measure_curve(model, tmp_path / "test.jsonl", (), Options(joins=(1, 5)))


def test_a_gap_needs_a_phone_that_is_known(model: Path, manifest, tmp_path: Path) -> None:
    manifest("test", 2)
    with pytest.raises(AsrError, match="--gap-phone x: the model does not know this phone"):
        measure_curve(model, tmp_path / "test.jsonl", (), Options(joins=(1,), gap_phone="x"))


def test_what_cannot_end_well_is_told_before_the_work(model: Path, manifest, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that does not know the phones, and a place that cannot be written, came out behind hours of it."""
    def measure(*arguments, **more):
        raise AssertionError("it has begun")
    monkeypatch.setattr(stage, "measure", measure)
    test = manifest("test", 2)
    with pytest.raises(AsrError, match=r"test.jsonl: test-\d: phone '.' is not in the table of protocol timit39"):
        measure_curve(model, test, (), Options(joins=(1,), protocol="timit39"))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(AsrError, match=f"{out}: cannot be made a folder for the results: "):
            measure_curve(model, test, (), Options(joins=(1,)), out)
    monkeypatch.setattr("asr.scoring.curve.find_spec", lambda name: None)
    with pytest.raises(AsrError, match=r"out: a plot needs matplotlib: pip install 'asr\[report\]'"):
        measure_curve(model, test, (), Options(joins=(1,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--gap", "--hours", "--budget"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_seconds_are_finite(option: str, value: str, model: Path, manifest) -> None:
    done = asr("curve", model, manifest("test", 2), "--joins", "1", option, value)
    assert (done.code, done.out) == (2, "")
    assert f"Invalid value for '{option}': {value} is no number to reckon with" in done.err


def test_the_seed_orders_the_utterances(model: Path, manifest, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    base, orders = read_manifest(manifest("test", 6)), []
    for seed in (1, 2, 1):
        fake = perfect([])
        fake.references = {j.id: j.phones("sil") for j in joins_of(base, 2, same=False, seed=seed)}
        monkeypatch.setattr(stage, "measure", fake)
        done = asr("curve", model, tmp_path / "test.jsonl", "--joins", "2", "--seed", seed, "-f", "json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        assert (found["seed"], found["lines"][0]["points"][0]["errors"]) == (seed, 0)
        orders.append(list(fake.references.values()))
    assert orders[0] == orders[2] != orders[1]


def test_plain_has_none_of_the_aids(model: Path, manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the model's own config or the user sets: a model in the box had `decode.pace`, which stayed."""
    settings = []

    def measure(model, inputs, out, overrides, *, device, timeout):
        settings.append(override_config(Config(), overrides).decode)
        return None if timeout else Measured(1.0, 1.0, 1.0, 0, 0, []) if out.write_text(json.dumps(
            {"id": "join-2-0001", "text": "a"}) + "\n") else None
    monkeypatch.setattr(stage, "measure", measure)
    aids = {"pace": 1.5, "beta": 2.0, "beta_log_length": True, "keep": 3, "ctc_weight": 0.4, "jump_back": 1.0,
            "jump_ahead": 2.0, "eos_gate": 0.3, "fallback": True, "normaliser": "smooth"}
    overrides = [f"decode.{key}={str(value).lower()}" for key, value in aids.items()]
    measure_curve(model, manifest("test", 2), overrides, Options(joins=(2,), plain=True))
    configured, plain = (decode.model_dump() for decode in settings)
    assert {key: configured[key] for key in aids} == aids
    assert {key: plain[key] for key in aids} == {
        "pace": 0, "beta": 1, "beta_log_length": False, "keep": 0, "ctc_weight": 0, "jump_back": 0, "jump_ahead": 0,
        "eos_gate": 0, "fallback": False, "normaliser": "as-trained"}
    assert not plain["window"]["enabled"]
    assert plain["long"]["after"] == 1e9


# The result -----------------------------------------------------------------------------------------------------------

CURVE = Curve("m.asr", "test.jsonl", "plain", 20, 200, False, 0.05, "sil", (
    Line("as configured", "beam 10", (
        Point(1, 20, 50.0, Counts(200, 2, 4, 6), 1.0, 1.1, 40_000_000, 0, 1.0, 0, 0.0, 0),
        Point(20, 1, 51.0, Counts(219, 2, 4, 6), 1.2, 1.3, 60_000_000, 1, 0.98, 2, 1.5, 0))),
    Line("plain", "attention alone", (
        Point(1, 20, 50.0, Counts(200, 200, 4, 16), 2.0, 2.2, 9_000_000, 3, 0.9, 4, 0.0, 1),),
         ("20 joins: too long",))))

TEXT = """\
20 utterances of test.jsonl, joined with others, 0.05 s of silence labelled sil between two; protocol plain

as configured: beam 10
  joins  recordings  mean s     PER     sub     del     ins  x real time  peak MB  poor  loops  skipped s
      1          20     2.5    6.00    3.00    2.00    1.00       0.0200       40     0      0        0.0
     20           1    51.0    5.48    2.74    1.83    0.91       0.0235       60     1      2        1.5

plain: attention alone
  joins  recordings  mean s     PER     sub     del     ins  x real time  peak MB  poor  loops  skipped s
      1          20     2.5  110.00    8.00    2.00  100.00       0.0400        9     3      4        0.0
  left out: 20 joins: too long
"""


def test_the_table() -> None:
    assert curve_text(CURVE) == TEXT


def test_the_data() -> None:
    data = json.loads(json.dumps(curve_data(CURVE)))
    assert data["lines"][0]["points"][1] == {
        "joins": 20, "recordings": 1, "speech": 51.0, "per": pytest.approx(5.479, abs=1e-3), "errors": 12,
        "phones": 219, "insertions": 2, "deletions": 4, "substitutions": 6, "cpu": 1.2, "wall": 1.3,
        "real_time": 0.02353, "memory": 60_000_000, "poor": 1, "monotonic": 0.98, "loops": 2, "skipped": 1.5,
        "limits": 0}
    assert data["lines"][1]["left_out"] == ["20 joins: too long"]


def test_names_of_lengths_leave_each_other_room() -> None:
    places = [4.1, 8.2, 20.5, 41.0, 82.0, 196.9, 393.9, 3939.3]
    assert apart(places) == {4.1, 20.5, 82.0, 393.9, 3939.3}
    assert (apart([]), apart([3.0]), apart([3.0, 3.1])) == (set(), {3.0}, {3.0, 3.1})


@pytest.mark.parametrize(("ending", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_plot(ending: str, begin: bytes, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_curve(CURVE, tmp_path / f"c.{ending}")
    assert (tmp_path / f"c.{ending}").read_bytes().startswith(begin)
