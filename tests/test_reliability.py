"""Killed anywhere, it goes on to the same bytes; two processes do not meet in one folder; what failed is listed."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import Done, asr, forked
from decoding import QUICK, Bench

from asr.config import Config, dump_config
from asr.training import loop
from asr.training.loop import Trainer
from asr.transcriber import Transcriber


@pytest.fixture(autouse=True)
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)       # slow to import, and nothing of ours


class Steps:
    """Counts what a process does to its files and with its network, and dies at step number `last`."""

    def __init__(self, last: int = -1) -> None:
        self.done, self.last = 0, last

    def step(self) -> None:
        self.done += 1
        if self.done == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        def stepping(work: Callable[..., object]) -> Callable[..., object]:
            def step(*arguments, **more):
                self.step()
                return work(*arguments, **more)
            return step
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Trainer, "update"),
                            (Transcriber, "batch")):
            patch.setattr(owner, name, stepping(getattr(owner, name)))


def killed(work: Callable[[], object], last: int) -> bool:
    """Whether a process that does the work died at its step `last`."""
    def watched() -> None:
        with pytest.MonkeyPatch.context() as patch:
            Steps(last).watch(patch)
            work()
    return os.waitstatus_to_exitcode(os.waitpid(forked(watched), 0)[1]) == -signal.SIGKILL


def counted(work: Callable[[], Done]) -> int:
    """The number of steps that the work takes."""
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps()
        steps.watch(patch)
        done = work()
    assert done.code == 0, done.err
    return steps.done


def spread(steps: int, points: int) -> list[int]:
    """So many steps, the first and the last among them."""
    return sorted({1 + round(n * (steps - 1) / (points - 1)) for n in range(points)})


POINTS = [5, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]


# Training.

def state_of(run: Path) -> dict[str, bytes | list]:
    """All that a run leaves, times of the day apart."""
    changing = ("seconds", "frames_per_second")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    state = torch.load(_body(run / "last.pt"), weights_only=True)
    return {"log": [{k: v for k, v in line.items() if k not in changing} for line in log],
            "weights": [tensor.numpy().tobytes() for tensor in state["network"].values()],
            **{str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.asr")}}


def _body(path: Path):
    import io
    return io.BytesIO(path.read_bytes().partition(b"\n")[2])


@pytest.fixture
def training(tiny_config: Callable[..., Config], manifest: Callable[..., Path],
             tmp_path: Path) -> Callable[..., Done]:
    """`training("run")`: the command, on nine utterances."""
    config = tmp_path / "c.yaml"
    config.write_text(dump_config(tiny_config(*QUICK)))
    train, dev = manifest("train", 9), manifest("dev", 2, seed=1)
    return lambda run: asr("train", "--config", config, "--train", train, "--dev", dev, "--run", tmp_path / run,
                           "--device", "cpu", "--resume")


@pytest.mark.parametrize("points", POINTS)
def test_training_killed_anywhere_ends_in_the_same_model(training: Callable[..., Done], tmp_path: Path,
                                                         points: int) -> None:
    """Between any two steps, so also between the two renames of a checkpoint."""
    steps = counted(lambda: training("straight"))
    assert steps > 30
    wanted = state_of(tmp_path / "straight")
    for last in spread(steps, points):
        run = f"killed-{last}"
        assert killed(lambda run=run: training(run), last)
        done = training(run)
        assert done.code == 0, done.err
        assert state_of(tmp_path / run) == wanted


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_training_killed_at_any_time_again_and_again(training: Callable[..., Done], tmp_path: Path) -> None:
    began = time.monotonic()
    training("straight")
    seconds, dice, deaths = time.monotonic() - began, random.Random(1), 0
    for _ in range(20):
        child = forked(lambda: training("run"))
        time.sleep(dice.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        deaths += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) < 0
    assert deaths > 3
    assert training("run").code == 0
    assert state_of(tmp_path / "run") == state_of(tmp_path / "straight")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.98])
def test_training_killed_in_the_middle_of_a_checkpoint(training: Callable[..., Done], tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """With a part of its bytes on the disk: the system kills whoever writes beyond the largest size of a file."""
    assert training("straight").code == 0
    save, saves = loop.save_run_state, []

    def dying(run: Path, state: dict) -> None:
        saves.append(run)
        if len(saves) == 3:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            most = round(share * (run / "last.pt").stat().st_size)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        save(run, state)

    def work() -> None:
        monkeypatch.setattr(loop, "save_run_state", dying)
        training("run")
    assert os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1]) == -signal.SIGXFSZ
    part, = (tmp_path / "run").glob(".last.pt.*.part")
    assert 0 < part.stat().st_size == round(share * (tmp_path / "run" / "last.pt").stat().st_size)
    assert training("run").code == 0
    assert not list((tmp_path / "run").rglob("*.part"))
    assert state_of(tmp_path / "run") == state_of(tmp_path / "straight")


def test_a_run_folder_is_for_one_process(training: Callable[..., Done], tmp_path: Path) -> None:
    run = tmp_path / "run"
    holder = ("import sys; from pathlib import Path; from asr.files import locking\n"
              "with locking(Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()")
    other = subprocess.Popen([sys.executable, "-c", holder, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"mine\n"
        assert training("run") == Done(1, "", f"asr: {run}: process {other.pid} on {socket.gethostname()} is at work "
                                              "here: wait for it, or name another folder\n")
        assert [path.name for path in run.iterdir()] == [".lock"]
    finally:
        other.kill()
        other.communicate()
    assert training("run").code == 0
    assert ".lock" not in os.listdir(run)


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken(training: Callable[..., Done],
                                                                     tmp_path: Path) -> None:
    steps = counted(lambda: training("straight"))
    assert killed(lambda: training("run"), steps // 2)
    last = tmp_path / "run" / "last.pt"
    last.write_bytes(last.read_bytes()[:-1])
    done = training("run")
    assert done.code == 0
    assert done.err.splitlines()[0] == (f"{last}: damaged (its checksum does not match): going on from "
                                        f"{last.with_name('before.pt')}")
    assert state_of(tmp_path / "run") == state_of(tmp_path / "straight")


# Decoding.

@pytest.fixture
def bench(tmp_path: Path, tiny_config: Callable[..., Config], tiny_network: Callable[..., object]) -> Bench:
    return Bench(tmp_path, tiny_config(*QUICK), tiny_network(*QUICK, phones=4, seed=3, gain=4.0), 20)


@pytest.mark.parametrize("points", POINTS)
def test_decoding_killed_anywhere_goes_on_to_the_same_bytes(bench: Bench, points: int,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.transcriber.AHEAD", 2)
    steps = counted(lambda: bench.decode("straight.jsonl"))
    wanted = (bench.folder / "straight.jsonl").read_bytes()
    assert wanted.count(b"\n") == 20
    assert len({json.loads(line)["text"] for line in wanted.splitlines()}) > 2
    for last in spread(steps, points):
        out = f"{last}.jsonl"
        assert killed(lambda out=out: bench.decode(out), last)
        assert not (bench.folder / out).exists() or (bench.folder / out).read_bytes() == wanted
        record, = bench.folder.glob(f".{out}.*.done")
        known = 20 if b'"whole"' in record.read_bytes() else record.read_bytes().count(b"\n")
        done, searched = bench.searched(lambda out=out: bench.decode(out, "--resume"))
        assert done.code == 0
        assert len(searched) == 20 - known
        assert (bench.folder / out).read_bytes() == wanted


def test_all_formats_are_resumed_alike(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.transcriber.AHEAD", 2)
    formats = [word for name in ("jsonl", "ctm", "trn", "textgrid") for word in ("-f", name)]
    steps = counted(lambda: bench.decode("straight", *formats))
    assert killed(lambda: bench.decode("out", *formats), steps // 2)
    assert bench.decode("out", *formats, "--resume").code == 0
    def content(folder: str) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (bench.folder / folder).iterdir() if not p.name.endswith(".part")}
    assert content("out") == content("straight")


def test_what_failed_is_listed_and_alone_done_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.decode.NAMED", 2)
    good = {number: bench.path(number).read_bytes() for number in (3, 7, 11)}
    for number in good:
        bench.path(number).write_bytes(b"")
    out, listed = bench.folder / "h.jsonl", bench.folder / "h.jsonl.failed.jsonl"
    done = bench.decode("h.jsonl")
    reasons = [f"{bench.path(number)} (utterance 'u{number:02d}'): is empty (0 bytes): get it again or take it out"
               for number in good]
    assert done.code == 1
    assert done.err.splitlines()[1:] == [
        f"asr: {reasons[0]}", f"asr: {reasons[1]}", f"asr: and 1 more, all 3 with reasons in {listed}"]
    assert [json.loads(line) for line in listed.read_text().splitlines()] == [
        {"id": f"u{number:02d}", "audio_filepath": str(bench.path(number)), "reason": reason}
        for number, reason in zip(good, reasons, strict=True)]
    assert out.read_text().count("\n") == 17
    bench.path(3).write_bytes(good[3])
    bench.path(7).write_bytes(good[7])
    done, searched = bench.searched(lambda: bench.decode("h.jsonl", "--resume"))
    assert (done.code, searched) == (1, ["u03", "u07"])
    assert done.err.startswith("2 utterance(s), ")
    assert "17 utterance(s) were done before" in done.err.splitlines()
    assert listed.read_text().count("\n") == 1
    bench.path(11).write_bytes(good[11])
    done, searched = bench.searched(lambda: bench.decode("h.jsonl", "--resume"))
    assert (done.code, searched) == (0, ["u11"])
    assert not listed.exists()
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [f"u{n:02d}" for n in range(20)]
    done, searched = bench.searched(lambda: bench.decode("h.jsonl", "--resume"))
    assert (done.code, searched) == (0, [])


def test_another_command_begins_a_record_of_its_own(bench: Bench) -> None:
    """Other settings find other phones: what was found with the old ones is not taken for theirs, nor does it stay."""
    bench.path(0).write_bytes(b"")
    assert bench.decode("h.jsonl").code == 1
    done, searched = bench.searched(lambda: bench.decode("h.jsonl", "--resume", "-o", "decode.beam=1"))
    assert (done.code, len(searched)) == (1, 19)
    assert len(list(bench.folder.glob(".h.jsonl.*.done"))) == 1


@pytest.mark.parametrize("whole", [True, False])
def test_an_utterance_that_became_another_is_decoded_anew(bench: Bench, whole: bool) -> None:
    """A row pointed at another file, a stretch that moved, a file that was written again: all keep their ids."""
    rows = [{"id": f"u{n:02d}", "audio_filepath": str(bench.path(n)), "duration": 0.2} for n in range(6)]
    manifest = bench.folder / "m.jsonl"
    def decode(out: str, *more: object) -> Done:
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return bench.decode(out, *more, inputs=manifest)
    if not whole:
        rows.append({"id": "gone", "audio_filepath": str(bench.folder / "gone.wav")})
    assert decode("h.jsonl").code == 1 - whole
    rows[1]["audio_filepath"] = str(bench.path(11))
    rows[2]["offset"] = 0.1
    rows[3]["duration"] = 0.3
    os.utime(bench.path(4), (1e9, 1e9))
    bench.path(5).write_bytes(bench.path(9).read_bytes())
    done, searched = bench.searched(lambda: decode("h.jsonl", "--resume"))
    assert done.code == 1 - whole
    assert searched == [f"u{n:02d}" for n in range(0 if whole else 1, 6)]
    assert decode("straight.jsonl").code == 1 - whole
    assert (bench.folder / "h.jsonl").read_bytes() == (bench.folder / "straight.jsonl").read_bytes()


def test_without_trouble_one_line_stays_beside_the_output(bench: Bench) -> None:
    for beam in (2, 1):
        assert bench.decode("here/h.jsonl", "-o", f"decode.beam={beam}").code == 0
        hidden, out = sorted((bench.folder / "here").iterdir())
        assert (hidden.name[:9], hidden.name[-5:], out.name) == (".h.jsonl.", ".done", "h.jsonl")
        assert hidden.stat().st_size < 100


def test_resume_of_what_is_whole_does_nothing(bench: Bench) -> None:
    out, asked = bench.folder / "h.jsonl", ("h.jsonl", "--resume")
    assert bench.decode("h.jsonl").code == 0
    before = out.read_bytes(), out.stat().st_mtime_ns
    done, searched = bench.searched(lambda: bench.decode(*asked))
    assert (done.code, done.out, searched) == (0, "", [])
    assert done.err == f"{out}: is whole, 20 utterance(s) were done before: there is nothing to do\n"
    assert (out.read_bytes(), out.stat().st_mtime_ns) == before
    out.write_text("something else")
    done, searched = bench.searched(lambda: bench.decode(*asked))
    assert (done.code, len(searched), out.read_bytes()) == (0, 20, before[0])
    assert bench.decode(*asked, "-f", "trn").code == 0
    assert out.read_bytes() != before[0]


def test_nothing_is_kept_beside_a_device(bench: Bench) -> None:
    before = sorted(os.listdir("/dev"))
    bench.path(0).write_bytes(b"")
    assert asr("decode", bench.model, bench.path(0), bench.path(1), "--out", "/dev/null", "--device", "cpu").code == 1
    assert sorted(os.listdir("/dev")) == before


def test_the_folder_one_is_in(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "here").mkdir()
    monkeypatch.chdir(bench.folder / "here")
    bench.path(0).write_bytes(b"")
    done = asr("decode", bench.model, bench.path(0), bench.path(1), "--out", ".", "--device", "cpu")
    assert (done.code, os.listdir()) == (1, ["hypotheses.jsonl"])
    assert len(list(bench.folder.glob(".here.*.done"))) == len(list(bench.folder.glob("here.failed.jsonl"))) == 1


def test_resume_of_a_whole_folder_does_nothing(bench: Bench) -> None:
    formats = ("-f", "textgrid", "-f", "trn")
    assert bench.decode("grids", *formats).code == 0
    assert bench.searched(lambda: bench.decode("grids", *formats, "--resume"))[1] == []
    (bench.folder / "grids" / "u03.TextGrid").unlink()
    assert len(bench.searched(lambda: bench.decode("grids", *formats, "--resume"))[1]) == 20
    assert (bench.folder / "grids" / "u03.TextGrid").exists()


def test_resume_needs_a_place(bench: Bench) -> None:
    done = asr("decode", bench.model, bench.sounds, "--resume")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == "Error: --resume needs --out: what was done is known by the record beside it"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_files_of_which_one_in_a_hundred_is_broken(bench: Bench, monkeypatch: pytest.MonkeyPatch,
                                                        count: int) -> None:
    """The good are written, the broken named in one file; once they are mended, they alone are done."""
    folder, broken, named = bench.folder / "many", range(50, count, 100), min(20, count // 200)
    monkeypatch.setattr("asr.decode.NAMED", named)
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:05d}.wav"
        if number in broken:
            path.write_bytes(b"RIFF, and nothing more")
        else:
            os.link(bench.path(number % 20), path)
    quick = ("-o", "decode.beam=1", "-o", "decode.batch_size=64")
    done = bench.decode("h.jsonl", *quick, inputs=folder)
    out, listed = bench.folder / "h.jsonl", bench.folder / "h.jsonl.failed.jsonl"
    assert (done.code, len(done.err.splitlines())) == (1, 1 + named + 1)
    assert done.err.splitlines()[-1] == (f"asr: and {len(broken) - named} more, all {len(broken)} with reasons in "
                                         f"{listed}")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"{n:05d}" for n in range(count) if n not in broken]
    failed = [json.loads(line) for line in listed.read_text().splitlines()]
    assert sorted(row["id"] for row in failed) == [f"{n:05d}" for n in broken]
    assert {row["reason"].partition("): ")[2] for row in failed} == {
        "begins like a WAV file and is none: get it again or take it out"}
    for number in broken:
        (folder / f"{number:05d}.wav").write_bytes(bench.path(number % 20).read_bytes())
    done, searched = bench.searched(lambda: bench.decode("h.jsonl", *quick, "--resume", inputs=folder))
    assert (done.code, searched) == (0, [f"{n:05d}" for n in broken])
    texts = {row["id"]: row["text"] for row in map(json.loads, out.read_text().splitlines())}
    assert list(texts) == [f"{n:05d}" for n in range(count)]
    assert {(int(id) % 20, text) for id, text in texts.items()} == {(n, texts[f"{n:05d}"]) for n in range(20)}
    assert not listed.exists()


def test_decoders_at_once_do_not_disturb_each_other(bench: Bench) -> None:
    """Eight of them, on the same recordings, into one folder."""
    assert bench.decode("alone", "-f", "textgrid", "-f", "trn").code == 0
    def work() -> None:
        assert bench.decode("shared", "-f", "textgrid", "-f", "trn").code == 0
    children = [forked(work) for _ in range(8)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    def content(name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (bench.folder / name).iterdir()}
    assert content("shared") == content("alone")


# A folder that is not ours to write, files that go.

def test_a_folder_below_a_file(bench: Bench) -> None:
    done = bench.decode("m.asr/h.jsonl")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert done.err.endswith(".done: cannot be written: File exists\n")


def test_audio_that_vanishes_while_decoding(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.transcriber.AHEAD", 1)
    batch = Transcriber.batch
    def vanishing(self, *arguments):
        bench.path(15).unlink(missing_ok=True)
        return batch(self, *arguments)
    monkeypatch.setattr(Transcriber, "batch", vanishing)
    done = bench.decode("h.jsonl")
    assert done.code == 1
    assert done.err.splitlines()[1:] == [
        f"asr: {bench.path(15)} (utterance 'u15'): cannot be read: No such file or directory"]
    assert (bench.folder / "h.jsonl").read_text().count("\n") == 19


def test_audio_that_vanishes_while_training(training: Callable[..., Done], tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    update = Trainer.update
    def vanishing(self, *arguments):
        (tmp_path / "train-4.wav").unlink(missing_ok=True)
        return update(self, *arguments)
    monkeypatch.setattr(Trainer, "update", vanishing)
    done = training("run")
    assert done.code == 1
    assert done.err.splitlines()[-1] == (f"asr: {tmp_path}/train-4.wav (utterance 'train-4'): cannot be read: "
                                         "No such file or directory")
