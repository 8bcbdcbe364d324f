"""speechocean762: read English of Mandarin speakers, from the corpus's own layout to manifests.

Takes    the folder with `train/`, `test/` (and `dev/` where there is one) as Kaldi data directories, `WAVE/` and
         `resource/text-phone`.
Splits   the folder's own. Where it has no `dev/`, a tenth of the training speakers, every tenth by name, are dev.
Leaves   nothing out.
Phones   what should have been said: position suffixes (`_B _I _E _S`) and stress digits are dropped, which leaves the
         39 phones of the CMU dictionary. No phone times. `words` is the sentence in lower case,
         `word_phones` how many phones each of its words has.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import click

from asr.corpus.labels import read_text
from asr.corpus.records import Utterance
from asr.corpus.splits import recording_seconds, run_recipe, write_splits
from asr.corpus.words import word_extra
from asr.errors import AsrError

MARKS = re.compile(r"[0-2]?(_[BIES])?$")        # stress digit and position suffix at a phone's end


def splits(corpus: Path) -> dict[str, list[Utterance]]:
    """Utterances of train, dev and test.

    Raises:
        AsrError: a file is missing, or an utterance lacks its phones, speaker or audio.
    """
    phones = read_phones(corpus / "resource" / "text-phone")
    result = {name: read_split(corpus, name, phones) for name in ("train", "dev", "test") if (corpus / name).is_dir()}
    missing = {"train", "test"} - result.keys()
    if missing:
        raise AsrError(f"{corpus}: no speechocean762 here: it has no folder {' and no folder '.join(sorted(missing))}")
    if "dev" not in result:
        held = set(sorted({utterance.speaker or "" for utterance in result["train"]})[::10])
        train = result["train"]
        result = {"train": [utterance for utterance in train if utterance.speaker not in held],
                  "dev": [utterance for utterance in train if utterance.speaker in held], "test": result["test"]}
    return result


def read_phones(path: Path) -> dict[str, list[list[str]]]:
    """Phones of each utterance, word by word, out of lines `UTTERANCE.WORD PHONE …`, one a word."""
    words: dict[str, dict[int, list[str]]] = defaultdict(dict)
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        key, *phones = line.split()
        utterance, dot, word = key.rpartition(".")
        if not dot or not word.isdigit() or not phones:
            raise AsrError(f"{path}:{number}: expected 'UTTERANCE.WORD PHONE …', not {line!r:.60}")
        words[utterance][int(word)] = [MARKS.sub("", phone) for phone in phones]
    return {utterance: [spoken[word] for word in sorted(spoken)] for utterance, spoken in words.items()}


def read_split(corpus: Path, name: str, phones: dict[str, list[list[str]]]) -> list[Utterance]:
    """The rows of one split, from its `wav.scp`, `utt2spk` and `text`."""
    tables = {table: read_table(corpus / name / table) for table in ("wav.scp", "utt2spk", "text")}
    utterances = []
    for utterance, path in sorted(tables["wav.scp"].items()):
        lacks = [table for table in ("utt2spk", "text") if utterance not in tables[table]]
        if lacks or utterance not in phones:
            raise AsrError(f"{corpus / name}: utterance {utterance!r} is not in {(lacks or ['text-phone'])[0]}")
        audio = corpus / path
        words, each = tables["text"][utterance].lower(), phones[utterance]
        utterances.append(Utterance(
            utterance, audio, duration=recording_seconds(audio), phones=tuple(phone for word in each for phone in word),
            speaker=tables["utt2spk"][utterance],
            extra=word_extra(words.split(), [len(word) for word in each]) if len(words.split()) == len(each)
            else {"words": words}))
    return utterances


def read_table(path: Path) -> dict[str, str]:
    """Lines `KEY VALUE`, as Kaldi writes them."""
    rows = (line.split(maxsplit=1) for line in read_text(path).splitlines() if line.strip())
    return {row[0]: row[1].strip() if len(row) > 1 else "" for row in rows}


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def main(corpus: Path, out: Path) -> None:
    """Write OUT/{train,dev,test}.jsonl from the speechocean762 in CORPUS."""
    write_splits(splits(corpus), out)


if __name__ == "__main__":
    run_recipe(main)
