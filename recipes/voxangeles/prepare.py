"""VoxAngeles: single words in many languages, IPA with phone times corrected by hand, to manifests.

Takes    a folder with `manifest.tsv`, `phone_times.tsv` and the audio that they name, or the original: any tree of
         `.wav` with `.TextGrid` beside it (the corpus's zips, unpacked), whose names begin with the language's code.
Splits   disjoint in languages: test the eight of TEST, dev the four of DEV, train all others.
Leaves   out recordings that occur twice with different labels (hni-000-009 and -010), since one of them is wrong; of
         two with the same labels one stays. In dev, words with a phone that train does not have.
Phones   IPA with its combining marks, one spelling for one symbol: Unicode's composed form, `ɡ` for `g`, `ʼ` for `'`.
Times    `phone_times`, seconds. `speaker` is the recording, since the corpus does not tell who speaks.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import click
import soundfile

from asr.corpus.inventories import normalise_ipa
from asr.corpus.records import Utterance
from asr.corpus.splits import recording_seconds, run_recipe, write_splits
from asr.corpus.textgrid import read_textgrid
from asr.errors import AsrError

TEST = frozenset({"aka", "bfq", "bsq", "ces", "col", "ffm", "its", "tsw"})
DEV = frozenset({"gaa", "hil", "lkt", "run"})


def splits(corpus: Path) -> dict[str, list[Utterance]]:
    """Utterances of train, dev and test.

    Raises:
        AsrError: there is no VoxAngeles, or labels and times of an utterance do not fit.
    """
    utterances = from_tables(corpus) if (corpus / "manifest.tsv").exists() else from_textgrids(corpus)
    result: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for utterance in drop_doubles(utterances):
        language = utterance.extra["lang"]
        result["test" if language in TEST else "dev" if language in DEV else "train"].append(utterance)
    result["dev"] = within(result["dev"], {phone for utterance in result["train"] for phone in utterance.phones or ()})
    return result


def within(utterances: list[Utterance], known: set[str]) -> list[Utterance]:
    """Those whose phones are all known: training can measure itself by no others."""
    kept = [utterance for utterance in utterances if known.issuperset(utterance.phones or ())]
    if len(kept) < len(utterances):
        click.echo(f"dev: {len(utterances) - len(kept)} of {len(utterances)} words have phones that are not in train: "
                   "left out", err=True)
    return kept


def from_tables(corpus: Path) -> list[Utterance]:
    """Utterances of `manifest.tsv`, with the times of `phone_times.tsv`."""
    times = defaultdict(list)
    for row in read_rows(corpus / "phone_times.tsv"):
        times[row["utt_id"]].append((float(row["start"]), float(row["end"]), row["phone"]))
    utterances = []
    for row in read_rows(corpus / "manifest.tsv"):
        name, segments = row["utt_id"], times[row["utt_id"]]
        if [phone for _, _, phone in segments] != row["phones"].split():
            raise AsrError(f"{corpus / 'phone_times.tsv'}: the phones of {name!r} are not those of manifest.tsv")
        utterances.append(make_row(name, corpus / row["path"], segments, row["words"]))
    return utterances


def from_textgrids(corpus: Path) -> list[Utterance]:
    """Utterances of the original tree: a TextGrid beside every wav."""
    utterances = []
    for grid in sorted(corpus.rglob("*.TextGrid")):
        audio = next((path for path in (grid.with_suffix(".wav"), grid.with_suffix(".flac")) if path.exists()), None)
        if audio is None:
            raise AsrError(f"{grid}: has no audio beside it (.wav or .flac)")
        segments = read_textgrid(grid)
        utterances.append(make_row(grid.stem, audio, [
            (*span, phone) for span, phone in zip(segments.times or (), segments.phones, strict=True)]))
    if not utterances:
        raise AsrError(f"{corpus}: no VoxAngeles here: expected manifest.tsv, or .TextGrid files beside audio")
    return utterances


def make_row(name: str, audio: Path, segments: list[tuple[float, float, str]], words: str = "") -> Utterance:
    """The manifest row of one word; labels with spaces inside are several phones that share their time."""
    phones, times = [], []
    for start, end, label in segments:
        for phone in label.split():
            phones.append(normalise_ipa(phone))
            times.append([start, end])
    extra = {"lang": name[:3].lower(), "phone_times": times} | ({"words": words} if words else {})
    return Utterance(name, audio, duration=recording_seconds(audio), phones=tuple(phones),
                     speaker=name.rpartition("-")[0] or name, extra=extra)


def drop_doubles(utterances: list[Utterance]) -> list[Utterance]:
    """Without recordings that hold the same samples as another."""
    groups = defaultdict(list)
    for utterance in utterances:
        samples, _ = soundfile.read(str(utterance.audio), dtype="int16")
        groups[hashlib.sha256(samples.tobytes()).digest()].append(utterance)
    kept = []
    for group in groups.values():
        if len(group) > 1:
            agree = len({utterance.phones for utterance in group}) == 1
            click.echo(f"{' and '.join(utterance.id for utterance in group)} hold the same audio: "
                       f"{'only the first is kept' if agree else 'labels differ, all left out'}", err=True)
            group = group[:1] if agree else []
        kept += group
    return kept


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a tab-separated table with a header."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def main(corpus: Path, out: Path) -> None:
    """Write OUT/{train,dev,test}.jsonl from the VoxAngeles in CORPUS."""
    write_splits(splits(corpus), out)


if __name__ == "__main__":
    run_recipe(main)
