"""Several processes: the same bytes whatever their number; a rank that dies is started again by torchrun itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Done, asr, in_ranks
from decoding import QUICK, Bench

from asr.config import Config, dump_config

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bench(tmp_path: Path, tiny_config: Callable[..., Config], tiny_network: Callable[..., object]) -> Bench:
    overrides = (*QUICK, "decode.batch_size=1", "decode.long.after=0.45")     # the longest are read piece by piece
    return Bench(tmp_path, tiny_config(*overrides), tiny_network(*overrides, phones=4, seed=3, gain=4.0), 20)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def torchrun(ranks: int, *arguments: object, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """`asr ARGUMENTS…` as a user would start it in several processes."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks),
         "--max-restarts", str(restarts), "-m", "--", "asr", *map(str, arguments)],
        capture_output=True, text=True, timeout=600, check=False, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize("ranks", [2, 3])
def test_hypotheses_do_not_depend_on_the_number_of_ranks(bench: Bench, monkeypatch: pytest.MonkeyPatch,
                                                         ranks: int) -> None:
    """Long and short ones, broken ones among them; nor do the list of those that failed, and what is said."""
    monkeypatch.setattr("asr.transcriber.AHEAD", 2)
    broken = {number: bench.path(number).read_bytes() for number in (2, 9, 10)}
    for number in broken:
        bench.path(number).write_bytes(b"")
    alone = bench.decode("one/h.jsonl")
    tally, *named = alone.err.splitlines()
    assert (alone.code, len(named)) == (1, 3)

    def work(rank: int) -> None:
        done = bench.decode("many/h.jsonl")
        assert (done.code, done.out) == (1, "")
        assert done.err.splitlines()[1:] == (named if rank == 0 else [])
        assert done.err.partition(" in ")[0] == (tally.partition(" in ")[0] if rank == 0 else "")

    assert in_ranks(ranks, work) == [0] * ranks
    assert (bench.folder / "many" / "h.jsonl.failed.jsonl").read_bytes() \
        == (bench.folder / "one" / "h.jsonl.failed.jsonl").read_bytes()
    assert (bench.folder / "many" / "h.jsonl").read_bytes() == (bench.folder / "one" / "h.jsonl").read_bytes()
    for number, sound in broken.items():
        bench.path(number).write_bytes(sound)

    def again(rank: int) -> None:
        done, searched = bench.searched(lambda: bench.decode("many/h.jsonl", "--resume"))
        assert done.code == 0
        assert set(searched) <= {"u02", "u09", "u10"}
        assert ("17 utterance(s) were done before" in done.err.splitlines()) is (rank == 0)
        done, searched = bench.searched(lambda: bench.decode("many/h.jsonl", "--resume"))
        assert (done.code, searched, "there is nothing to do" in done.err) == (0, [], rank == 0)

    assert in_ranks(ranks, again) == [0] * ranks
    assert bench.decode("one/h.jsonl", "--resume").code == 0
    assert (bench.folder / "many" / "h.jsonl").read_bytes() == (bench.folder / "one" / "h.jsonl").read_bytes()


def test_problems_of_all_ranks_are_told_once(bench: Bench) -> None:
    bench.path(1).write_bytes(b"")
    manifest = bench.folder / "m.jsonl"
    manifest.write_text("".join(json.dumps({"id": f"u{n}", "audio_filepath": str(bench.path(n))}) + "\n"
                                for n in range(3)))

    def work(rank: int) -> None:
        done = asr("prep", manifest, bench.folder / "store", "-o", "features.mels=8", "-j", 1)
        told = (f"asr: {bench.folder}/store: no store was made: 1 of 3 utterances cannot be used:\n  {bench.path(1)} "
                "(utterance 'u1'): is empty (0 bytes): get it again or take it out\n")
        assert done == (Done(1, "", told) if rank == 0 else Done(0, "", ""))
    assert in_ranks(2, work) == [0, 0]


