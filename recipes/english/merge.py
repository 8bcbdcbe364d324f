"""One manifest out of several, whole or in part, all in the 39 phones of the CMU dictionary.

    python recipes/english/merge.py exp/flite/train.jsonl exp/espeak/train.jsonl --out synthetic.jsonl
    python recipes/english/merge.py real.jsonl --part synthetic.jsonl 0.8 --out train.jsonl

espeak's phones are written as from-espeak.tsv says; where one becomes two, they share its time equally.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import click

from asr.corpus.records import Utterance, read_manifest, write_manifest
from asr.corpus.splits import run_recipe
from asr.errors import AsrError

TABLE = Path(__file__).parent / "from-espeak.tsv"


def read_table(path: Path = TABLE) -> dict[str, list[str]]:
    """espeak's phone → ARPAbet phones."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {espeak: arpabet.split() for espeak, arpabet in rows[1:]}


def to_arpabet(utterance: Utterance, table: dict[str, list[str]]) -> Utterance:
    """The utterance in ARPAbet; as it is where it is that already."""
    known = {phone for phones in table.values() for phone in phones}
    if known.issuperset(utterance.phones or ()):
        return utterance
    phones, times = [], []
    spoken = utterance.phones or ()
    for phone, (start, end) in zip(spoken, utterance.extra["phone_times"], strict=True):
        target = table.get(phone)
        if target is None:
            raise AsrError(f"utterance {utterance.id!r}: {phone!r} stands in no row of {TABLE}: add it")
        share = (end - start) / len(target)
        phones += target
        times += [[round(start + k * share, 5), round(start + (k + 1) * share, 5)] for k in range(len(target))]
    return replace(utterance, phones=tuple(phones), extra=utterance.extra | {"phone_times": times})


def part_of(utterances: list[Utterance], hours: float) -> list[Utterance]:
    """Utterances by chance, the same ones each time, until there are enough hours of them."""
    order = list(utterances)
    random.Random(1).shuffle(order)
    ends = itertools.accumulate(utterance.duration or 0.0 for utterance in order)
    return [utterance for utterance, end in zip(order, ends, strict=True) if end <= hours * 3600]


@click.command(help=__doc__)
@click.argument("manifests", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--part", "parts", nargs=2, multiple=True, type=(click.Path(path_type=Path), float),
              metavar="MANIFEST HOURS", help="So many hours of a manifest, drawn by chance.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The manifest to write.")
def main(manifests: tuple[Path, ...], parts: tuple[tuple[Path, float], ...], out: Path) -> None:
    table = read_table()
    rows = [row for path in manifests for row in read_manifest(path, need_phones=True)]
    rows += [row for path, hours in parts for row in part_of(read_manifest(path, need_phones=True), hours)]
    write_manifest(out, [to_arpabet(row, table) for row in rows])


if __name__ == "__main__":
    run_recipe(main)
