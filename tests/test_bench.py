"""The harness of tools/bench: its work at tiny shapes, its goals, its check; without peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from asr.config import Config
from asr.corpus.phones import PhoneSet
from asr.frontend.fbank import Normaliser
from asr.model.file import save_model

TOOLS = Path(__file__).parents[1] / "tools"
ECHO = """import json, os, sys
name, seconds, pipe = sys.argv[1:]
for line in sys.stdin:
    question = json.loads(line)
    answer = {"ok": name != "broken", "err": "no such library"}
    if question["do"] == "run":
        answer |= {"cpu": float(seconds), "rss": 100 * float(seconds)}
    os.write(int(pipe), (json.dumps(answer) + "\\n").encode())
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench
    return bench


@pytest.fixture
def team(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Callable[..., Any]]:
    """Contestants that say what they took, and the command that measures them."""
    echo = tmp_path / "echo.py"
    echo.write_text(ECHO)

    def make(**seconds: float) -> Callable[..., Any]:
        def found(*_: object) -> Iterator[Any]:
            for name, taken in seconds.items():
                yield bench.hire(name, [sys.executable, "-S", str(echo), name, str(taken)])
        monkeypatch.setattr(bench, "contestants", found)
        files = ["--history", str(tmp_path / "new" / "history.jsonl"), "--baseline", str(tmp_path / "baseline.json")]
        return lambda *args: CliRunner().invoke(bench.main, [*files, "--rounds", "2", *args])
    return make


@pytest.mark.parametrize("figure", ["yardstick", "train", "train_bf16", "greedy", "greedy_bf16", "beam", "beam_bf16",
                                    "greedy_long", "beam_long", "prep_wav", "prep_flac", "score"])
def test_all_work_is_done(figure: str, bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = bench.WORK[figure](bench.SHAPES["tiny"])
    first = run()
    assert run() is not None                    # again: every round does the whole work
    if figure.startswith("prep"):
        assert (first.utterances, first.built, first.problems) == (2, 1, [])
    if figure == "score":
        assert first.total.phones == 20 * 40


def test_a_figure_is_a_table_row_a_line_of_history_and_goals(team: Callable[..., Callable[..., Any]],
                                                              tmp_path: Path) -> None:
    done = team(yardstick=0.1, asr=1.0, speechbrain=2.5, broken=1.0)("--figures", "greedy")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "figure              CPU    ratio    memory   peers, and this project's time over theirs",
        "greedy          1.000 s    10.00    100 MB   speechbrain 2.500 s 250 MB (0.40)",
        "              goal, time: 1.75 s at most: met",
        "              goal, memory: 250 MB at most: met"]
    assert done.stderr == "  broken: left out: no such library\n"
    history = [json.loads(line) for line in (tmp_path / "new" / "history.jsonl").read_text().splitlines()]
    assert [row["ratio"] for row in history] == [10.0]
    assert history[0]["cpu"] == {"yardstick": 0.1, "asr": 1.0, "speechbrain": 2.5}


def test_a_goal_that_is_not_met_is_told(team: Callable[..., Callable[..., Any]]) -> None:
    done = team(yardstick=0.1, asr=1.0, speechbrain=0.9)("--figures", "train", "--json")
    assert json.loads(done.stdout)["goals"] == {
        "time": {"at most": 0.9, "met": False}, "matrix rate": {"at most": 0.8922, "met": False},
        "memory": {"at most": 90, "met": False}}


def test_a_ratio_that_falls_by_more_than_15_percent_fails(team: Callable[..., Callable[..., Any]]) -> None:
    assert team(yardstick=0.1, asr=1.0)("--figures", "beam", "--store").exit_code == 0
    assert team(yardstick=0.1, asr=1.14)("--figures", "beam", "--check").exit_code == 0
    assert team(yardstick=0.2, asr=2.2)("--figures", "beam", "--check").exit_code == 0          # a slower machine
    slower = team(yardstick=0.1, asr=1.16)("--figures", "beam", "--check")
    assert slower.exit_code == 1
    assert "tools/bench: slower by more than 15 %: beam (11.6, stored 10.0)" in slower.output
    assert team(yardstick=0.1, asr=1.16)("--figures", "beam").exit_code == 0                    # by request only
    assert team(yardstick=0.1, broken=1.0)("--figures", "beam", "--check").exit_code == 1       # no figure, no pass