LEFT_BEHIND = """
import os, sys, torch
from asr.training.distributed import processes
with processes(torch.device("cpu")) as group:
    network = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    group.sum_gradients(network)
    optimiser.step()
names = [open(f"/proc/self/task/{thread}/comm").read().strip() for thread in os.listdir("/proc/self/task")]
sys.exit(f"left behind: {names}" if any("gloo" in name for name in names) else 0)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are told by /proc")
def test_no_thread_of_the_group_is_left_at_the_end(tmp_path: Path) -> None:
    """One that was made a trained model's process abort, and the recipe with it, now and then."""
    script = tmp_path / "left.py"
    script.write_text(LEFT_BEHIND, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                           str(script)], capture_output=True, text=True, timeout=300, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr


def test_standard_input_goes_to_one_process(bench: Bench) -> None:
    def work(rank: int) -> None:
        done = asr("decode", bench.model, "-", "--device", "cpu", stdin=bench.path(0).read_bytes())
        assert (done.code, done.err) == (
            1, "asr: -: standard input goes to one process: decode it without torchrun\n")
    assert in_ranks(2, work) == [0, 0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_prep_and_decode_under_torchrun(bench: Bench) -> None:
    rows = [{"id": f"u{number:02d}", "audio_filepath": str(bench.path(number))} for number in range(20)]
    manifest = bench.folder / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sound, time = bench.path(7).read_bytes(), bench.path(7).stat().st_mtime_ns
    assert asr("prep", manifest, bench.folder / "store-1", "-o", "features.mels=8", "-j", 1).code == 0
    bench.path(7).write_bytes(b"")
    assert bench.decode("h-1.jsonl", inputs=manifest).code == 1
    for ranks in (2, 3):
        done = torchrun(ranks, "decode", bench.model, manifest, "--out", bench.folder / f"h-{ranks}.jsonl", "--device",
                        "cpu")
        assert done.returncode == 1
        assert done.stderr.count("u07.wav (utterance 'u07'): is empty (0 bytes)") == 1
        assert (bench.folder / f"h-{ranks}.jsonl").read_bytes() == (bench.folder / "h-1.jsonl").read_bytes()
    bench.path(7).write_bytes(sound)
    os.utime(bench.path(7), ns=(time, time))
    for ranks in (2, 3):
        done = torchrun(ranks, "prep", manifest, bench.folder / f"store-{ranks}", "-o", "features.mels=8", "-j", 1)
        assert done.returncode == 0, done.stderr
        assert content(bench.folder / f"store-{ranks}") == content(bench.folder / "store-1")


DYING = """\
import os, signal, sys
from pathlib import Path
from asr.cli import main
from asr.training.loop import Trainer
update, once = Trainer.update, Path(sys.argv.pop(1))
def dying(self, *arguments):
    if self.progress.update == 5 and self.processes.rank == 1 and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, *arguments)
Trainer.update = dying
main()
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_rank_starts_again_from_the_last_checkpoint(tiny_config: Callable[..., Config], tmp_path: Path,
                                                             manifest: Callable[..., Path]) -> None:
    """By torchrun's own --max-restarts; the end is the one of a run that nobody killed."""
    script, config = tmp_path / "dying.py", tmp_path / "c.yaml"
    script.write_text(DYING)
    config.write_text(dump_config(tiny_config(*QUICK)))
    train, dev = manifest("train", 9), manifest("dev", 2, seed=1)

    def training(run: str, once: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts",
             "1", "--", str(script), str(once), "train", "--config", str(config), "--train", str(train), "--dev",
             str(dev), "--run", str(tmp_path / run), "--device", "cpu", "--resume"],
            capture_output=True, text=True, timeout=600, check=False, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"})

    (tmp_path / "never").touch()
    straight = training("straight", tmp_path / "never")
    assert straight.returncode == 0, straight.stderr
    killed = training("killed", tmp_path / "once")
    assert (tmp_path / "once").exists()
    assert killed.returncode == 0, killed.stderr
    assert killed.stderr.count("utterances to train on") == 2
    assert (tmp_path / "killed" / "model.asr").read_bytes() == (tmp_path / "straight" / "model.asr").read_bytes()
