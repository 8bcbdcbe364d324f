"""tools/results.py: a page made from run folders says what the scores say."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from asr.align import align
from asr.config import Config, override_config
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Utterance, write_manifest
from asr.frontend.fbank import Normaliser
from asr.model.file import load_model, save_model
from asr.score import Options, score_files

TOOL = Path(__file__).parents[1] / "tools" / "results.py"
REFERENCE = {"u1": "h# iy q t h#", "u2": "h# aa ix n h#", "u3": "h# s h#", "u4": "h# m aa h#"}


def run_folder(folder: Path, seed: int, hypotheses: dict[str, str], *overrides: str,
               phones: list[str] | None = None, **provenance: str) -> Path:
    folder.mkdir(parents=True)
    config = override_config(Config(), [f"train.seed={seed}", *overrides])
    save_file({"none": np.zeros(1, np.float32)}, folder / "model.asr", {
        "format": "asr-1", "phones": json.dumps(phones or sorted(set(" ".join(REFERENCE.values()).split()))),
        "config": json.dumps(config.model_dump()),
        "provenance": json.dumps({"seed": seed, "dev_per": 12.5, "date": "2026-01-02", **provenance}),
        "sha256": hashlib.sha256(b"").hexdigest()})
    (folder / "test.hyp.jsonl").write_text("".join(
        json.dumps({"id": name, "text": text}) + "\n" for name, text in hypotheses.items()))
    return folder


def results(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def test_set(tmp_path: Path) -> Path:
    write_manifest(tmp_path / "test.jsonl", [
        Utterance(name, tmp_path / "a.wav", phones=tuple(text.split()), speaker=f"s{place % 2}")
        for place, (name, text) in enumerate(REFERENCE.items())])
    return tmp_path / "test.jsonl"


def test_a_table_over_seeds_and_a_table_of_runs(tmp_path: Path, test_set: Path) -> None:
    # timit39 leaves 4 + 5 + 3 + 4 = 16 reference phones.
    run_folder(tmp_path / "exp" / "best" / "seed1", 1, REFERENCE)
    run_folder(tmp_path / "exp" / "best" / "seed2", 2, REFERENCE | {"u1": "h# iy h#", "u3": "h# z h#"})     # 2 errors
    run_folder(tmp_path / "exp" / "plain", 1, REFERENCE | {"u2": "h# aa ih n t h#"})                        # 1 error
    done = results(test_set, tmp_path / "exp/best/seed1", tmp_path / "exp/best/seed2", tmp_path / "exp/plain",
                   "--protocol", "timit39", "--title", "Toy", "--command", "run it", "--out", tmp_path / "R.md")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = (tmp_path / "R.md").read_text().splitlines()
    assert lines[0] == "# Toy: results"
    assert "Test set: 4 utterances, 2 speakers." in lines[4]
    spread = statistics.stdev([0, 12.5])
    (best,) = [line for line in lines if line.startswith("| best | ")]
    assert best.startswith(f"| best | timit39 | 2 | **6.25** | {spread:.2f} | 0.00 to 12.50 | ")
    (plain,) = [line for line in lines if line.startswith("| plain | timit39 | ")]
    assert plain.startswith("| plain | timit39 | 1 | **6.25** | - | - | ")
    assert "| best/seed2 | 2 | 12.5 | `%PER 12.5 [ 2 / 16, 0 ins, 1 del, 1 sub ]` | - | - | 2026-01-02 |" in lines
    assert "trained by `run it`" in lines[-1]


def test_a_run_without_hypotheses_or_with_others_is_an_error(tmp_path: Path, test_set: Path) -> None:
    run = run_folder(tmp_path / "one", 1, {"u1": "iy"})
    done = results(test_set, run, "--out", tmp_path / "R.md")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "u2" in done.stderr
    (run / "test.hyp.jsonl").unlink()
    assert "cannot be read" in results(test_set, run, "--out", tmp_path / "R.md").stderr
    assert not (tmp_path / "R.md").exists()


def test_single_changes_against_a_config_seed_by_seed(tmp_path: Path, test_set: Path) -> None:
    right = REFERENCE
    one_wrong, two_wrong = right | {"u1": "h# aa q t h#"}, right | {"u1": "h# aa q t h#", "u4": "h# m iy h#"}
    runs = [run_folder(tmp_path / "best" / "seed1", 1, right), run_folder(tmp_path / "best" / "seed2", 2, one_wrong),
            run_folder(tmp_path / "greedy" / "seed2", 2, two_wrong, "decode.beam=1", "train.lr=0.01"),
            run_folder(tmp_path / "greedy" / "seed3", 3, right, "decode.beam=1", "train.lr=0.01"),
            run_folder(tmp_path / "carried", 1, one_wrong, init="m.asr", train="/a/b/more"),
            run_folder(tmp_path / "other", 9, right)]
    done = results(test_set, *runs, "--protocol", "timit39", "--against", "best", "--out", tmp_path / "R.md")
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "R.md").read_text().splitlines()
    table = lines[lines.index("| config | what it changes | seeds | difference | by seed | 95 % interval | p |"):]
    assert table[2].startswith("| greedy | `train.lr=0.01` (was 0.002), `decode.beam=1` (was 10) | 1 | **+6.25** | "
                               "+6.25 | ")
    assert table[3].startswith("| carried | begins with m.asr (was random weights), learns from b/more (was unknown) | "
                               "1 | **+6.25** | +6.25 | ")
    assert table[4] == "| other | nothing | none in common | - | - | - | - |"
    done = results(test_set, *runs, "--against", "worst", "--out", tmp_path / "Q.md")
    assert (done.returncode, done.stderr) == (
        1, "Error: --against worst: there is no such config: there are best, greedy, carried, other\n")


def test_phones_that_a_model_cannot_know_are_told(tmp_path: Path, test_set: Path) -> None:
    knows = [run_folder(tmp_path / "all", 1, REFERENCE)]
    few = [run_folder(tmp_path / "few", 1, REFERENCE, phones=["h#", "iy"]),
           run_folder(tmp_path / "none", 1, REFERENCE, phones=["x"])]
    results(test_set, *knows, "--out", tmp_path / "R.md")
    assert "has a name for" not in (tmp_path / "R.md").read_text()
    results(test_set, *knows, *few, "--out", tmp_path / "R.md")
    assert ("\nPhones of the test set that the model has a name for: few 52.9 %, none 0.0 %. The others "
            in (tmp_path / "R.md").read_text())


TIMES_HEAD = "| run | times by | measured | 10 ms | 20 ms | 25 ms | 50 ms | mean | median | bias |"


def test_a_table_of_times_by_every_method_that_a_model_has(
        tmp_path: Path, manifest: Callable[..., Path], tiny_network: Callable[..., Any],
        tiny_config: Callable[..., Config]) -> None:
    test_set, run = manifest("test", 4), tmp_path / "timed"
    rows = [json.loads(line) for line in test_set.read_text().splitlines()]
    for row in rows:
        row["phone_times"] = [[0.1 * n, 0.1 * (n + 1)] for n in range(len(row["text"].split()))]
    rows[3]["text"] = rows[3]["text"][:-1] + "x"            # nothing that the model could align
    test_set.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.mkdir()
    save_model(run / "model.asr", tiny_network(phones=4, gain=2.0), tiny_config(), PhoneSet(["a", "b", "c"]),
               Normaliser(torch.full((8,), -8.0), torch.full((8,), 4.0)), {"seed": 1})
    late = [{"id": row["id"], "phones": [
        {"phone": phone, "start": start + 0.015, "end": end + 0.015}
        for phone, (start, end) in zip(row["text"].split(), row["phone_times"], strict=True)]} for row in rows]
    (run / "test.hyp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in late))
    done = results(test_set, run, "--times", "--out", tmp_path / "R.md")
    assert done.returncode == 0
    assert "unknown phone 'x'" in done.stderr
    lines = (tmp_path / "R.md").read_text().splitlines()
    table = lines[lines.index(TIMES_HEAD) + 2:][:3]         # it has no classifier of frames
    starts = sum(len(row["text"].split()) - 1 for row in rows)
    assert table[2] == (f"| timed | `asr decode` | {starts} of {starts} | 0.0 | **100.0** | 100.0 | 100.0 | 15.0 | "
                        "15.0 | +15.0 |")
    (tmp_path / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    model = load_model(run / "model.asr")
    for line, (method, name) in zip(table, (("ctc", "CTC"), ("attention", "attention")), strict=False):
        decode = model.config.decode.model_copy(update={"times": method})
        align(model, [str(tmp_path / "known.jsonl")], decode, formats=["jsonl"], out=tmp_path / "aligned.jsonl")
        (system,) = score_files(str(tmp_path / "known.jsonl"), [str(tmp_path / "aligned.jsonl")],
                                Options(boundaries=True)).systems
        found = system.boundaries
        assert found is not None
        assert found.errors
        assert line == (f"| timed | `asr align`, {name}, 3 of 4 utterances | {len(found.errors)} of {found.starts} | "
                        f"{found.within(10):.1f} | **{found.within(20):.1f}** | {found.within(25):.1f} | "
                        f"{found.within(50):.1f} | {1000 * found.mean:.1f} | {1000 * found.median:.1f} | "
                        f"{1000 * found.bias:+.1f} |")
    test_set.write_text("".join(json.dumps(row | {"phone_times": None}) + "\n" for row in rows))
    untimed = results(test_set, run, "--times", "--out", tmp_path / "Q.md")
    assert (untimed.returncode, (tmp_path / "Q.md").exists()) == (1, False)
    assert "utterances have no times, 'test-0' for one: --boundaries needs 'phone_times'" in untimed.stderr
