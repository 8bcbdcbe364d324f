"""How this project grows: start from cold, several processes, hours of data, phones, vocabulary.

    python tools/bench_scale.py start --model MODEL | train | prep | hours | shapes
                                decode --model MODEL --manifest MANIFEST | overlap --model MODEL --manifest MANIFEST

Wall time, medians over rounds, one thread a process. Prints a table; `--json` a line a row.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
from bench_work import ROOT, SHAPES, Shape, noise_files, trainer

ASR = [sys.executable, "-m", "asr"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
# Else torch's modules are compiled again at every start: 2 s that are not this project's, nor most machines'.
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)
Row = dict[str, Any]


def start(model: Path, rounds: int) -> list[Row]:
    """Commands from a cold process: `--help`, and the decoding of one file of 3 s, model load included."""
    folder = noise_files(1, "wav")
    commands = {"asr --help": ["--help"], "asr decode, one file of 3 s": ["decode", str(model), str(folder / "0.wav")]}
    rows = []
    for name, words in commands.items():
        walls, cpus = zip(*(timed([*ASR, *words]) for _ in range(rounds)), strict=True)
        rows.append({"work": name, "wall": round(statistics.median(walls), 2),
                     "cpu": round(statistics.median(cpus), 2)})
    return rows


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds by the clock and of CPU that a command takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def launch(processes: int, words: Sequence[str]) -> list[str]:
    """A command in so many processes."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*run, "--no-python", *words] if processes > 1 else list(words)


