"""`asr doctor`: is the machine fit, and are the data?

Manifests are taken for the splits of one corpus, the first one for the training set. Every row is read and listened
to. An *error* spoils training or the score and takes its row out of what `--fix` writes; a *warning* wants a look.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from asr.config import Config
from asr.corpus.records import Utterance, each_row, write_manifest
from asr.corpus.table import aligned
from asr.errors import AsrError
from asr.files import writing
from asr.machine import Finding, examine_machine

if TYPE_CHECKING:
    from asr.frontend.soundness import Sound

SLOWEST, FASTEST = 1.0, 25.0    # phones a second; conversation has 10 to 15
SLACK = 0.1                     # seconds by which a manifest's duration may miss the recording's
SHOWN = 3                       # examples of a finding in the table
SA_SENTENCE = re.compile(r"(^|[^a-z0-9])sa[12]$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a manifest: the utterance, or what is wrong with its line; and its audio, or what is wrong with it."""

    split: str
    line: int
    utterance: Utterance | None
    complaint: str = ""
    sound: Sound | None = None

    @property
    def name(self) -> str:
        """The utterance's id, else the line."""
        return self.utterance.id if self.utterance else f"line {self.line}"


@dataclass
class Diagnosis:
    """All that was found."""

    findings: list[Finding] = field(default_factory=list)
    reasons: dict[tuple[str, int], str] = field(default_factory=dict)    # (split, line) -> why it is left out

    @property
    def good(self) -> bool:
        """Whether there is no error."""
        return all(finding.level != "error" for finding in self.findings)

    def table(self) -> str:
        """One line for each finding, and a sum."""
        rows = [("state", "check", "where", "rows", "detail")]
        rows += [(f.level, f.check, f.where, f"{f.count:,}" if f.count else "", f.detail) for f in self.findings]
        count = Counter(finding.level for finding in self.findings)
        return (aligned(rows, words=(0, 1, 2, 4))
                + f"\n{_plural(count['error'], 'error')}, {_plural(count['warning'], 'warning')}")


def examine(manifests: Sequence[Path], *, model: Path | None = None, config: Config | None = None,
            fix: Path | None = None) -> Diagnosis:
    """Look at the machine, and at the data of manifests if there are any.

    Args:
        manifests: the splits of one corpus, the training set first.
        model: a model file whose phones and pyramid the data must fit.
        config: whose pyramid and features the data must fit; None: the model's, else the defaults.
        fix: a folder for the manifests without the rows that have errors, and for `left-out.tsv`, their reasons.

    Raises:
        AsrError: two manifests have the same name, the model cannot be read, or `fix` cannot be written.
    """
    names = [path.name for path in manifests]
    if len(set(names)) < len(names):
        raise AsrError(f"{max(names, key=names.count)}: two manifests have this name: give them different ones")
    diagnosis = Diagnosis(examine_machine())
    if manifests:
        known: tuple[str, ...] | None = None
        if model is not None:
            from asr.model.file import load_header
            header = load_header(model)
            config, known = config or header.config, header.phones.phones
        rows = [row for path in manifests for row in _read(path, diagnosis)]
        rows = _listen(rows)
        examine_rows(rows, names, config or Config(), known, diagnosis)
        if fix is not None:
            _fix(rows, names, diagnosis, fix)
    return diagnosis


def examine_rows(rows: Sequence[Row], splits: Sequence[str], config: Config, known: tuple[str, ...] | None,
                 diagnosis: Diagnosis) -> None:
    """Every check of the data, split by split, then between splits; findings and reasons go into the diagnosis."""
    fits = _Frames(config)
    for split in splits:
        own = [row for row in rows if row.split == split]
        _report(diagnosis, split, [(row, *finding) for row in own for finding in _row_findings(row, fits, known)])
        _report(diagnosis, split, _durations(own))
        _report(diagnosis, split, _doubles(own))
        heard = [row.sound for row in own if row.sound]
        if heard:
            rates, channels = Counter(s.rate for s in heard), Counter(s.channels for s in heard)
            level: Literal["ok", "note"] = "ok" if len(rates) == len(channels) == 1 else "note"
            diagnosis.findings.append(Finding(level, "audio", split, len(heard), (
                f"{sum(s.seconds for s in heard) / 3600:.3f} h; {_counts(rates, 'Hz')}; "
                f"{_counts(channels, 'channel' if set(channels) == {1} else 'channels')}")))
    for later, first in _pairs(splits):
        _report(diagnosis, first, _leaks([row for row in rows if row.split == first],
                                         [row for row in rows if row.split == later], later))
    _unseen_phones(rows, splits, diagnosis)


