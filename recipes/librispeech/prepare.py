"""LibriSpeech: the official tree and a lexicon, to manifests.

Takes    `SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt` with the `.flac` files beside it, for every subset that is
         there, and a lexicon in the CMU dictionary's format (`librispeech-lexicon.txt`, `cmudict.dict`, MFA's).
Splits   the corpus's own: train is all of `train-*`; `dev-clean`, `dev-other`, `test-clean`, `test-other` each their
         own manifest. No speaker is in two of them.
Leaves   out the utterances that hold a word which the lexicon does not have. The words are listed in
         `OUT/unknown-words.txt`, most frequent first; add them to the lexicon to keep the utterances.
Phones   the lexicon's first pronunciation, stress digits dropped. No phone times. `words` in lower case.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from asr.corpus.labels import read_text
from asr.corpus.lexicon import Lexicon, pronounce, read_lexicon, words_row, write_unknown
from asr.corpus.records import Utterance
from asr.corpus.splits import recording_seconds, run_recipe, write_splits
from asr.errors import AsrError

SUBSETS = ("dev-clean", "dev-other", "test-clean", "test-other")


def splits(corpus: Path, lexicon: Lexicon) -> tuple[dict[str, list[Utterance]], Counter[str], int]:
    """Utterances of each split; the words that the lexicon does not have; how many utterances held one.

    Raises:
        AsrError: there is no LibriSpeech below `corpus`, or a recording is missing.
    """
    unknown: Counter[str] = Counter()
    left_out = 0
    result: dict[str, list[Utterance]] = {}
    for subset in [*sorted(path.name for path in corpus.glob("train-*") if path.is_dir()), *SUBSETS]:
        if not (corpus / subset).is_dir():
            continue
        rows = result.setdefault("train" if subset.startswith("train-") else subset, [])
        for transcript in sorted((corpus / subset).glob("*/*/*.trans.txt")):
            for line in read_text(transcript).splitlines():
                name, *words = line.lower().split()
                phones, missing = pronounce(words, lexicon)
                unknown.update(missing)
                left_out += bool(missing)
                if not missing:
                    audio = transcript.parent / f"{name}.flac"
                    rows.append(Utterance(name, audio, duration=recording_seconds(audio), phones=phones,
                                          speaker=name.split("-")[0], extra=words_row(words, lexicon)))
    if not result:
        raise AsrError(f"{corpus}: no LibriSpeech here: expected folders such as train-clean-100 and dev-clean")
    return result, unknown, left_out


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--lexicon", type=click.Path(path_type=Path), required=True, help="Pronunciations, CMU format.")
@click.option("--stress", is_flag=True, help="Keep the stress digits.")
def main(corpus: Path, out: Path, lexicon: Path, stress: bool) -> None:
    """Write OUT/train.jsonl, OUT/dev-clean.jsonl, … from the LibriSpeech in CORPUS."""
    rows, unknown, left_out = splits(corpus, read_lexicon(lexicon, stress))
    if unknown:
        write_unknown(out / "unknown-words.txt", unknown)
        click.echo(f"{left_out:,} utterances left out for {len(unknown):,} words that {lexicon} does not have: "
                   f"see {out / 'unknown-words.txt'}", err=True)
    write_splits(rows, out)


if __name__ == "__main__":
    run_recipe(main)