def train(shape: Shape, updates: int, rounds: int) -> list[Row]:
    """Frames a second of one process and of two, with as many utterances each, and with half as many."""
    setups = {"1 process": (1, shape.utterances), "2 processes, the same batch each": (2, shape.utterances),
              "2 processes, half the batch each": (2, shape.utterances // 2)}
    found: dict[str, list[Row]] = {name: [] for name in setups}
    for _ in range(rounds):
        for name, (processes, utterances) in setups.items():
            command = [sys.executable, str(Path(__file__).resolve()), "rank", "--updates", str(updates),
                       "--utterances", str(utterances), "--shape",
                       next(key for key, value in SHAPES.items() if value == shape)]
            done = subprocess.run(launch(processes, command), env=ENVIRONMENT, capture_output=True, text=True,
                                  check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for name, each in found.items():
        row = {key: round(statistics.median(one[key] for one in each), 4) for key in each[0]}
        rows.append({"work": name, **row, "gain": 0.0})
    for row in rows:
        row["gain"] = round(row["frames a second"] / rows[0]["frames a second"], 3)
    return rows


def rank(shape: Shape, updates: int) -> Row | None:
    """One process of `train`: its speed, and how much of a step went into the sum of gradients."""
    import torch

    from asr.training.distributed import Processes, processes
    with processes(torch.device("cpu")) as group:
        update, batch = trainer(shape, group)
        update(batch, 0.0)
        waited, plain = 0.0, Processes.sum_gradients

        def sum_gradients(self: Processes, network: Any) -> None:
            nonlocal waited
            began = time.monotonic()
            plain(self, network)
            waited += time.monotonic() - began
        with patch.object(Processes, "sum_gradients", sum_gradients):
            group.gather(None)
            began = time.monotonic()
            for _ in range(updates):
                update(batch, 0.0)
            seconds = (time.monotonic() - began) / updates
        own = update.__self__.network               # type: ignore[attr-defined]
        return {"frames a second": group.world * shape.utterances * shape.frames / seconds, "step": seconds,
                "sum": waited / updates, "MB a step": 4 * own.parameters_count() / 1e6} if group.main else None


def prep(rounds: int) -> list[Row]:
    """`prepare` with one worker and with two, over 1,000 files; the store's start and end are included."""
    from asr.config import load_config
    from asr.prep import prepare
    folder, config = noise_files(1000, "wav"), load_config(ROOT / "conf" / "bench.yaml")
    number = iter(range(10 ** 6))

    def work(jobs: int) -> Callable[[], object]:
        return lambda: prepare(folder / "all.jsonl", folder / f"store{next(number)}", config, jobs=jobs)
    return in_turns({f"prep -j {jobs}, 1,000 files of 3 s": work(jobs) for jobs in (1, 2)}, rounds, 3000.0)


def decode(model: Path, manifest: Path, rounds: int) -> list[Row]:
    """`asr decode` of a manifest by one process and by two, their start included."""
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    out = Path(tempfile.mkdtemp(prefix="bench-")) / "out.jsonl"

    def work(processes: int) -> Callable[[], object]:
        command = launch(processes, [*ASR, "decode", str(model), str(manifest), "--out", str(out), "--device", "cpu"])
        return lambda: timed(command)
    return in_turns({f"asr decode, {n} process{'es' * (n > 1)}": work(n) for n in (1, 2)}, rounds,
                    sum(float(line["duration"]) for line in lines))


def overlap(model: Path, manifest: Path, rounds: int) -> list[Row]:
    """Decoding of a manifest in this process, without `decode.overlap` and with it; what is found must be the same."""
    import torch

    from asr.corpus.records import hypothesis_row, read_manifest
    from asr.frontend.store import OnTheFly
    from asr.model.file import load_model
    from asr.transcriber import Tally, Transcriber
    torch.set_num_threads(1)
    utterances, rows = read_manifest(manifest), list[Row]()

    def work(found: list[list[Row]], *keys: str) -> Callable[[], object]:
        loaded = load_model(model).told(keys)
        transcriber = Transcriber(loaded, loaded.config.decode, torch.device("cpu"))
        return lambda: found.append([hypothesis_row(hypothesis) for hypothesis in transcriber.run(
            OnTheFly(utterances, transcriber.features), Tally())])
    for beam in (1, 10):
        for precision in ("float32", "bf16"):
            found: list[list[Row]] = []
            keys = (f"decode.beam={beam}", f"decode.precision={precision}")
            works = {f"beam {beam}, {precision}, overlap {word}": work(found, *keys, f"decode.overlap={word}")
                     for word in ("never", "always")}
            for warm in works.values():
                warm()
            rows += in_turns(works, rounds, sum(u.duration or 0.0 for u in utterances))
            assert all(hypotheses == found[0] for hypotheses in found), "what is found is not the same"
    return rows


def in_turns(works: dict[str, Callable[[], object]], rounds: int, speech: float) -> list[Row]:
    """Median wall seconds of each, times real time, and the gain over the first."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = time.monotonic()
            work()
            times[name].append(time.monotonic() - began)
    walls = {name: statistics.median(each) for name, each in times.items()}
    first = next(iter(walls.values()))
    return [{"work": name, "wall": round(wall, 3), "x real time": round(speech / wall), "gain": round(first / wall, 3)}
            for name, wall in walls.items()]


def hours(sizes: Sequence[int]) -> list[Row]:
    """A store of so many hours (the same shards named again and again): opening, an epoch's plan, 20 batches, memory.

    Each size in a process of its own, so that one's memory is not another's.
    """
    rows = []
    for size in sizes:
        done = subprocess.run([sys.executable, str(Path(__file__).resolve()), "hour", str(size)], env=ENVIRONMENT,
                              capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def hour(size: int) -> Row:
    """One row of `hours`."""
    import torch

    from asr.config import load_config
    from asr.corpus.phones import PhoneSet
    from asr.frontend.batches import Loader
    from asr.frontend.fbank import Normaliser
    from asr.frontend.store import Store
    from asr.prep import prepare
    folder, config = noise_files(64, "wav"), load_config(ROOT / "conf" / "bench.yaml")
    prepare(folder / "all.jsonl", folder / "store", config, jobs=1)
    repeat_store(folder / "store", round(size * 3600 / 3 / 64))
    torch.set_num_threads(1)
    base, began = memory(), time.process_time()
    store = Store(folder / "store")
    opened = time.process_time()
    loader = Loader(store, PhoneSet(["a"]), Normaliser.of(store.moments()), config)
    loader.batches(1)
    planned = time.process_time()
    for number, _ in enumerate(loader.epoch(1)):
        if number == 20:
            break
    batch = (time.process_time() - planned) / 20
    row = {"work": f"{size} h", "utterances": len(store.utterances), "open": round(opened - began, 3),
           "plan of an epoch": round(planned - opened, 3), "ms a batch": round(1e3 * batch, 2),
           "MB": round(memory() - base)}
    shutil.rmtree(folder)
    return row


def repeat_store(path: Path, times: int) -> None:
    """Make a store name its shards so many times, each time with new ids."""
    index = json.loads((path / "index.json").read_text(encoding="utf-8"))
    manifest = path / f"manifest-{index['fingerprint']}.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    lines = (json.dumps(row | {"id": f"{row['id']}-{n}"}) + "\n" for n in range(times) for row in rows)
    manifest.write_text("".join(lines), encoding="utf-8")
    (path / "index.json").write_text(json.dumps(index | {"shards": index["shards"] * times}), encoding="utf-8")


def memory() -> float:
    """MB that this process holds."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def shapes(shape: Shape, rounds: int) -> list[Row]:
    """CPU seconds of a training step against phones in an utterance, its length along with them, and vocabulary."""
    from asr.training.distributed import Processes
    few = replace(shape, utterances=max(1, shape.utterances // 2))
    longer = [replace(few, phones=n * few.phones, frames=n * few.frames) for n in (1, 2, 4, 8)]
    variants = {f"{one.phones} phones, {one.frames} frames": one for one in longer}
    variants |= {f"{ids} ids": replace(few, ids=ids) for ids in (42, 420, 4200)}
    import torch
    alone, rows = Processes(0, 1, torch.device("cpu")), []
    for name, variant in variants.items():
        update, batch = trainer(variant, alone)
        update(batch, 0.0)
        times = []
        for _ in range(rounds):
            began = time.process_time()
            update(batch, 0.0)
            times.append(time.process_time() - began)
        step = statistics.median(times)
        rows.append({"work": name, "step": round(step, 3),
                     "µs a frame": round(1e6 * step / variant.utterances / variant.frames, 1)})
    return rows


def show(rows: Sequence[Row], as_json: bool) -> None:
    """A table, or a line of JSON a row."""
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    names = list(rows[0])
    print(f"{'':<34}" + "".join(f"{name:>18}" for name in names[1:]))
    for row in rows:
        print(f"{row['work']:<34}" + "".join(f"{row[name]:>18}" for name in names[1:]))


@click.command(help=__doc__)
@click.argument("what", type=click.Choice(["start", "train", "prep", "decode", "overlap", "hours", "shapes", "rank",
                                        "hour"]))
@click.argument("sizes", nargs=-1, type=int)
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="For start, decode and overlap.")
@click.option("--manifest", type=click.Path(path_type=Path, exists=True), help="For decode and overlap.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--updates", default=5, show_default=True)
@click.option("--utterances", type=int, help="In a process's batch.")
@click.option("--shape", type=click.Choice(list(SHAPES)), default="peers")
@click.option("--json", "as_json", is_flag=True)
def main(what: str, sizes: tuple[int, ...], model: Path | None, manifest: Path | None, rounds: int, updates: int,
         utterances: int | None, shape: str, as_json: bool) -> None:
    size = replace(SHAPES[shape], utterances=utterances or SHAPES[shape].utterances)
    listed = what in ("decode", "overlap")
    if (model is None and (listed or what == "start")) or (manifest is None and listed):
        raise click.UsageError(f"{what} needs --model" + " and --manifest" * listed)
    if what == "rank":
        own = rank(size, updates)
        if own:
            print(json.dumps(own))
    elif what == "hour":
        print(json.dumps(hour(sizes[0])))
    else:
        works: dict[str, Callable[[], list[Row]]] = {
            "start": lambda: start(model, rounds), "train": lambda: train(size, updates, rounds),
            "prep": lambda: prep(rounds), "decode": lambda: decode(model, manifest, rounds),
            "overlap": lambda: overlap(model, manifest, rounds),
            "hours": lambda: hours(sizes or (1, 10, 100)), "shapes": lambda: shapes(size, rounds)}
        show(works[what](), as_json)


if __name__ == "__main__":
    main()
