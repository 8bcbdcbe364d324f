"""`asr report`: training runs and hypotheses in, one page to look at and listen to out."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.corpus.records import Hypothesis, Utterance, hypothesis_row, read_hypotheses, read_manifest
from asr.errors import AsrError, UsageError
from asr.files import writing
from asr.formats.reading import read_transcripts
from asr.reporting.cards import Card, Heard, make_card
from asr.reporting.gazer import Gazer
from asr.reporting.page import Contents, Run, render
from asr.reporting.plotting import need_matplotlib
from asr.reporting.sound import origin
from asr.score import Options, score_files
from asr.scoring.result import Result
from asr.training.journal import read_log

if TYPE_CHECKING:
    from asr.model.file import Model

DECODED = "dev.hyp.jsonl"       # in a run's folder: its dev set, decoded by its model for the report


@dataclass(frozen=True, slots=True)
class Asked:
    """What `asr report` can be asked for."""

    reference: Path | None = None       # None: the dev set of the run
    model: Path | None = None           # whose attention is shown; None: the run's
    protocol: str = "plain"
    worst: int = 10                     # utterances to look at
    best: int = 3
    title: str = ""
    device: str = "auto"


def report(inputs: Sequence[str], out: Path, asked: Asked) -> list[str]:
    """Write the report; gives what could not be shown, a line each.

    Args:
        inputs: folders of training runs, and hypotheses in any form that `asr score` reads
        out: the page
        asked: the rest

    Raises:
        AsrError: an input cannot be read, references are not known, or matplotlib or Jinja2 is not installed
    """
    need_matplotlib("asr report")
    folders = [Path(name) for name in inputs if (Path(name) / "log.jsonl").is_file()]
    hypotheses = [name for name in inputs if Path(name) not in folders]
    if "-" in hypotheses:
        raise UsageError("-: a report reads its hypotheses twice, and standard input can be read once: give a file")
    problems: list[str] = []
    model = _model(folders, asked, problems)
    reference = asked.reference or _dev_set(folders, problems)
    if not hypotheses and model is not None and reference is not None:
        hypotheses = [str(_decoded(folders[0], model, reference, asked.device))]
    if hypotheses and reference is None:
        raise UsageError(f"{hypotheses[0]}: what was said is not known: add --ref MANIFEST")
    result, heard, cards = None, [], []
    if hypotheses:
        result = score_files(str(reference), hypotheses, Options(protocol=asked.protocol), len(hypotheses) > 1)
        heard = [Heard(system, {t.id: t for t in read_transcripts(name)}, _records(name))
                 for system, name in zip(result.systems, hypotheses, strict=True)]
        cards = _cards(str(reference), result, heard, Gazer(model), asked)
    contents = Contents(asked.title or " · ".join(short_names(inputs)),
                        [_run(folder) for folder in folders], result, cards, _seconds(heard), _made())
    page = render(contents)
    with writing(out) as file:
        file.write(page)
    if cards and model is None and not problems:
        print("asr: the page shows no attention: --model MODEL adds it", file=sys.stderr)
    return problems


def short_names(paths: Sequence[str]) -> list[str]:
    """The last parts of each path, as few as tell them apart."""
    parts = [Path(path).parts for path in paths]
    for count in range(1, max(map(len, parts), default=0) + 1):
        short = [str(Path(*some[-count:])) for some in parts]
        if len(set(short)) == len(set(parts)):
            return short
    return list(paths)


def _run(folder: Path) -> Run:
    """What a run left behind."""
    from asr.model.file import load_header
    config = folder / "config.yaml"
    about: dict[str, Any] = {}
    with contextlib.suppress(AsrError):         # told by `_model` already
        about = dict(load_header(folder / "model.asr").provenance)
    return Run(str(folder), [line for line in read_log(folder / "log.jsonl") if isinstance(line, dict)],
               config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "", about)


def _model(folders: Sequence[Path], asked: Asked, problems: list[str]) -> Model | None:
    """The model whose attention is shown: the one asked for, which must be sound, or the first run's, if it is."""
    path = asked.model or next((folder / "model.asr" for folder in folders), None)
    if path is None:
        return None
    from asr.model.file import load_model
    try:
        return load_model(path)
    except AsrError as error:
        if asked.model is not None:
            raise
        problems.append(f"no attention and no hypotheses from the run: {error}")
        return None


