"""Measure the speed of this project, and of its peers on the same work, in turns.

    tools/bench [--peers ../shared/peers --peer-python venv/bin/python] [--figures train,greedy] [--check]

Each contestant is a process of its own; one works at a time, round by round, so that whatever else the machine does
falls on all alike. A figure is the median of CPU seconds over the rounds. Its ratio to the yardstick (a product of
matrices, measured in the same rounds) is what is stored and checked, for seconds alone say nothing elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from bench_work import ROOT, SHAPES, WORK, Shape

HERE = Path(__file__).resolve()
HISTORY, BASELINE = ROOT / ".bench" / "history.jsonl", HERE.with_name("bench-baseline.json")
FALL = 1.15                     # a ratio that grew by more than this has fallen behind
PEERS = {"net": ("ref_fast", "speechbrain", "espnet1", "espnet1_batch", "espnet2"),
         "fbank": ("torchaudio_kaldi", "torchaudio_mel", "kaldi_native_fbank"), "score": ("jiwer", "rapidfuzz_ops")}
GROUPS = {"train": "net", "train_bf16": "net", "greedy": "net", "greedy_bf16": "net", "beam": "net", "beam_bf16": "net",
          "greedy_long": "net", "beam_long": "net", "prep_wav": "fbank", "prep_flac": "fbank", "score": "score"}
BEST = ("ref_fast_bf16", "speechbrain", "speechbrain_autocast")         # at their best precision
PEER_FIGURES = {"train": ("train", ("ref_fast", "speechbrain", "espnet1")),         # the name of it there, and who
                "train_bf16": ("train", BEST), "greedy_bf16": ("greedy", BEST), "beam_bf16": ("beam", BEST),
                "beam_long": ("beam_long", ("ref_fast", "speechbrain", "espnet1")),     # minutes each; its best search
                "prep_wav": ("fbank", None), "prep_flac": ("fbank", None)}
BF16 = "_autocast"              # a peer of that name runs under bf16 autocast
TOOLKITS = ("speechbrain", "espnet1", "espnet1_batch", "espnet2")
GOALS = {                       # at most this share of the fastest of these
    "train": (1.0, ("speechbrain",)),           # and at equal operations 0.85 of it, which is less to ask: it has 27 %
    "train_bf16": (0.6, ("speechbrain", "speechbrain_autocast")),                                               # fewer
    "greedy": (0.7, TOOLKITS), "greedy_bf16": (0.7, BEST[1:]), "beam": (0.33, TOOLKITS), "beam_bf16": (0.33, BEST[1:]),
    "beam_long": (0.1, TOOLKITS)}
SECONDS = {"prep_wav": 600 / 2500, "prep_flac": 600 / 1000, "score": 1.2}   # or at most so many
MATRIX_RATE = 0.9               # share of the yardstick's rate that a float32 step should reach


@dataclass
class Contestant:
    """A process that can do one figure's work, asked over pipes in the words that the peers' script sets."""

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
        self.answers.close()
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


def serve(shape: Shape, pipe: int) -> None:
    """Be a contestant: this project, or the yardstick."""
    answers, run = os.fdopen(pipe, "w"), None
    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, Any] = {"ok": 1}
        try:
            if question["do"] == "prepare":
                run = WORK[question["fig"]](shape)
                forget_peak()
                for _ in range(question["warm"]):
                    run()
            elif question["do"] == "run":
                assert run is not None
                before = time.process_time()
                run()
                answer |= {"cpu": time.process_time() - before, "rss": peak_memory()}
        except Exception as error:      # a failure is a figure too
            answer = {"ok": 0, "err": repr(error)[:300]}
        print(json.dumps(answer), file=answers, flush=True)


def forget_peak() -> None:
    """Let the peak of memory begin anew, as the peers do behind their preparations; where /proc has it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> float:
    """MB, of this process since `forget_peak`."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except OSError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def contestants(figure: str, shape: str, peers: Path | None, python: str) -> Iterator[Contestant]:
    """All that can do the figure: the yardstick, this project, and the peers that are there."""
    own = [sys.executable, str(HERE), "--shape", shape, "--serve"]
    yield hire("yardstick", own)
    yield hire("asr", own)
    if peers is not None:
        group = GROUPS[figure]
        for name in PEER_FIGURES.get(figure, (figure, None))[1] or PEERS[group]:
            yield hire(name, [python, "-W", "ignore", str(HERE.with_name("bench_autocast.py")), str(peers),
                              name.removesuffix(BF16)] if name.endswith(BF16) else
                       [python, "-W", "ignore", str(peers / "bench_peers.py"), "--worker", name, "--group", group,
                        "--threads", "1", "--fd"])


def measure(figure: str, rounds: int, found: Iterator[Contestant]) -> dict[str, Any]:
    """Medians of CPU seconds and peak memory in MB, by contestant, and why some are missing."""
    result: dict[str, Any] = {"figure": figure, "rounds": rounds, "cpu": {}, "rss": {}, "missing": {}}
    racing = []
    for one in found:
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
            else:
                result["missing"][one.name] = answer["err"]
    for one in racing:
        one.close()
    result["cpu"] = {name: round(statistics.median(each), 4) for name, each in times.items() if each}
    cpu = result["cpu"]
    result["ratio"] = round(cpu["asr"] / max(1e-9, cpu["yardstick"]), 3) if {"asr", "yardstick"} <= cpu.keys() else None
    return result


def judge(result: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """What is asked of a figure, in CPU seconds and in memory, where its peers are there; and whether it is met."""
    figure, cpu, rss = result["figure"], result["cpu"], result["rss"]
    share, names = GOALS.get(figure, (0.0, ()))
    rivals = [cpu[name] for name in names if name in cpu]
    goals = {}
    if "asr" not in cpu:
        return goals
    if rivals:
        goals["time"] = (round(share * min(rivals), 4), cpu["asr"])
    if figure in SECONDS:
        goals["time"] = (SECONDS[figure], cpu["asr"])
    if figure == "train":
        rate = 10 * shape.matrix ** 3 / max(1e-9, cpu["yardstick"])
        goals["matrix rate"] = (round(shape.flops / rate / MATRIX_RATE, 4), cpu["asr"])
    others = [rss[name] for name in rss if name not in ("asr", "yardstick")]
    if others and GROUPS[figure] == "net":
        goals["memory"] = (min(others), rss["asr"])
    return {name: {"at most": most, "met": own <= most} for name, (most, own) in goals.items()}


def table_row(result: dict[str, Any]) -> str:
    """A line of the table, and one below it for each goal."""
    cpu = result["cpu"]
    if result["ratio"] is None:
        return f"{result['figure']:<12} failed: {result['missing'].get('asr', 'no figure')}"
    peers = {name: seconds for name, seconds in cpu.items() if name not in ("asr", "yardstick")}
    line = f"{result['figure']:<12} {cpu['asr']:8.3f} s {result['ratio']:8.2f} {result['rss']['asr']:6d} MB"
    for name, seconds in sorted(peers.items(), key=lambda item: item[1]):
        line += f"   {name} {seconds:.3f} s {result['rss'][name]} MB ({cpu['asr'] / max(1e-9, seconds):.2f})"
    for name, goal in result["goals"].items():
        unit = "MB" if name == "memory" else "s"
        line += f"\n{'':<14}goal, {name}: {goal['at most']} {unit} at most: {'met' if goal['met'] else 'not met'}"
    return line


@click.command(help=__doc__)
@click.option("--figures", default=",".join(GROUPS), help="Which ones, with commas between.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--peers", type=click.Path(path_type=Path, exists=True), help="Folder of bench_peers.py.")
@click.option("--peer-python", default=sys.executable, help="Python of the environment that the peers live in.")
@click.option("--check", is_flag=True, help="Exit 1 where a ratio fell by more than 15 % against the stored one.")
@click.option("--store", is_flag=True, help="Keep the ratios as those to check against.")
@click.option("--json", "as_json", is_flag=True, help="A JSON line a figure in place of the table.")
@click.option("--history", type=click.Path(path_type=Path), default=HISTORY, help="Gets a JSON line a figure.")
@click.option("--baseline", type=click.Path(path_type=Path), default=BASELINE, help="The stored ratios.")
@click.option("--shape", type=click.Choice(list(SHAPES)), default="peers", help="How much work.")
@click.option("--serve", "pipe", type=int, hidden=True)
def main(figures: str, rounds: int, peers: Path | None, peer_python: str, check: bool, store: bool, as_json: bool,
         history: Path, baseline: Path, shape: str, pipe: int | None) -> None:
    if pipe is not None:
        serve(SHAPES[shape], pipe)
        return
    for figure in figures.split(","):
        if figure not in GROUPS:
            raise click.UsageError(f"no figure {figure!r}: there are {', '.join(GROUPS)}")
    stored = json.loads(baseline.read_text(encoding="utf-8")) if baseline.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                            check=False).stdout.strip()
    history.parent.mkdir(parents=True, exist_ok=True)
    fallen = []
    if not as_json:
        print(f"{'figure':<12} {'CPU':>10} {'ratio':>8} {'memory':>9}   peers, and this project's time over theirs")
    for figure in figures.split(","):
        result = measure(figure, rounds, contestants(figure, shape, peers, peer_python))
        result["goals"] = judge(result, SHAPES[shape]) if shape == "peers" else {}
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit,
                           "machine": platform.processor() or platform.machine(), "shape": shape, **result})
        print(line if as_json else table_row(result), flush=True)
        for name, reason in result["missing"].items():
            print(f"  {name}: left out: {reason}", file=sys.stderr)
        with history.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if result["ratio"] is None or result["ratio"] > FALL * stored.get(figure, float("inf")):
            fallen.append(f"{figure} ({result['ratio']}, stored {stored.get(figure)})")
        if store and result["ratio"] is not None:
            stored[figure] = result["ratio"]
    if store:
        baseline.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    if check and fallen:
        sys.exit(f"tools/bench: slower by more than 15 %: {', '.join(fallen)}")


if __name__ == "__main__":
    main()
