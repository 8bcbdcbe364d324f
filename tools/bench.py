"""Measure the speed of this project, and of its peers on the same work, in turns.

    python tools/bench.py [--peers ../shared/peers --peer-python venv/bin/python] [--figures train,greedy] [--check]

Each contestant is a process of its own; one works at a time, round by round, so that whatever else the machine does
falls on all alike. A figure is the median of CPU seconds over the rounds. Its ratio to the yardstick (a product of
matrices, measured in the same rounds) is what is stored and checked, for seconds alone say nothing elsewhere.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
HISTORY, BASELINE = ROOT / ".bench" / "history.jsonl", ROOT / "tools" / "bench-baseline.json"
FALL = 1.15                     # a ratio that grew by more than this has fallen behind
B, T, U, F, V = 16, 300, 35, 40, 42         # utterances, frames, phones, mel bands, phone ids: the peers' shape
LONG_T, LONG_U = 6000, 700
PEERS = {"net": ("ref_fast", "speechbrain", "espnet1", "espnet1_batch", "espnet2"),
         "fbank": ("torchaudio_kaldi", "torchaudio_mel", "kaldi_native_fbank"), "score": ("jiwer", "rapidfuzz_ops")}
GROUPS = {"train": "net", "train_bf16": "net", "greedy": "net", "beam": "net", "greedy_long": "net", "beam_long": "net",
          "prep_wav": "fbank", "prep_flac": "fbank", "score": "score"}
PEER_FIGURES = {"train_bf16": ("train", ("ref_fast_bf16",)), "prep_wav": ("fbank", None), "prep_flac": ("fbank", None)}


# The work: each function prepares and gives what is timed.

def yardstick() -> Callable[[], object]:
    """10 GFLOP of matrix products in float32."""
    import torch
    x = torch.randn(1000, 1000)
    def run() -> object:
        y = x
        for _ in range(5):
            y = x @ y
            y = y / y.norm()
        return y
    return run


def train(precision: str) -> Callable[[], object]:
    """The project's own update on 16 utterances of 300 frames and 35 labels."""
    import torch

    from asr.config import load_config
    from asr.frontend.batches import Batch
    from asr.training.distributed import Processes
    from asr.training.loop import Trainer
    config = load_config(ROOT / "conf" / "bench.yaml", [f"train.precision={precision}"])
    phones = torch.randint(1, V, (B, U))
    end = torch.zeros(B, 1, dtype=torch.long)
    batch = Batch(tuple(map(str, range(B))), torch.randn(B, T, F), torch.full((B,), T), torch.cat([end, phones], 1),
                  torch.cat([phones, end], 1), torch.full((B,), U + 1), B * (U + 1), B)
    nothing: Any = None
    trainer = Trainer(network().train(), nothing, config, Processes(0, 1, torch.device("cpu")), Path(), nothing,
                      nothing, nothing)
    return lambda: trainer.update(batch, 0.0)


def decode(beam: int, *, long: bool) -> Callable[[], object]:
    """Search for exactly 35 phones in each of 16 utterances of 3 s, or for 700 in one of 60 s, with the window."""
    import torch

    from asr.config import load_config
    from asr.search.beam import search
    from asr.search.recognise import encode
    from asr.search.stepper import AttentionStepper
    rows, frames, phones = (1, LONG_T, LONG_U) if long else (B, T, U)
    settings = load_config(ROOT / "conf" / "bench.yaml",
                           [f"decode.beam={beam}", f"decode.window.enabled={str(long).lower()}"]).decode
    recogniser, feats, lengths = network().eval(), torch.randn(rows, frames, F), torch.full((rows,), frames)

    @torch.inference_mode()
    def run() -> object:
        memory = encode(recogniser, feats, lengths, settings)
        stepper = AttentionStepper(recogniser, settings)
        found = search(stepper, stepper.start(memory), [phones] * rows, width=beam, shortest=[phones] * rows)
        assert all(len(best[0].ids) == phones for best in found), "the work is not done"
        return found
    return run