def test_an_unknown_figure_is_wrong_use(team: Callable[..., Callable[..., Any]]) -> None:
    done = team()("--figures", "speed")
    assert done.exit_code == 2
    assert "no figure 'speed': there are train, train_bf16, greedy" in done.output


def test_the_real_thing_at_a_tiny_shape(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(TOOLS / "bench.py"), "--shape", "tiny", "--figures", "score", "--rounds",
                           "1", "--json", "--history", str(tmp_path / "h"), "--baseline", str(tmp_path / "b")],
                          capture_output=True, text=True, timeout=120, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["missing"] == {}
    assert row["cpu"].keys() == row["rss"].keys() == {"yardstick", "asr"}
    assert row["rss"]["asr"] > 10


@pytest.fixture
def scale(bench: ModuleType) -> ModuleType:
    import bench_scale
    return bench_scale


def test_growth_with_hours_of_data(scale: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    row = scale.hour(1)
    assert row["utterances"] == 19 * 64         # an hour of 3 s each, in whole shards
    assert row["plan of an epoch"] > 0
    assert not any(tmp_path.iterdir())


def test_one_rank_measures_itself(scale: ModuleType, bench: ModuleType) -> None:
    row = scale.rank(bench.SHAPES["tiny"], 1)
    assert row.keys() == {"frames a second", "step", "sum", "MB a step"}
    assert row["frames a second"] == pytest.approx(2 * 24 / row["step"])
    assert row["sum"] < row["step"]
    assert row["MB a step"] > 10


def test_growth_with_phones_and_vocabulary(scale: ModuleType, bench: ModuleType) -> None:
    rows = scale.shapes(bench.SHAPES["tiny"], 1)
    assert [row["work"] for row in rows] == ["3 phones, 24 frames", "6 phones, 48 frames", "12 phones, 96 frames",
                                             "24 phones, 192 frames", "42 ids", "420 ids", "4200 ids"]


def test_overlap(scale: ModuleType, tiny_config: Callable[..., Config], tiny_network: Callable[..., object],
                 manifest: Callable[..., Path], tmp_path: Path) -> None:
    """In pairs, the first without."""
    save_model(tmp_path / "m.asr", tiny_network(phones=4, gain=4.0), tiny_config(), PhoneSet(["a", "b", "c"]),
               Normaliser(torch.zeros(8), torch.ones(8)), {})
    rows = scale.overlap(tmp_path / "m.asr", manifest("test", 3, duration=0.2), 1)
    assert [row["work"] for row in rows] == [f"beam {beam}, {precision}, overlap {word}" for beam in (1, 10)
                                             for precision in ("float32", "bf16") for word in ("never", "always")]
    assert [row["gain"] for row in rows[::2]] == [1.0] * 4
    assert all(row["x real time"] > 0 for row in rows)


SMALL = ["encoder.width=8", "attention.width=8", "decoder.width=8", "decoder.output_width=8", "features.mels=8"]


def test_one_command_measures_a_device(bench: ModuleType) -> None:
    """On a CPU, by small steps; on a GPU the same command tells whether the goals are met."""
    import bench_device
    words = ["--device", "cpu", "--size", "0.001", "-o", "train.mask.mel_width=2",
             *(word for option in SMALL for word in ("-o", option))]
    done = CliRunner().invoke(bench_device.main, words)
    assert done.exit_code == 0, done.output
    first = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert first == ["epoch", "beam", "hour"]
    for part in ("encoder, forward", "decoder's loop, backward", "CTC, forward", "optimiser", "operations"):
        assert part in done.stdout
    assert "goal" not in done.stdout
    told = json.loads(CliRunner().invoke(bench_device.main, [*words, "--only", "epoch", "--json"]).stdout)
    loop = sum(seconds for part, seconds in told["parts"].items() if part.startswith("decoder's loop"))
    assert told["the decoder's loop, share"] == pytest.approx(loop / sum(told["parts"].values()))
    assert told["waiting for data, share"] < 1
