"""The stage prep: whole stores or none, the same bytes on every road."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import forked

from asr import prep
from asr.cli import main
from asr.config import Config, Features
from asr.errors import AsrError
from asr.frontend.store import Store
from asr.prep import prepare

CONFIG = Config(features=Features(mels=8))


def write(folder: Path, count: int = 10, seconds: float = 0.2, bad: dict[int, bytes] | None = None) -> Path:
    """A manifest of `count` short noises; the audio of those in `bad` is replaced."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(round(seconds * 16000)), 16000)
        if bad and i in bad:
            (folder / f"{i}.wav").write_bytes(bad[i])
        os.utime(folder / f"{i}.wav", (1e9, 1e9))
        rows.append({"id": f"u{i}", "audio_filepath": f"{i}.wav", "text": "a b"})
    manifest = folder / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(*arguments: object, expect: int = 0) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == expect


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prep, "SHARD", 3)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, out = write(tmp_path), tmp_path / "store"
    run("prep", manifest, out, "-o", "features.mels=8", "-j", "1")
    assert capsys.readouterr() == ("", f"{out} is ready: 10 utterances, 180 frames\n")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    run("prep", manifest, out, "-o", "features.mels=8", "-j", "1")
    assert capsys.readouterr() == ("", f"{out} is up to date: 10 utterances, 180 frames\n")
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    run("prep", manifest, out, "-o", "features.mels=9", "-j", "1")
    assert capsys.readouterr() == ("", f"{out} is ready: 10 utterances, 180 frames\n")
    assert Store(out).features.mels == 9
    assert len(list(out.iterdir())) == 2 + 2 * 4            # nothing of the old store is left


def test_rows_without_phones_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, out = write(tmp_path), tmp_path / "store"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[2]["text"] = ""
    del rows[5]["text"]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for state in ("is ready", "is up to date"):
        run("prep", manifest, out, "-o", "features.mels=8", "-j", "1")
        assert capsys.readouterr() == ("", (
            f"{out} {state}: 10 utterances, 180 frames\n"
            f"{out}: 2 of 10 utterances have no phones: they can be decoded, but not trained on\n"))


@pytest.mark.parametrize("name", ["index.json", "shard-000001.tar", "song.mp3"])
def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    manifest, out = write(tmp_path), tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("mine")
    run("prep", manifest, out, "-o", "features.mels=8", "-j", "1", expect=1)
    assert capsys.readouterr() == (
        "", f"asr: {out}: holds other files ({name}) and is no store: name a new folder, or an empty one\n")
    assert content(out) == {name: b"mine"}
    (out / name).rename(out / ".hidden")
    prepare(manifest, out, CONFIG, 1)
    (out / "notes.txt").write_text("of a store")
    assert prepare(manifest, out, CONFIG, 1).up_to_date


