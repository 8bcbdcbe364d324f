"""TIMIT: from the LDC's tree, or NLTK's sample, to manifests.

Takes    an LDC copy (`TRAIN/DR1/FCJF0/SI1027.WAV` with `.PHN` beside it, SPHERE or RIFF, upper or lower case), or
         NLTK's layout (`dr1-fvmh0/si1466.flac` or `.wav` with `.phn`).
Splits   the standard ones of `speakers.tsv`: train 462 speakers, 3,696 utterances; dev 50, 400; core test 24, 192.
         The other 94 speakers of the complete test set are not used.
Leaves   the sentences SA1 and SA2 out: every speaker reads them, so they would be in training and test.
Labels   the 61 symbols as they are, `h#` included; fold when scoring (`asr score --protocol timit39`).
Times    `phone_times`, seconds. `words`, lower case, and `word_times` where there is a `.WRD`; else `words` is the
         sentence of the `.TXT`.

All speakers of NLTK's sample belong to TIMIT's training set. Where a folder holds training speakers only, or with
`--sample`, the split is the sample's own and disjoint in speakers: see SAMPLE_TEST and SAMPLE_DEV.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from asr.corpus.labels import read_phn, read_text
from asr.corpus.records import Utterance
from asr.corpus.splits import recording_seconds, run_recipe, write_splits
from asr.errors import AsrError

SPEAKERS = Path(__file__).with_name("speakers.tsv")
UTTERANCES = {"train": 3696, "dev": 400, "test": 192}
SAMPLE_TEST = frozenset({"mcpm0", "falr0", "mbma1", "fbcg1"})
SAMPLE_DEV = frozenset({"fapb0", "maeb0"})      # a woman and a man, of two dialect regions
AUDIO = (".wav", ".flac", ".sph")


def splits(corpus: Path, sample: bool = False) -> dict[str, list[Utterance]]:
    """Utterances of train, dev and test.

    Raises:
        AsrError: there is no TIMIT below `corpus`, a recording has no audio, or the copy is not whole.
    """
    split_of = standard_speakers()
    found = find_utterances(corpus)
    speakers = {speaker for speaker, _ in found}
    if sample or speakers <= {speaker for speaker, split in split_of.items() if split == "train"}:
        split_of = {speaker: "test" if speaker in SAMPLE_TEST else "dev" if speaker in SAMPLE_DEV else "train"
                    for speaker in speakers}
    else:
        check_whole(Counter(split_of[speaker] for speaker, _ in found if speaker in split_of),
                    sorted(split_of.keys() - speakers), corpus)
    result: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for (speaker, name), labels in sorted(found.items()):
        if speaker in split_of:
            result[split_of[speaker]].append(read_utterance(speaker, name, labels))
    return result


def standard_speakers() -> dict[str, str]:
    """The split of each of the 536 standard speakers."""
    rows = [line.split("\t") for line in SPEAKERS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {speaker: split for split, speaker in rows[1:]}


def find_utterances(corpus: Path) -> dict[tuple[str, str], Path]:
    """Label files below the corpus by (speaker, sentence), in lower case, without SA1 and SA2."""
    found: dict[tuple[str, str], Path] = {}
    for labels in sorted(Path(corpus).rglob("*")):
        if labels.suffix.lower() != ".phn" or labels.stem.lower().startswith("sa"):
            continue
        key = (labels.parent.name.lower().rpartition("-")[2], labels.stem.lower())
        if key in found:
            raise AsrError(f"{labels}: {found[key]} is the same utterance: name one copy of the corpus only")
        found[key] = labels
    if not found:
        raise AsrError(f"{corpus}: no TIMIT here: expected .PHN files below TRAIN/DRn/SPEAKER or drN-speaker")
    return found


def check_whole(counts: Counter[str], missing: list[str], corpus: Path) -> None:
    """A standard split is whole or it is not the standard split."""
    if missing or counts != UTTERANCES:
        have = ", ".join(f"{split} {counts[split]:,} of {whole:,}" for split, whole in UTTERANCES.items())
        absent = f"; missing speakers: {' '.join(missing[:5])}{' …' if len(missing) > 5 else ''}" if missing else ""
        raise AsrError(f"{corpus}: not a whole TIMIT: {have} utterances{absent}: mend the copy, or use --sample")


def read_utterance(speaker: str, name: str, labels: Path) -> Utterance:
    """The manifest row of one utterance."""
    beside = {path.suffix.lower(): path for path in labels.parent.iterdir() if path.stem == labels.stem}
    audio = next((beside[suffix] for suffix in AUDIO if suffix in beside), None)
    if audio is None:
        raise AsrError(f"{labels}: has no audio beside it ({' or '.join(AUDIO)})")
    segments = read_phn(labels)
    extra = segments.as_extra()
    if ".wrd" in beside:
        extra |= read_phn(beside[".wrd"]).as_words()
    elif ".txt" in beside:
        extra["words"] = read_text(beside[".txt"]).split(maxsplit=2)[-1].strip()
    return Utterance(f"{speaker}_{name}", audio, duration=recording_seconds(audio), phones=segments.phones,
                     speaker=speaker, extra=extra)


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--sample", is_flag=True, help="Split what is there, though it is not all of TIMIT.")
def main(corpus: Path, out: Path, sample: bool) -> None:
    """Write OUT/{train,dev,test}.jsonl from the TIMIT in CORPUS."""
    write_splits(splits(corpus, sample), out)


if __name__ == "__main__":
    run_recipe(main)
