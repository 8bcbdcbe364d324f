"""One manifest out of flite's and espeak's, all in the 39 phones of the CMU dictionary.

    python recipes/english/merge.py exp/flite/train.jsonl exp/espeak/train.jsonl --out train.jsonl

espeak's phones are written as from-espeak.tsv says; where one becomes two, they share its time equally.
"""

from __future__ import annotations

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
    phones, times = [], []
    spoken = utterance.phones or ()
    for phone, (start, end) in zip(spoken, utterance.extra["phone_times"], strict=True):
        target = table.get(phone) or ([phone] if phone in known else None)
        if target is None:
            raise AsrError(f"utterance {utterance.id!r}: {phone!r} stands in no row of {TABLE}: add it")
        share = (end - start) / len(target)
        phones += target
        times += [[round(start + k * share, 5), round(start + (k + 1) * share, 5)] for k in range(len(target))]
    return replace(utterance, phones=tuple(phones), extra=utterance.extra | {"phone_times": times})


@click.command(help=__doc__)
@click.argument("manifests", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The manifest to write.")
def main(manifests: tuple[Path, ...], out: Path) -> None:
    table = read_table()
    write_manifest(out, [to_arpabet(utterance, table) for path in manifests
                         for utterance in read_manifest(path, need_phones=True)])


if __name__ == "__main__":
    run_recipe(main)