class _Frames:
    """How many encoder frames an utterance has after the fastest speed and the pyramid."""

    def __init__(self, config: Config) -> None:
        from asr.frontend.fbank import Fbank
        self.config, self.fbank = config, Fbank(config.features)

    def __call__(self, seconds: float) -> int:
        features = self.config.features
        frames = self.fbank.frames_of(int(seconds * features.rate / max(features.speeds)))
        for join in self.config.encoder.pyramid:
            frames = ceil(frames / join)
        return frames


Found = tuple[Row, Literal["error", "warning"], str, str]       # row, level, check, detail


def _row_findings(row: Row, fits: _Frames, known: tuple[str, ...] | None
                  ) -> Iterator[tuple[Literal["error", "warning"], str, str]]:
    utterance, sound = row.utterance, row.sound
    if utterance is None:
        yield "error", "bad row", row.complaint
        return
    if SA_SENTENCE.search(utterance.id) or SA_SENTENCE.search(utterance.audio.stem):
        yield "error", "SA sentence", ""        # every speaker of TIMIT reads it
    if utterance.phones is None:
        yield "warning", "no transcript", ""
    elif not utterance.phones:
        yield "warning", "empty transcript", ""
    strange = sorted(set(utterance.phones or ()) - set(known)) if known is not None else []
    if strange:
        yield "error", "phone unknown to the model", " ".join(strange)
    if sound is None:
        yield "error", "bad audio", row.complaint
        return
    for check, detail in sound.complaints():
        yield "error" if check == "silent audio" else "warning", check, detail
    if utterance.phones:
        rate = len(utterance.phones) / max(sound.seconds, 1e-3)
        if not SLOWEST <= rate <= FASTEST:
            yield "warning", "phones a second", f"{rate:.1f}"
        frames = fits(sound.seconds)
        needed = len(utterance.phones) + sum(a == b for a, b in pairwise(utterance.phones))     # CTC parts twins
        if frames < needed:
            yield "error", "transcript too long", (f"{_plural(len(utterance.phones), 'phone')} for "
                                                  f"{_plural(frames, 'encoder frame')}")


def _durations(rows: Sequence[Row]) -> Iterator[Found]:
    """Durations that end before the recording does, where no other row takes the rest."""
    uses = Counter(row.utterance.audio for row in rows if row.utterance)
    for row in rows:
        if row.utterance and row.sound and row.utterance.duration is not None and uses[row.utterance.audio] == 1 \
                and not row.utterance.offset and row.sound.recording - row.utterance.duration > SLACK:
            yield row, "warning", "duration", (f"{row.utterance.duration:g} s of a recording of "
                                               f"{row.sound.recording:g} s")


def _doubles(rows: Sequence[Row]) -> Iterator[Found]:
    """Ids and recordings that occur twice in one manifest."""
    first: dict[str, Row] = {}
    for row in rows:
        if row.utterance and first.setdefault(row.utterance.id, row) is not row:
            yield row, "error", "id used twice", f"in line {first[row.utterance.id].line} already"
    groups = defaultdict(list)
    for row in rows:
        if row.sound and row.sound.peak:
            groups[row.sound.digest].append(row)
    for group in groups.values():
        agree = len({row.utterance.phones for row in group if row.utterance}) == 1
        for row in group[1:] if agree else group if len(group) > 1 else []:
            other = group[0] if row is not group[0] else group[1]
            yield row, "warning" if agree else "error", "same audio twice" if agree \
                else "same audio, other phones", f"as {other.name}"


def _leaks(rows: Sequence[Row], later: Sequence[Row], name: str) -> Iterator[Found]:
    """Ids, speakers and recordings of an earlier split that a later one has as well: the earlier rows are to go."""
    ids = {row.utterance.id for row in later if row.utterance}
    speakers = {row.utterance.speaker for row in later if row.utterance} - {None}
    digests = {row.sound.digest: row for row in later if row.sound and row.sound.peak}
    for row in rows:
        if row.utterance and row.utterance.id in ids:
            yield row, "error", f"id in {name} too", ""
        if row.utterance and row.utterance.speaker in speakers:
            yield row, "error", f"speaker in {name} too", str(row.utterance.speaker)
        if row.sound and row.sound.digest in digests:
            yield row, "error", f"audio in {name} too", f"as {digests[row.sound.digest].name}"


