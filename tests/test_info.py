"""`asr info`: what the header says, and the memory bound that follows from the config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import asr

from asr.config import Config, load_config, override_config
from asr.corpus.phones import PhoneSet
from asr.frontend.fbank import Normaliser
from asr.info import look
from asr.model.file import own_version, save_model
from asr.search.bound import batch_bound, long_bound

CONF = Path(__file__).parents[1] / "conf"
MB = 1e6


@pytest.fixture
def model(tmp_path: Path, tiny_network, tiny_config) -> Path:
    path = tmp_path / "m.asr"
    save_model(path, tiny_network(), tiny_config(), PhoneSet.of([["a", "b", "c", "sil"]]),
               Normaliser(torch.zeros(8), torch.ones(8)), {"train": "train.jsonl", "dev_per": 12.5, "init": None})
    return path


def test_what_it_says(model: Path) -> None:
    done = asr("info", model)
    assert (done.code, done.err) == (0, "")
    size = model.stat().st_size / MB
    parameters = look(model).parameters
    bound, batch = (round(b.total / MB) for b in (look(model).long, look(model).batch))
    assert done.out.removeprefix(str(model)).lstrip() == f"""\
{parameters:,} parameters, {size:.1f} MB
features       8 mel bands, 16 kHz, a frame every 10 ms
encoder        2 x LSTM of 6 in each direction, a frame every 20 ms (/2)
attention      hybrid, softmax, 7 units, 3 filters of 5 taps
decoder        LSTM of 6, update-look-generate, CTC branch
phones         4: a b c sil
train          train.jsonl
dev per        12.5
written by     asr {own_version()}
decoding       beam 10, CTC 0.3, window 0.5 s back, 1.2 s ahead
memory         at most {bound} MB above the loaded model, however long a recording is (decode.long.road: spans)
memory         at most {batch} MB for short ones, 16 together or 80 s of them (decode.batch_size, batch_seconds)
"""


def test_parameters_are_the_networks(model: Path, tiny_network) -> None:
    assert look(model).parameters == tiny_network().parameters_count()


def test_data(model: Path) -> None:
    data = json.loads(asr("info", model, "-f", "json", "-o", "decode.beam=3").out)
    assert data["phones"] == ["a", "b", "c", "sil"]
    assert (data["frame"], data["encoder_frame"]) == (0.01, 0.02)
    assert data["config"]["decode"]["beam"] == 3
    assert data["memory"]["long"] < look(model).long.total
    assert data["provenance"]["dev_per"] == 12.5


def test_without_a_window_spans_are_what_is_bounded(model: Path) -> None:
    """Whatever the road asked for: nothing else could walk on."""
    for key in ("decode.window.enabled=false", "attention.kind=none"):
        roads = [asr("info", model, "-o", key, "-o", f"decode.long.road={road}") for road in ("spans", "stream")]
        assert roads[0] == roads[1]
        assert "above the loaded model, however long a recording is (decode.long.road: spans)" in roads[0].out
    longer = [json.loads(asr("info", model, "-f", "json", "-o", "decode.window.enabled=false", "-o",
                             f"decode.long.span={span}").out)["memory"]["long"] for span in (20.0, 40.0)]
    assert longer[1] > 1.5 * longer[0]


def test_no_model(tmp_path: Path) -> None:
    done = asr("info", tmp_path / "no.asr")
    assert done.code == 1
    assert done.err.startswith(f"asr: {tmp_path / 'no.asr'}: ")
    assert done.err.count("\n") == 1


# The bound ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("key", ["decode.beam=20", "decode.long.block=16.0", "decode.long.margin=6.0",
                                 "decode.window.ahead=4.0", "encoder.width=256", "attention.width=512",
                                 "decode.long.batch=32"])
def test_the_bound_grows_with_what_costs(key: str) -> None:
    config = load_config(CONF / "espeak.yaml")
    assert long_bound(override_config(config, [key]), 58).total > long_bound(config, 58).total


@pytest.mark.parametrize("name", ["espeak", "timit", "english"])
def test_the_goal_of_300_mb(name: str) -> None:
    config = load_config(CONF / f"{name}.yaml", ["decode.beam=10"])
    assert long_bound(config, 62).total < 300 * MB
    assert batch_bound(config, 62).total < 300 * MB


def test_the_bound_knows_no_length() -> None:
    config = load_config(CONF / "espeak.yaml")
    assert long_bound(override_config(config, ["decode.long.after=3600.0"]), 58) == long_bound(config, 58)


def test_a_window_of_an_hour_is_bounded_on_either_road() -> None:
    """The stream held as much behind its focus as the window asked for, and the bound knew nothing of it."""
    for road in ("spans", "stream"):
        config = override_config(load_config(CONF / "espeak.yaml"), [f"decode.long.road={road}"])
        wide, wider = (override_config(config, [f"decode.window.{side}={seconds}" for side in ("back", "ahead")])
                       for seconds in ("100.0", "3600.0"))
        assert long_bound(config, 58).total < long_bound(wide, 58).total == long_bound(wider, 58).total


def test_utterances_together() -> None:
    config = override_config(Config(), ["decode.batch_seconds=1000"])
    assert batch_bound(config, 58, 20.0).total > 1.8 * batch_bound(config, 58, 10.0).total
    fewer = override_config(config, ["decode.batch_size=4"])
    assert batch_bound(fewer, 58).total < batch_bound(config, 58).total / 3


def test_long_ones_together_are_fewer() -> None:
    """Sixteen of thirty seconds took 666 MB, seven times what a recording of hours takes."""
    config = Config()
    assert batch_bound(config, 58, 30.0).total < 1.1 * batch_bound(config, 58, 5.0).total
    assert batch_bound(config, 58, 300.0).total > 3 * batch_bound(config, 58, 30.0).total, "one is never parted"