def network() -> Any:
    """The network of conf/bench.yaml with random weights."""
    import torch

    from asr.config import load_config
    from asr.model.recognizer import Recognizer
    torch.manual_seed(1)
    return Recognizer(load_config(ROOT / "conf" / "bench.yaml"), F, V)


def prep(suffix: str) -> Callable[[], object]:
    """Features of 200 files of 3 s: read, computed, written."""
    import numpy as np
    import soundfile

    from asr.config import load_config
    from asr.prep import prepare
    folder, config = Path(tempfile.mkdtemp(prefix="bench-")), load_config(ROOT / "conf" / "bench.yaml")
    noise = np.random.default_rng(1)
    for number in range(200):
        soundfile.write(folder / f"{number}.{suffix}", 0.1 * noise.standard_normal(48000).clip(-5, 5), 16000)
    rows = [{"id": str(n), "audio_filepath": f"{n}.{suffix}", "duration": 3.0, "text": "a"} for n in range(200)]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    stores = (folder / f"store{n}" for n in range(10 ** 6))
    return lambda: prepare(folder / "all.jsonl", next(stores), config, jobs=1)


def scoring() -> Callable[[], object]:
    """10,000 pairs of 40 phones, aligned and counted."""
    from asr.scoring.score import score
    draw = random.Random(1)
    phones = [f"p{n:02}" for n in range(39)]
    references = {str(n): [draw.choice(phones) for _ in range(40)] for n in range(10000)}
    hypotheses = {id: [p if draw.random() < 0.85 else draw.choice(phones) for p in row if draw.random() > 0.05]
                  for id, row in references.items()}
    return lambda: score(references, hypotheses)


WORK: dict[str, Callable[[], Callable[[], object]]] = {
    "yardstick": yardstick, "train": lambda: train("float32"), "train_bf16": lambda: train("bf16"),
    "greedy": lambda: decode(1, long=False), "beam": lambda: decode(10, long=False),
    "greedy_long": lambda: decode(1, long=True), "beam_long": lambda: decode(10, long=True),
    "prep_wav": lambda: prep("wav"), "prep_flac": lambda: prep("flac"), "score": scoring}


# Contestants, all asked in the same words over pipes: the peers' script sets them.