def _unseen_phones(rows: Sequence[Row], splits: Sequence[str], diagnosis: Diagnosis) -> None:
    """Phones of the other splits that the training set does not have."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in splits}
    for row in rows:
        counts[row.split].update(row.utterance.phones or () if row.utterance else ())
    train = counts[splits[0]]
    for split in splits[1:]:
        unseen = sorted(set(counts[split]) - set(train))
        if unseen and train:
            share = sum(counts[split][phone] for phone in unseen) / counts[split].total()
            diagnosis.findings.append(Finding("warning", "unseen phones", split, 0, (
                f"{len(unseen)} of {len(counts[split])} kinds, {100 * share:.1f} % of all, are not in {splits[0]}: "
                f"{' '.join(unseen[:10])}{' …' if len(unseen) > 10 else ''}")))


def _report(diagnosis: Diagnosis, split: str, found: Iterable[Found]) -> None:
    """One finding for each check, with a few examples; rows with errors get their reason."""
    checks: dict[tuple[Literal["error", "warning"], str], list[tuple[Row, str]]] = defaultdict(list)
    for row, level, check, detail in found:
        checks[level, check].append((row, detail))
        if level == "error":
            reason = f"{check}: {detail}" if detail else check
            key = (split, row.line)
            diagnosis.reasons[key] = f"{diagnosis.reasons[key]}; {reason}" if key in diagnosis.reasons else reason
    for (level, check), cases in checks.items():
        shown = "; ".join(f"{row.name}: {detail}" if detail else row.name for row, detail in cases[:SHOWN])
        diagnosis.findings.append(Finding(level, check, split, len(cases), shown + (" …" if cases[SHOWN:] else "")))


def _read(path: Path, diagnosis: Diagnosis) -> list[Row]:
    try:
        rows = [Row(path.name, line, None, str(item).removeprefix(f"{path}:")) if isinstance(item, AsrError)
                else Row(path.name, line, item) for line, item in each_row(path)]
    except AsrError as error:
        diagnosis.findings.append(Finding("error", "manifest", path.name, 0, str(error)))
        return []
    if not rows:
        diagnosis.findings.append(Finding("error", "manifest", path.name, 0, "holds no utterance"))
    return rows


def _listen(rows: Sequence[Row]) -> list[Row]:
    """The rows with what their audio tells; decoding runs in threads, since it happens outside Python."""
    from asr.frontend.soundness import listen

    def one(row: Row) -> Row:
        if row.utterance is None:
            return row
        try:
            return Row(row.split, row.line, row.utterance, sound=listen(row.utterance))
        except AsrError as error:
            return Row(row.split, row.line, row.utterance, str(error))
    with ThreadPoolExecutor(cpu_count()) as pool:
        heard = pool.map(one, rows)
        if not sys.stderr.isatty():
            return list(heard)
        with click.progressbar(heard, length=len(rows), label="listening", file=sys.stderr) as bar:
            return list(bar)


def _fix(rows: Sequence[Row], splits: Sequence[str], diagnosis: Diagnosis, out: Path) -> None:
    """Write the manifests without the rows that have a reason to be left out, and the reasons."""
    kept: Mapping[str, list[Utterance]] = {split: [] for split in splits}
    with writing(out / "left-out.tsv") as file:
        file.write("manifest\tline\tid\treason\n")
        for row in rows:
            reason = diagnosis.reasons.get((row.split, row.line))
            if reason is None and row.utterance:
                kept[row.split].append(row.utterance)
            else:
                file.write(f"{row.split}\t{row.line}\t{row.name}\t{' '.join((reason or '').split())}\n")
    for split, utterances in kept.items():
        write_manifest(out / split, utterances)
    click.echo(f"{sum(map(len, kept.values())):,} of {len(rows):,} rows kept in {out}; "
               f"the reasons for the others are in {out / 'left-out.tsv'}", err=True)


def _pairs(splits: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, later in enumerate(splits):
        for first in splits[:place]:
            yield later, first


def _counts(counter: Counter[int], unit: str) -> str:
    if len(counter) == 1:
        return f"{next(iter(counter)):,} {unit}"
    return ", ".join(f"{value:,} ({count:,})" for value, count in sorted(counter.items())) + f" {unit}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
