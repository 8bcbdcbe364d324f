"""Sentences that nobody said, out of the words of those that somebody did: walks from word to next word.

    python recipes/english/compose.py train.jsonl 12000 > sentences.txt

Every pair of neighbouring words occurs in the manifest's field `words`, so that a decoder which learns to spell these
sentences has learnt the words of the corpus and what follows what. Only give it a manifest of training.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from pathlib import Path

import click

from asr.corpus.records import read_manifest
from asr.corpus.splits import run_recipe
from asr.errors import AsrError

SHORTEST, LONGEST = 3, 14       # words in a sentence
TRIES = 100                     # walks in a row that led nowhere new: then there are no more sentences


def compose(texts: list[str], count: int, seed: int) -> list[str]:
    """Up to `count` sentences, all different, none of them in `texts`."""
    follows: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        words = ["", *text.split(), ""]
        for before, after in itertools.pairwise(words):
            follows[before].append(after)
    draw = random.Random(seed)
    known, found, failed = set(texts), [], 0
    while len(found) < count and failed < TRIES:
        sentence = " ".join(_walk(follows, draw))
        failed += 1
        if sentence not in known and SHORTEST <= len(sentence.split()) <= LONGEST:
            known.add(sentence)
            found.append(sentence)
            failed = 0
    return found


def _walk(follows: dict[str, list[str]], draw: random.Random) -> list[str]:
    words: list[str] = []
    while (word := draw.choice(follows[words[-1] if words else ""])) and len(words) <= LONGEST:
        words.append(word)
    return words


@click.command(help=__doc__)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("count", type=click.IntRange(min=1))
@click.option("--seed", default=1, show_default=True)
def main(manifest: Path, count: int, seed: int) -> None:
    texts = [str(utterance.extra.get("words", "")).strip() for utterance in read_manifest(manifest)]
    if not all(texts):
        raise AsrError(f"{manifest}: a row has no words: give a manifest with the field 'words' in every row")
    for sentence in compose(texts, count, seed):
        click.echo(sentence)


if __name__ == "__main__":
    run_recipe(main)