def test_bad_utterances_are_all_named_and_nothing_is_put_in_place(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, out = write(tmp_path), tmp_path / "store"
    prepare(manifest, out, CONFIG, 1)
    before = content(out)
    silent, short = tmp_path / "silent.wav", tmp_path / "short.wav"
    soundfile.write(silent, np.zeros(8000), 16000)
    soundfile.write(short, np.random.default_rng(0).standard_normal(160), 16000)
    write(tmp_path, bad={1: b"", 4: silent.read_bytes(), 5: short.read_bytes()})
    (tmp_path / "8.wav").unlink()
    run("prep", manifest, out, "-o", "features.mels=8", "-j", "1", expect=1)
    assert capsys.readouterr() == ("", (
        f"asr: {out}: no store was made: 4 of 10 utterances cannot be used:\n"
        f"  {tmp_path}/1.wav (utterance 'u1'): is empty (0 bytes): get it again or take it out\n"
        f"  {tmp_path}/4.wav (utterance 'u4'): is silent, every sample is 0: record it again or take it out\n"
        f"  {tmp_path}/5.wav (utterance 'u5'): lasts 10.0 ms, less than one window of 25 ms: take it out\n"
        f"  {tmp_path}/8.wav (utterance 'u8'): cannot be read: No such file or directory\n"))
    assert before.items() <= content(out).items()
    assert len(Store(out).utterances) == 10                 # the old one
    write(tmp_path, bad={4: short.read_bytes()})
    assert prepare(manifest, out, CONFIG, 1).problems
    write(tmp_path)
    report = prepare(manifest, out, CONFIG, 1)
    assert report.up_to_date
    assert content(out).items() >= before.items()


def test_more_than_twenty_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write(tmp_path, 30, bad=dict.fromkeys(range(25), b""))
    run("prep", manifest, tmp_path / "store", expect=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert lines[20].startswith(f"  {tmp_path}/19.wav (utterance 'u19')")
    assert lines[-1] == "  … and 5 more"
    assert not (tmp_path / "store" / "index.json").exists()


def test_finished_shards_are_kept_for_the_next_run(tmp_path: Path) -> None:
    manifest, out = write(tmp_path, bad={4: b""}), tmp_path / "store"
    report = prepare(manifest, out, CONFIG, 1)
    assert [line.split(" (", 1)[1] for line in report.problems] == [
        "utterance 'u4'): is empty (0 bytes): get it again or take it out"]
    write(tmp_path)
    report = prepare(manifest, out, CONFIG, 1)
    assert (report.built, report.kept, report.frames) == (1, 3, 180)
    prepare(manifest, tmp_path / "straight", CONFIG, 1)
    assert content(out) == content(tmp_path / "straight")


@pytest.mark.parametrize("jobs", [2, 3])
def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path, jobs: int) -> None:
    manifest = write(tmp_path)
    prepare(manifest, tmp_path / "one", CONFIG, 1)
    prepare(manifest, tmp_path / "many", CONFIG, jobs)
    assert content(tmp_path / "one") == content(tmp_path / "many")


def test_changed_audio_is_noticed(tmp_path: Path) -> None:
    manifest, out = write(tmp_path), tmp_path / "store"
    prepare(manifest, out, CONFIG, 1)
    os.utime(tmp_path / "7.wav", (2e9, 2e9))
    report = prepare(manifest, out, CONFIG, 1)
    assert (report.built, report.kept, report.up_to_date) == (1, 3, False)


def test_audio_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = write(tmp_path, 1)
    read = prep.read_utterance

    def slow(utterance, features):
        samples = read(utterance, features)
        os.utime(utterance.audio, (2e9, 2e9))
        return samples

    monkeypatch.setattr(prep, "read_utterance", slow)
    assert prepare(manifest, tmp_path / "store", CONFIG, 1).problems == [
        f"{tmp_path}/0.wav (utterance 'u0'): changed while it was read: run `asr prep` again when it stands still"]


def test_a_second_process_is_sent_away(tmp_path: Path) -> None:
    manifest, out = write(tmp_path), tmp_path / "store"
    out.mkdir()
    holder = ("import sys; from pathlib import Path; from asr.files import locking\n"
              "with locking(Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()")
    other = subprocess.Popen([sys.executable, "-c", holder, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"mine\n"
    with pytest.raises(AsrError) as error:
        prepare(manifest, out, CONFIG, 1)
    assert str(error.value) == (f"{out}: process {other.pid} on {socket.gethostname()} is at work here: wait for it, "
                                "or name another folder")
    other.kill()                                            # its lock goes with it
    other.wait()
    prepare(manifest, out, CONFIG, 1)
    assert ".lock" not in content(out)


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    manifest = write(tmp_path)
    with pytest.raises(AsrError, match=r"m\.jsonl: is a file: name a folder for the store"):
        prepare(manifest, manifest, CONFIG, 1)
    with pytest.raises(AsrError, match=r"cannot be written"):
        prepare(manifest, manifest / "store", CONFIG, 1)


def test_a_full_disk(tmp_path: Path) -> None:
    manifest, out = write(tmp_path), tmp_path / "store"

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        with pytest.raises(AsrError, match=r"\.f16: cannot be written: File too large$"):
            prepare(manifest, out, CONFIG, 1)

    assert os.waitpid(forked(limited), 0)[1] == 0
    assert not out.exists()


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, out = write(tmp_path), tmp_path / "store"
    monkeypatch.setattr(prep, "_build", die)
    with pytest.raises(AsrError, match=r"store: a worker process died, perhaps for want of memory"):
        prepare(manifest, out, CONFIG, 2)


@pytest.mark.parametrize("points", [25, pytest.param(75, marks=pytest.mark.slow)])
def test_killed_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path, points: int) -> None:
    manifest = write(tmp_path, 12)
    prepare(manifest, tmp_path / "straight", CONFIG, 1)
    wanted, out, dice, killed = content(tmp_path / "straight"), tmp_path / "store", random.Random(points), 0
    for _ in range(points):
        child = forked(lambda: prepare(manifest, out, CONFIG, 2))
        time.sleep(dice.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL)
        killed += os.waitpid(child, 0)[1] != 0
        if (out / "index.json").exists():
            assert Store(out).moments().count == 216
            if dice.random() < 0.7:
                shutil.rmtree(out, ignore_errors=True)     # an orphan may still be writing
    assert killed > points // 5
    time.sleep(1.5 * prep.WATCH)                            # the orphans go by themselves
    prepare(manifest, out, CONFIG, 1)
    assert content(out) == wanted


@pytest.mark.parametrize("ranks", [2, 3])
def test_bytes_do_not_depend_on_the_number_of_ranks(tmp_path: Path, ranks: int) -> None:
    manifest, bad = write(tmp_path, 10), tmp_path / "bad"
    prepare(manifest, tmp_path / "one", CONFIG, 1)
    bad.mkdir()
    write(bad, bad={2: b"", 3: b"", 9: b""})
    with socket.socket() as free, socket.socket() as another:   # two meetings, each at a place of its own
        free.bind(("127.0.0.1", 0))
        another.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (free, another)]

    def work(rank: int) -> None:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks),
                          MASTER_ADDR="127.0.0.1", MASTER_PORT=str(ports[0]))
        prepare(manifest, tmp_path / "many", CONFIG, 1)
        os.environ["MASTER_PORT"] = str(ports[1])
        report = prepare(bad / "m.jsonl", bad / "store", CONFIG, 1)
        assert bool(prep.tell(report, bad)) == (rank == 0)
        problems = report.problems
        assert [line.split("'")[1] for line in problems] == ["u2", "u3", "u9"]

    children = [forked(lambda rank=rank: work(rank)) for rank in range(ranks)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * ranks
    assert content(tmp_path / "one") == content(tmp_path / "many")