@dataclass
class Contestant:
    """A process that can do one figure's work."""

    name: str
    process: subprocess.Popen[str]
    answers: Any

    def ask(self, **question: object) -> dict[str, Any]:
        """Its answer; `ok` is 0 where it failed."""
        try:
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.answers.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"ok": 0, "err": "it died"}

    def close(self) -> None:
        """Let it go."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def hire(name: str, command: list[str]) -> Contestant:
    """Start a contestant; the number of the pipe for its answers is put behind the command."""
    read, write = os.pipe()
    process = subprocess.Popen([*command, str(write)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, pass_fds=[write], text=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"})
    os.close(write)
    return Contestant(name, process, os.fdopen(read))


def serve(pipe: int) -> None:
    """Be a contestant: this project."""
    answers, run = os.fdopen(pipe, "w"), None
    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, Any] = {"ok": 1}
        try:
            if question["do"] == "prepare":
                run = WORK[question["fig"]]()
                run()
            elif question["do"] == "run":
                assert run is not None
                before = time.process_time()
                run()
                answer |= {"cpu": time.process_time() - before,
                           "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        except Exception as error:      # a failure is a figure too
            answer = {"ok": 0, "err": repr(error)[:300]}
        print(json.dumps(answer), file=answers, flush=True)


def contestants(figure: str, peers: Path | None, python: str) -> Iterator[Contestant]:
    """All that can do the figure: the yardstick, this project, and the peers that are there."""
    own = [sys.executable, str(Path(__file__).resolve()), "--serve"]
    yield hire("yardstick", own)
    yield hire("asr", own)
    if peers is not None:
        group = GROUPS[figure]
        for name in PEER_FIGURES.get(figure, (figure, None))[1] or PEERS[group]:
            yield hire(name, [python, "-W", "ignore", str(peers / "bench_peers.py"), "--worker", name, "--group", group,
                              "--threads", "1", "--fd"])


def measure(figure: str, rounds: int, peers: Path | None, python: str) -> dict[str, Any]:
    """Medians of CPU seconds and peak memory in MB, by contestant, and why some are missing."""
    result: dict[str, Any] = {"figure": figure, "cpu": {}, "rss": {}, "missing": {}}
    racing = []
    for one in contestants(figure, peers, python):
        theirs = {"yardstick": "yardstick", "asr": figure}.get(one.name, PEER_FIGURES.get(figure, (figure, None))[0])
        answer = one.ask(do="build")
        answer = one.ask(do="prepare", fig=theirs, warm=1) if answer["ok"] else answer
        if answer["ok"]:
            racing.append(one)
        else:
            result["missing"][one.name] = answer["err"]
            one.close()
    times: dict[str, list[float]] = {one.name: [] for one in racing}
    for turn in range(rounds):
        for place in range(len(racing)):
            one = racing[(turn + place) % len(racing)]
            answer = one.ask(do="run")
            if answer["ok"]:
                times[one.name].append(answer["cpu"])
                result["rss"][one.name] = round(answer["rss"])
    for one in racing:
        one.close()
    result["cpu"] = {name: round(statistics.median(each), 4) for name, each in times.items() if each}
    result["ratio"] = round(result["cpu"]["asr"] / result["cpu"]["yardstick"], 3) if "asr" in result["cpu"] else None
    return result


def row(result: dict[str, Any]) -> str:
    """One line of the table."""
    cpu = result["cpu"]
    if "asr" not in cpu:
        return f"{result['figure']:<12} failed: {result['missing'].get('asr', '')}"
    peers = {name: seconds for name, seconds in cpu.items() if name not in ("asr", "yardstick")}
    line = f"{result['figure']:<12} {cpu['asr']:8.3f} s {result['ratio']:8.2f} {result['rss']['asr']:6d} MB"
    for name, seconds in sorted(peers.items(), key=lambda item: item[1]):
        line += f"   {name} {seconds:.3f} s ({cpu['asr'] / seconds:.2f})"
    return line


@click.command(help=__doc__)
@click.option("--figures", default=",".join(GROUPS), help="Which ones, with commas between.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--peers", type=click.Path(path_type=Path, exists=True), help="Folder of bench_peers.py.")
@click.option("--peer-python", default=sys.executable, help="Python of the environment that the peers live in.")
@click.option("--check", is_flag=True, help="Exit 1 where a ratio fell by more than 15 % against the stored one.")
@click.option("--store", is_flag=True, help="Keep the ratios as those to check against.")
@click.option("--serve", "pipe", type=int, hidden=True)
def main(figures: str, rounds: int, peers: Path | None, peer_python: str, check: bool, store: bool,
         pipe: int | None) -> None:
    if pipe is not None:
        serve(pipe)
        return
    stored = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                            check=False).stdout.strip()
    HISTORY.parent.mkdir(exist_ok=True)
    fallen = []
    print(f"{'figure':<12} {'CPU':>10} {'ratio':>8} {'memory':>9}   peers, and this project's time over theirs")
    for figure in figures.split(","):
        if figure not in GROUPS:
            raise click.UsageError(f"no figure {figure!r}: there are {', '.join(GROUPS)}")
        result = measure(figure, rounds, peers, peer_python)
        print(row(result), flush=True)
        for name, reason in result["missing"].items():
            print(f"  {name}: left out: {reason}", file=sys.stderr)
        with HISTORY.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit,
                                   "machine": platform.processor() or platform.machine(), **result}) + "\n")
        if result["ratio"] is None or result["ratio"] > FALL * stored.get(figure, float("inf")):
            fallen.append(f"{figure} ({result['ratio']}, stored {stored.get(figure)})")
        elif store:
            stored[figure] = result["ratio"]
    if store:
        BASELINE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    if check and fallen:
        sys.exit(f"tools/bench: slower by more than 15 %: {', '.join(fallen)}")


if __name__ == "__main__":
    main()
