"""Write a RESULTS.md from run folders: mean, spread and interval of each config over its seeds.

    python tools/results.py data/test.jsonl exp/timit/*/seed* --protocol timit39 --title TIMIT --out RESULTS.md

A run folder holds `model.asr` and the hypotheses, `test.hyp.jsonl`. Folders `NAME/seedN` are the seeds of NAME.
`--against NAME` adds a table of what each other config changes, and what that does, compared seed by seed.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from asr.corpus.records import Utterance, read_hypotheses, read_manifest
from asr.errors import AsrError
from asr.files import writing
from asr.model.file import load_header
from asr.score import Options, score_files
from asr.scoring.boundaries import TOLERANCES, Boundaries
from asr.scoring.protocol import load_protocol
from asr.scoring.report import per_line
from asr.scoring.score import Score, by_speaker, score, total
from asr.scoring.significance import compare, interval

METHODS = {"frames": "frame classifier", "ctc": "CTC", "attention": "attention"}      # of `asr align`


@dataclass(frozen=True)
class Times:
    """How exact the times of one run are, found in one way."""

    found: str                          # how
    boundaries: Boundaries


ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """One trained model, scored by each protocol."""

    name: str
    folder: str
    provenance: Mapping[str, object]
    scores: Mapping[str, Score]         # by protocol
    minutes: str                        # spent training
    speed: str                          # padded feature frames a second, the median epoch's
    config: Mapping[str, object]        # by dotted key
    known: float                        # share of the reference phones that the model has a name for
    times: Sequence[Times] = ()


def read_run(folder: Path, hypotheses: str, references: Sequence[Utterance], protocols: Sequence[str]) -> Run:
    """Score the hypotheses of a run folder."""
    found = {hypothesis.id: hypothesis.text.split() for hypothesis in read_hypotheses(folder / hypotheses)}
    spoken = {utterance.id: utterance.phones or () for utterance in references}
    speakers = {utterance.id: utterance.speaker for utterance in references if utterance.speaker is not None}
    scores = {name: score(spoken, found, load_protocol(name), speakers) for name in protocols}
    name = folder.parent.name if folder.name.startswith("seed") else folder.name
    shown = f"{name}/{folder.name}" if name != folder.name else name
    minutes, speed = training_cost(folder / "log.jsonl")
    header = load_header(folder / "model.asr")
    said = [phone for phones in spoken.values() for phone in phones]
    known = sum(phone in set(header.phones.phones) for phone in said) / max(1, len(said))
    return Run(name, shown, header.provenance, scores, minutes, speed, dict(_flat(header.config.model_dump())), known)


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def measure_times(run: Run, folder: Path, hypotheses: str, reference: Path) -> Run:
    """The run with the exactness of its times: of the known transcript by each method, and of what it recognised."""
    from asr.align import align
    from asr.model.file import load_model
    from asr.search.times import method_of
    model = load_model(folder / "model.asr")
    lines = filter(str.strip, reference.read_text(encoding="utf-8-sig").splitlines())
    rows = {json.loads(line)["id"]: line for line in lines}
    times = []
    with tempfile.TemporaryDirectory() as scratch:
        for method, name in METHODS.items():
            out, known = Path(scratch) / f"{method}.jsonl", Path(scratch) / "known.jsonl"
            settings = model.config.decode.model_copy(update={"times": method})
            try:
                method_of(model, method)
            except AsrError:        # it has none of this kind
                continue
            align(model, [str(reference)], settings, formats=["jsonl"], out=out)
            aligned = [hypothesis.id for hypothesis in read_hypotheses(out)]
            known.write_text("".join(rows[id] + "\n" for id in aligned), encoding="utf-8")
            part = f", {len(aligned):,} of {len(rows):,} utterances" if len(aligned) < len(rows) else ""
            times.append(Times(f"`asr align`, {name}{part}", _boundaries(known, out)))
    return replace(run, times=[*times, Times("`asr decode`", _boundaries(reference, folder / hypotheses))])


def _boundaries(reference: Path, hypotheses: Path) -> Boundaries:
    system, = score_files(str(reference), [str(hypotheses)], Options(boundaries=True)).systems
    assert system.boundaries is not None
    return system.boundaries


def training_cost(log: Path) -> tuple[str, str]:
    """Minutes and frames a second of a training, out of its log."""
    if not log.exists():
        return "-", "-"
    epochs = [line for line in map(json.loads, log.read_text(encoding="utf-8").splitlines())
              if line["event"] == "epoch"]
    speed = statistics.median(epoch["frames_per_second"] for epoch in epochs)
    return f"{epochs[-1]['seconds'] / 60:.1f}", f"{speed:,.0f}"


def results(title: str, runs: Sequence[Run], protocols: Sequence[str], command: str, by_speaker_too: bool,
            against: str = "") -> str:
    """The page: a table over seeds, a table of runs, those of changes and speakers if asked for, and where it was made.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    first = runs[0].scores[protocols[0]]
    lines = [f"# {title}: results", "", "Written by `tools/results.py` from run folders; not edited by hand.", "",
             f"Test set: {len(first.rows):,} utterances, "
             f"{len({row.speaker for row in first.rows} - {None}):,} speakers. PER in per cent, S + D + I over all "
             "reference phones.", "",
             "| config | protocol | seeds | mean PER | spread (sd) | lowest to highest | 95 % interval |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for name in names:
        for protocol in protocols:
            scores = [run.scores[protocol] for run in runs if run.name == name]
            lines.append(_summary(name, protocol, scores))
    lines += ["", "The interval is a bootstrap over speakers, the seeds taken together: it says how far the number "
              "moves with the test set, the spread how far with the seed.", "",
              "| run | seed | dev PER | " + " | ".join(f"`{protocol}`" for protocol in protocols)
              + " | minutes | frames/s | trained |", "| --- | --- | --- |" + " --- |" * (len(protocols) + 3)]
    for run in runs:
        p = run.provenance
        cells = [run.folder, str(p.get("seed", "")), str(p.get("dev_per", "")),
                 *(f"`{per_line(run.scores[protocol].total)}`" for protocol in protocols),
                 run.minutes, run.speed, str(p.get("date", ""))]
        lines.append(f"| {' | '.join(cells)} |")
    lines += _unknown(runs)
    if against:
        lines += _changes(runs, protocols[0], against)
    if by_speaker_too:
        lines += _speakers(runs, protocols[0])
    if any(run.times for run in runs):
        lines += _times(runs)
    lines += ["", f"Scored at commit {commit()}; trained by `{command}`; {machine()}.", ""]
    return "\n".join(lines)


def _unknown(runs: Sequence[Run]) -> list[str]:
    """What part of the test set the models cannot get right, where there is one."""
    few = [run for run in runs if run.known < 1]
    if not few:
        return []
    shares = ", ".join(f"{run.folder} {100 * run.known:.1f} %" for run in few)
    return ["", f"Phones of the test set that the model has a name for: {shares}. The others it never saw in training "
            "and cannot get right, unless the protocol folds them into one that it knows."]


def _changes(runs: Sequence[Run], protocol: str, against: str) -> list[str]:
    """A table of what other configs change of one, and of the difference that it makes."""
    base = {run.provenance.get("seed"): run for run in runs if run.name == against}
    if not base:
        raise AsrError(f"--against {against}: there is no such config: there are "
                       f"{', '.join(dict.fromkeys(run.name for run in runs))}")
    lines = ["", f"Single changes against `{against}`, {protocol}: the difference in PER over the seeds that both have "
             "(below zero: the change is better), its 95 % interval and p by the paired bootstrap. The spread between "
             "seeds is not in them: it is in the table above.", "",
             "| config | what it changes | seeds | difference | by seed | 95 % interval | p |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for name in dict.fromkeys(run.name for run in runs if run.name != against):
        own = {run.provenance.get("seed"): run for run in runs if run.name == name}
        seeds = [seed for seed in own if seed in base]
        change = _change(next(iter(base.values())), next(iter(own.values())))
        if not seeds:
            lines.append(f"| {name} | {change} | none in common | - | - | - | - |")
            continue
        pairs = [(own[seed].scores[protocol], base[seed].scores[protocol]) for seed in seeds]
        by_seed = " ".join(f"{one.total.per - other.total.per:+.2f}" for one, other in pairs)
        found = compare(_pooled([one for one, _ in pairs]), _pooled([other for _, other in pairs]))
        lines.append(f"| {name} | {change} | {len(seeds)} | **{found.difference:+.2f}** | {by_seed} | "
                     f"{found.interval.low:+.2f} to {found.interval.high:+.2f} | {found.p:.3f} |")
    return lines


def _change(base: Run, other: Run) -> str:
    """The keys in which two configs differ, and the weights that they began with."""
    changed = [f"`{key}={value}` (was {base.config[key]})" for key, value in other.config.items()
               if value != base.config[key] and key != "train.seed"]
    for key, said, none in (("init", "begins with", "random weights"), ("train", "learns from", "unknown")):
        after, before = other.provenance.get(key), base.provenance.get(key)
        if after != before:
            changed.append(f"{said} {_place(after) or none} (was {_place(before) or none})")
    return ", ".join(changed) or "nothing"


def _place(path: str | None) -> str:
    """A path without what it says of the machine: of an absolute one the last two parts."""
    return "/".join(Path(path).parts[-2:]) if path and Path(path).is_absolute() else path or ""


def _pooled(scores: Sequence[Score]) -> Score:
    """The scores of several seeds as one."""
    rows = tuple(replace(row, id=f"{row.id} {seed}") for seed, one in enumerate(scores) for row in one.rows)
    return Score(rows, total(rows), scores[0].protocol)


def _speakers(runs: Sequence[Run], protocol: str) -> list[str]:
    """A table of speakers, a column for each run."""
    groups = [by_speaker(run.scores[protocol]) for run in runs]
    lines = ["", "| speaker | " + " | ".join(run.folder for run in runs) + " |", "| --- |" + " --- |" * len(runs)]
    for speaker in groups[0]:
        cells = [f"{total(group[speaker]).per:.2f}" if speaker in group else "-" for group in groups]
        lines.append(f"| {speaker} | {' | '.join(cells)} |")
    means = [statistics.fmean(total(rows).per for rows in group.values()) for group in groups]
    return [*lines, f"| mean of the speakers | {' | '.join(f'{mean:.2f}' for mean in means)} |"]


def _times(runs: Sequence[Run]) -> list[str]:
    """A table of how exact the times are."""
    lines = ["", "Starts of phones against the times in the manifest, where the phone is right (`asr score "
             "--boundaries`); per cent within so many ms, errors in ms. `asr align` is told the transcript; the first "
             "of its methods that a model has is its default, and that of `asr decode`.", "",
             "| run | times by | measured | " + " | ".join(f"{t} ms" for t in TOLERANCES) + " | mean | median | bias |",
             "| --- | --- |" + " --- |" * (len(TOLERANCES) + 4)]
    for run in runs:
        for way in run.times:
            b = way.boundaries
            cells = [run.folder, way.found, f"{len(b.errors):,} of {b.starts:,}",
                     *(f"**{b.within(t):.1f}**" if t == 20 else f"{b.within(t):.1f}" for t in TOLERANCES),
                     f"{1000 * b.mean:.1f}", f"{1000 * b.median:.1f}", f"{1000 * b.bias:+.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _summary(name: str, protocol: str, scores: Sequence[Score]) -> str:
    pers = [one.total.per for one in scores]
    bounds = interval(_pooled(scores))
    sd = f"{statistics.stdev(pers):.2f}" if len(pers) > 1 else "-"
    span = f"{min(pers):.2f} to {max(pers):.2f}" if len(pers) > 1 else "-"
    trust = f"{bounds.low:.2f} to {bounds.high:.2f}" if bounds else "-"
    return f"| {name} | {protocol} | {len(pers)} | **{statistics.fmean(pers):.2f}** | {sd} | {span} | {trust} |"


def commit() -> str:
    """The commit of the code, and whether it was changed since."""
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False,
                              cwd=Path(__file__).parent).stdout.strip()
    name = git("rev-parse", "--short", "HEAD") or "not known"
    return f"{name} with changes" if git("status", "--porcelain", "--untracked-files=no") else name


def machine() -> str:
    """What computed it."""
    import torch
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"{os.cpu_count()} cores, {platform.machine()}, no GPU"


def measured(curves: Sequence[tuple[str, Path]], tables: Sequence[tuple[str, Path]]) -> str:
    """What other commands measured and wrote, each below its heading.

    Raises:
        AsrError: a file is not there.
    """
    lines = []
    try:
        for heading, folder in curves:
            text = (folder / "curve.txt").read_text(encoding="utf-8").strip().replace(f"{ROOT}/", "")
            lines += ["", f"## {heading}", "", "```", text, "```"]
        for heading, path in tables:
            lines += ["", f"## {heading}", "", path.read_text(encoding="utf-8").strip()]
    except OSError as error:
        raise AsrError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return "\n".join([*lines, ""]) if lines else ""


@click.command()
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--protocol", "protocols", multiple=True, default=["plain"], help="May be given more than once.")
@click.option("--hyp", default="test.hyp.jsonl", show_default=True, help="The hypotheses' file in each run folder.")
@click.option("--title", default="Results", show_default=True)
@click.option("--command", default="", help="The command that made the runs.")
@click.option("--against", default="", metavar="NAME", help="A table of what the other configs change of this one.")
@click.option("--by-speaker", is_flag=True, help="A table of speakers as well.")
@click.option("--curve", "curves", nargs=2, multiple=True, type=(str, click.Path(path_type=Path)),
              metavar="HEADING FOLDER", help="What `asr curve --out FOLDER` measured, below a heading.")
@click.option("--table", "tables", nargs=2, multiple=True, type=(str, click.Path(path_type=Path)),
              metavar="HEADING FILE", help="A table that another script wrote, below a heading.")
@click.option("--times", is_flag=True, help="How exact the times of phones are; REFERENCE has 'phone_times'.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(reference: Path, runs: tuple[Path, ...], protocols: tuple[str, ...], hyp: str, title: str, command: str,
         against: str, by_speaker: bool, times: bool, curves: tuple[tuple[str, Path], ...],
         tables: tuple[tuple[str, Path], ...], out: Path) -> None:
    """Write a RESULTS.md from run folders."""
    try:
        references = read_manifest(reference)
        found = [read_run(run, hyp, references, protocols) for run in runs]
        if times:
            found = [measure_times(one, run, hyp, reference) for one, run in zip(found, runs, strict=True)]
        page = results(title, found, protocols, command, by_speaker, against) + measured(curves, tables)
        with writing(out) as file:
            file.write(page)
    except AsrError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
