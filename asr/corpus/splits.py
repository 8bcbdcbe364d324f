"""From a recipe's adapter to the manifests of its splits.

An adapter is one function, `splits(corpus) -> {"train": [Utterance, …], "dev": …, "test": …}`. What comes after it is
the same for every corpus and lives here: check, write, count, and errors in one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import click
import soundfile

from asr.corpus.records import Utterance, write_manifest
from asr.corpus.table import aligned
from asr.errors import AsrError

Splits = Mapping[str, Sequence[Utterance]]


def write_splits(splits: Splits, out: Path) -> None:
    """Write one manifest a split, `OUT/train.jsonl` and so on, and tell on stderr what is in each.

    Raises:
        AsrError: a split is empty, an id occurs twice, a speaker is in two splits, or a file cannot be written.
    """
    check_splits(splits)
    for name, utterances in splits.items():
        write_manifest(Path(out) / f"{name}.jsonl", utterances)
    click.echo(describe_splits(splits), err=True)


def check_splits(splits: Splits) -> None:
    """Hold an adapter to its promise: nothing empty, no id twice, no speaker on both sides.

    Raises:
        AsrError: naming the split and what is wrong with it.
    """
    ids: dict[str, str] = {}
    speakers: dict[str, str] = {}
    for name, utterances in splits.items():
        if not utterances:
            raise AsrError(f"{name}: the corpus gave no utterance for this split: is the folder whole?")
        for utterance in utterances:
            if utterance.id in ids:
                raise AsrError(f"{name}: utterance {utterance.id!r} is in {ids[utterance.id]} already: "
                               "name one copy of the corpus only")
            ids[utterance.id] = name
            speaker = utterance.speaker
            if speaker is not None and speakers.setdefault(speaker, name) != name:
                raise AsrError(f"{name}: speaker {speaker!r} is in {speakers[speaker]} as well: a "
                               "speaker belongs to one split")


def describe_splits(splits: Splits) -> str:
    """A table of utterances, speakers, hours, phones and kinds of phone in each split."""
    rows = [("split", "utterances", "speakers", "hours", "phones", "kinds")]
    for name, utterances in splits.items():
        phones = [phone for utterance in utterances for phone in utterance.phones or ()]
        hours = sum(utterance.duration or 0 for utterance in utterances) / 3600
        speakers = {utterance.speaker for utterance in utterances} - {None}
        rows.append((name, f"{len(utterances):,}", f"{len(speakers):,}", f"{hours:.3f}", f"{len(phones):,}",
                     str(len(set(phones)))))
    return aligned(rows)


def recording_seconds(path: Path) -> float:
    """The duration of a recording, from its header.

    Raises:
        AsrError: the file is missing or is no audio.
    """
    try:
        info = soundfile.info(os.fsencode(path))        # whatever bytes its name is made of
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        reason = "is not there" if not os.path.exists(path) else "is no audio that can be read"
        raise AsrError(f"{path}: {reason}: is the corpus whole?") from error
    return round(info.frames / info.samplerate, 6)


def run_recipe(command: click.Command) -> NoReturn:
    """Run a recipe's command; errors of the user's are one line and exit 1, wrong use exits 2."""
    try:
        command.main(standalone_mode=False)
    except AsrError as error:
        click.echo(f"prepare: {error}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("prepare: interrupted", err=True)
        sys.exit(130)
    sys.exit(0)
