"""The fuzzer of tools/fuzz.py, a few hundred cases of it; and that it can find something."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.config import Config
from asr.errors import AsrError
from asr.model.file import _fewest_weights
from asr.model.recognizer import Recognizer

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import fuzz


def test_broken_input_ends_in_a_result_or_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert list(fuzz.fuzz(tmp_path / "fuzz", 520, seed=0)) == []
    capfd.readouterr()              # libmpg123's remarks


def test_cases_repeat(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    seen: list[bytes] = []
    target = fuzz.Target("x", b"some good text", lambda path, dice: seen.append(path.read_bytes()))
    for seed in ("a", "b", "a"):
        assert fuzz.run_case(target, tmp_path, seed) == ""
    assert seen[0] == seen[2] != seen[1]


def raising(error: Exception) -> Callable[..., None]:
    def read(path: Path, dice: object) -> None:
        raise error
    return read


def test_what_counts_as_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    def wrong(read: Callable[..., object]) -> str:
        return fuzz.run_case(fuzz.Target("x", b"good", read), tmp_path, "1")
    assert wrong(raising(AsrError("x: is broken: mend it"))) == ""
    assert "ValueError: a bug" in wrong(raising(ValueError("a bug")))
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    def hanging(path: Path, dice: object) -> None:
        for _ in itertools.count():
            pass
    assert "TimeoutError: more than 1 s" in wrong(hanging)


def test_files_outside_the_output_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fuzz"
    stray = fuzz.Target("x", b"good", lambda path, dice: (folder / "stray").write_text("x"))
    monkeypatch.setattr(fuzz, "targets", lambda _: {"stray": stray})
    assert [wrong for _, wrong in fuzz.fuzz(folder, 1, seed=0)] == [
        f"written outside the output folder: [{str(folder / 'stray')!r}]".replace("['", "[PosixPath('").replace(
            "']", "')]")]


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    assert str(AsrError("a\nb\x1b[2J\u2028ä \x85")) == "a\\nb\\x1b[2J\\u2028ä \\x85"


@pytest.mark.parametrize("kind", ["content", "location", "hybrid", "none"])
@pytest.mark.parametrize("more", [(), ("encoder.cell=gru", "decoder.cell=gru"), ("decoder.input_feeding=false",),
                                  ("decoder.output=maxout", "encoder.width=30")])
def test_no_network_has_fewer_weights_than_its_config_promises(
        tiny_network: Callable[..., Recognizer], tiny_config: Callable[..., Config], kind: str,
        more: tuple[str, ...]) -> None:
    overrides = (f"attention.kind={kind}", *more)
    network = tiny_network(*overrides)
    fewest = _fewest_weights(tiny_config(*overrides))
    assert 0.2 * network.parameters_count() < fewest <= network.parameters_count()


@pytest.mark.slow
def test_damage_guided_by_coverage() -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: it is for those who look for more cases")
    tool = Path(fuzz.__file__).with_name("fuzz_guided.py")
    done = subprocess.run([sys.executable, tool, "ctm", "--runs", "300"], capture_output=True, text=True, timeout=200,
                          check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 300 runs" in done.stderr