def _dev_set(folders: Sequence[Path], problems: list[str]) -> Path | None:
    """The manifest of the dev set that the first run was measured by, as its model remembers it."""
    if not folders:
        return None
    from asr.frontend.store import open_source
    from asr.model.file import load_header
    try:
        dev = Path(str(load_header(folders[0] / "model.asr").provenance.get("dev", "")))
        source = open_source(dev, None)
    except AsrError as error:
        problems.append(f"the run's dev set is not at hand: {error}")
        return None
    fingerprint = getattr(source, "fingerprint", None)
    return dev / f"manifest-{fingerprint}.jsonl" if fingerprint else dev


def _decoded(folder: Path, model: Model, reference: Path, device: str) -> Path:
    """The run's dev set, decoded by its model; kept in the run's folder until there is a newer model."""
    from asr.frontend.store import open_source
    from asr.training.distributed import pick_device
    from asr.transcriber import Tally, Transcriber
    path = folder / DECODED
    if path.is_file() and path.stat().st_mtime > (folder / "model.asr").stat().st_mtime:
        return path
    print(f"{reference}: decoding it with {folder / 'model.asr'}", file=sys.stderr)
    transcriber, tally = Transcriber(model, model.config.decode, pick_device(device)), Tally()
    with writing(path) as file:
        for hypothesis in transcriber.run(open_source(reference, transcriber.features), tally):
            file.write(json.dumps(hypothesis_row(hypothesis), ensure_ascii=False) + "\n")
    if tally.failures:
        id, reason = tally.failures[0]
        path.unlink()
        raise AsrError(f"{reference}: {len(tally.failures)} utterance(s) cannot be decoded, {id!r} for instance: "
                       f"{reason}")
    return path


def _records(name: str) -> dict[str, Hypothesis]:
    """Hypotheses in JSON lines; of other formats, and of lines that are no hypotheses, nothing."""
    path = Path(name) / "hypotheses.jsonl" if Path(name).is_dir() else Path(name)
    with contextlib.suppress(AsrError):
        return {record.id: record for record in read_hypotheses(path)}
    return {}


def _utterances(reference: str, heard: Sequence[Heard]) -> dict[str, Utterance]:
    """Where the sound of each utterance is: as the manifest says, else as the hypotheses remember."""
    found: dict[str, Utterance] = {}
    for side in reversed(heard):
        for id, record in side.records.items():
            utterance = origin(record)
            if utterance is not None:
                found[id] = utterance
    with contextlib.suppress(AsrError):         # references that are no manifest
        found |= {utterance.id: utterance for utterance in read_manifest(Path(reference))}
    return found


def _cards(reference: str, result: Result, heard: Sequence[Heard], gazer: Gazer, asked: Asked) -> list[Card]:
    references = {transcript.id: transcript for transcript in read_transcripts(reference)}
    utterances = _utterances(reference, heard)
    return [make_card(id, references[id], heard, utterances.get(id), gazer)
            for id in chosen(result, asked.worst, asked.best)]


def chosen(result: Result, worst: int, best: int) -> list[str]:
    """Ids of the utterances to look at: where any system's PER is highest, then where all are lowest, long ones first.

    Of equal PER, the one with more errors is worse, and the longer is better.
    """
    rows = zip(*(system.score.rows for system in result.systems), strict=True)
    ranked = sorted(rows, key=lambda row: (-max(r.counts.per for r in row), -max(r.counts.errors for r in row),
                                           row[0].counts.phones))
    ids = [row[0].id for row in ranked]
    return ids[:worst] + ids[worst:][::-1][:best]


def _seconds(heard: Sequence[Heard]) -> float:
    """Speech in the first system's hypotheses, where they tell; in s."""
    durations = (record.extra.get("duration") for side in heard[:1] for record in side.records.values())
    return sum(d for d in durations if isinstance(d, int | float))


def _made() -> str:
    return f"asr {importlib.metadata.version('asr')}, {datetime.date.today().isoformat()}"
