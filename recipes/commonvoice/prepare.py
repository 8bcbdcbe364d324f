"""Common Voice, or any table like it: sentences in a TSV and clips in a folder, to manifests.

Takes    `train.tsv`, `dev.tsv` and `test.tsv` with at least the columns `path` and `sentence` (and `client_id`, the
         speaker), and the folder `clips/` with the audio (MP3, WAV, FLAC, OGG).
Splits   the tables' own, as many of the three as there are. No speaker may be in two of them.
Leaves   out the sentences that hold a word which the lexicon does not have, and those without any letter. The words
         are listed in `OUT/unknown-words.txt`, most frequent first.
Phones   with `--lexicon`, its first pronunciations, stress digits dropped. With `--letters` instead, the letters of
         the words stand in for phones: lower case, Unicode's composed form, no punctuation, nothing between words;
         each row then says `"units": "letters"`, and the error rate counts letters. One of the two must be chosen.
"""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from pathlib import Path

import click

from asr.corpus.lexicon import Lexicon, pronounce, read_lexicon, words_of, words_row, write_unknown
from asr.corpus.records import Utterance
from asr.corpus.splits import recording_seconds, run_recipe, write_splits
from asr.errors import AsrError


def splits(corpus: Path, lexicon: Lexicon | None) -> tuple[dict[str, list[Utterance]], Counter[str], int]:
    """Utterances of each split; the words that the lexicon does not have; how many sentences were left out.

    Args:
        corpus: the folder of one language.
        lexicon: its pronunciations; None: letters stand in for phones.

    Raises:
        AsrError: no table is there, one lacks a column, or a clip is missing.
    """
    unknown: Counter[str] = Counter()
    left_out = 0
    result: dict[str, list[Utterance]] = {}
    for name in ("train", "dev", "test"):
        path = corpus / f"{name}.tsv"
        if not path.exists():
            continue
        rows = result.setdefault(name, [])
        for row in read_rows(path):
            words = words_of(unicodedata.normalize("NFC", row["sentence"]))
            phones, missing = (letters_of(words), []) if lexicon is None else pronounce(words, lexicon)
            unknown.update(missing)
            if missing or not phones:
                left_out += 1
                continue
            audio = corpus / "clips" / row["path"]
            extra = {"words": " ".join(words), "units": "letters"} if lexicon is None else words_row(words, lexicon)
            rows.append(Utterance(Path(row["path"]).stem, audio, duration=recording_seconds(audio), phones=phones,
                                  speaker=row.get("client_id") or None, extra=extra))
    if not result:
        raise AsrError(f"{corpus}: no Common Voice here: expected train.tsv, dev.tsv or test.tsv")
    return result, unknown, left_out


def letters_of(words: list[str]) -> tuple[str, ...]:
    """The letters of the words, marks with the letter before them."""
    letters: list[str] = []
    for character in "".join(words):
        if unicodedata.combining(character) and letters:
            letters[-1] += character
        elif character.isalpha():
            letters.append(character)
    return tuple(letters)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a Common Voice table, in which quotes mean nothing."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        for column in ("path", "sentence"):
            if column not in (reader.fieldnames or ()):
                raise AsrError(f"{path}: has no column {column!r}: it has {' '.join(reader.fieldnames or ())}")
        return list(reader)


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--lexicon", type=click.Path(path_type=Path), help="Pronunciations, CMU format.")
@click.option("--letters", is_flag=True, help="Let the letters stand in for phones.")
def main(corpus: Path, out: Path, lexicon: Path | None, letters: bool) -> None:
    """Write OUT/{train,dev,test}.jsonl from the Common Voice tables in CORPUS."""
    if (lexicon is None) != letters:
        raise click.UsageError("choose one: --lexicon FILE for phones, or --letters")
    rows, unknown, left_out = splits(corpus, None if lexicon is None else read_lexicon(lexicon))
    if unknown:
        write_unknown(out / "unknown-words.txt", unknown)
    if left_out:
        click.echo(f"{left_out:,} sentences left out, {len(unknown):,} unknown words"
                   f"{f': see {out}/unknown-words.txt' if unknown else ''}", err=True)
    write_splits(rows, out)


if __name__ == "__main__":
    run_recipe(main)
