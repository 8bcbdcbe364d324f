"""FSDD, the Free Spoken Digit Dataset: single digits, or connected ones, to manifests.

Takes    the folder with `recordings/DIGIT_SPEAKER_INDEX.wav` (or `.flac`), 8 kHz as it comes; features resample it.
Splits   disjoint in speakers: dev george, test theo, train all others. (The corpus's own split, by index, shares
         speakers.)
Leaves   nothing out.
Phones   of the dictionary (`digits.txt`), not of what was said; stress digits dropped, 19 kinds. No phone times.

With `--connected`, digits of one speaker are joined into utterances of 1 to 7, each recording once a pass, with 0.05
to 0.25 s of the recording's own quiet between two. The same seed gives the same files. `word_times` tells where each
digit lies, in seconds.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import soundfile

from asr.corpus.lexicon import Lexicon, pronounce, read_lexicon, words_row
from asr.corpus.records import Utterance
from asr.corpus.splits import recording_seconds, run_recipe, write_splits
from asr.errors import AsrError
from asr.files import writing

DEV, TEST = "george", "theo"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"(\d)_([^_]+)_(\d+)")
MOST_DIGITS = 7
GAP = (0.05, 0.25)      # seconds between two digits
QUIET = 0.02            # seconds: the quietest stretch of this length tells how loud the gap is


def splits(corpus: Path) -> dict[str, list[Utterance]]:
    """Utterances of one digit each, in train, dev and test.

    Raises:
        AsrError: as `recordings`.
    """
    result: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for utterance in recordings(corpus):
        result[split_of(utterance.speaker or "")].append(utterance)
    return result


def recordings(corpus: Path) -> list[Utterance]:
    """Every recording of a folder that is laid out like FSDD, one digit each.

    Raises:
        AsrError: there are no recordings, or one has another name than the corpus gives.
    """
    lexicon = digits_lexicon()
    paths = [path for path in (corpus / "recordings").glob("*") if path.suffix in (".wav", ".flac")]
    if not paths:
        raise AsrError(f"{corpus}: no FSDD here: expected recordings/DIGIT_SPEAKER_INDEX.wav")
    found = []
    for path in sorted(paths):
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise AsrError(f"{path}: expected the name DIGIT_SPEAKER_INDEX{path.suffix}")
        speaker, word = match[2], WORDS[int(match[1])]
        found.append(Utterance(path.stem, path, duration=recording_seconds(path),
                               phones=pronounce([word], lexicon)[0], speaker=speaker, extra=words_row([word], lexicon)))
    return found


def connected_splits(corpus: Path, audio: Path, passes: int, seed: int) -> dict[str, list[Utterance]]:
    """Utterances of 1 to 7 digits, whose recordings are written into the folder `audio`.

    Args:
        corpus: FSDD's folder.
        audio: where the joined recordings go.
        passes: how often each training recording is used; dev and test use theirs once.
        seed: of the order, the lengths and the gaps.
    """
    return {name: [joined for speaker in sorted({u.speaker or "" for u in utterances})
                   for number in range(passes if name == "train" else 1)
                   for joined in join_speaker([u for u in utterances if u.speaker == speaker], audio,
                                              f"{speaker}-{number}", random.Random(f"{seed} {speaker} {number}"))]
            for name, utterances in splits(corpus).items()}


def join_speaker(digits: list[Utterance], audio: Path, prefix: str, draw: random.Random) -> list[Utterance]:
    """One pass over a speaker's digits: shuffled, cut into runs of 1 to 7, each run joined and written."""
    joined = []
    for number, run in enumerate(runs(digits, draw)):
        parts = [soundfile.read(str(digit.audio), dtype="float32") for digit in run]
        rate = parts[0][1]
        samples, times = join([part for part, _ in parts], rate, draw)
        joined.append(write_joined(run, samples, rate, times, audio / f"{prefix}-{number:03d}.wav"))
    return joined


def runs(digits: list[Utterance], draw: random.Random) -> Iterator[list[Utterance]]:
    """A speaker's digits in random order, 1 to 7 at a time."""
    digits = draw.sample(digits, len(digits))
    while digits:
        count = draw.randint(1, MOST_DIGITS)
        yield digits[:count]
        digits = digits[count:]


def join(parts: Sequence[np.ndarray], rate: int, draw: random.Random) -> tuple[np.ndarray, list[list[int]]]:
    """Digits one after another, as quiet between two as the quietest stretch of the one that follows.

    Returns:
        Samples (N,) float32, and the first sample of each digit and the one behind its last.
    """
    noise = np.random.default_rng(draw.getrandbits(32))
    pieces: list[np.ndarray] = []
    places: list[list[int]] = []
    length = 0
    for part in parts:
        if pieces:
            gap = noise.normal(0, quiet_level(part, rate), int(draw.uniform(*GAP) * rate)).astype(np.float32)
            pieces.append(gap)
            length += len(gap)
        places.append([length, length + len(part)])
        pieces.append(part)
        length += len(part)
    return np.concatenate(pieces), places


def write_joined(run: list[Utterance], samples: np.ndarray, rate: int, places: list[list[int]],
                 path: Path) -> Utterance:
    """Write a joined recording; `places` are the digits' first samples and those behind their last."""
    with writing(path, "wb") as file:
        soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return Utterance(path.stem, path, duration=round(len(samples) / rate, 6),
                     phones=tuple(phone for digit in run for phone in digit.phones or ()), speaker=run[0].speaker,
                     extra={"words": " ".join(digit.extra["words"] for digit in run),
                            "word_times": [[round(place / rate, 6) for place in ends] for ends in places]})


def quiet_level(samples: np.ndarray, rate: int) -> float:
    """Root mean square of the quietest 20 ms of a recording."""
    width = max(1, int(QUIET * rate))
    frames = samples[:len(samples) // width * width].reshape(-1, width)
    return float(np.sqrt((frames ** 2).mean(axis=1)).min()) if len(frames) else 0.0


def split_of(speaker: str) -> str:
    """The split that a speaker belongs to."""
    return {DEV: "dev", TEST: "test"}.get(speaker, "train")


def digits_lexicon() -> Lexicon:
    """The phones of the ten words."""
    return read_lexicon(Path(__file__).with_name("digits.txt"))


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--connected", is_flag=True, help="Join 1 to 7 digits of a speaker; recordings go to OUT/audio.")
@click.option("--passes", type=click.IntRange(1), default=4, show_default=True,
              help="With --connected: how often each training recording is used.")
@click.option("--seed", default=1, show_default=True, help="With --connected: of order, lengths and gaps.")
def main(corpus: Path, out: Path, connected: bool, passes: int, seed: int) -> None:
    """Write OUT/{train,dev,test}.jsonl from the FSDD in CORPUS."""
    write_splits(connected_splits(corpus, out / "audio", passes, seed) if connected else splits(corpus), out)


if __name__ == "__main__":
    run_recipe(main)
