"""Digits of many voices and accents, in FSDD's layout: more speakers than three for a model to learn from.

    python recipes/fsdd/synthesise.py exp/fsdd/synthetic

Takes    espeak-ng (the extra `espeak`), its variants in recipes/espeak/voices.tsv and the accents in accents.tsv; with
         `--flite` the program flite as well, whose five voices are made from recordings.
Splits   none: all is for training.
Phones   the dictionary's, as FSDD's: they are what was meant, in whatever accent.

Rate, pitch and intonation differ from digit to digit; the silence around it is cut off. The same options give the same
recordings, whatever -j is.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import soundfile
import soxr

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "espeak"))    # behind this folder, which has a prepare.py of its own

from espeak import Synthesiser  # noqa: E402

from asr.corpus.splits import run_recipe  # noqa: E402
from asr.errors import AsrError  # noqa: E402

VOICES, ACCENTS = HERE.parent / "espeak" / "voices.tsv", HERE / "accents.tsv"
RATE = 8000                 # Hz, of the files written
RATES = (110, 240)          # words a minute, of espeak …
PITCHES = (20, 80)          # … its pitch, 50 is the voice's own …
RANGES = (20, 90)           # … and the pitch's range
ENDS = ("", ".", ",", "?", "!")     # what is written behind a word changes its melody
FLITE = {"kal": (75, 150), "kal16": (75, 150), "awb": (100, 190), "rms": (75, 150), "slt": (130, 240)}  # Hz
STRETCH = (0.7, 1.4)        # of flite's durations
FLITE_TAKES = 30            # of each digit by each of flite's voices
QUIET = 0.01                # share of the peak below which a sample at the edge is silence
EDGE = (0.0, 0.06)          # s of it that are left
PEAKS = (0.1, 0.9)          # loudest sample, of full scale
DITHER = 2.0                # standard deviation of the noise floor, in steps of 16 bits
STAMP = "made-by-synthesise"


@dataclass(frozen=True)
class Accent:
    """How the voices of a language are made to say ten digits."""

    language: str
    takes: int
    spellings: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One voice, in a process of its own, so that its recordings depend on nothing else."""

    out: Path
    voice: str
    accents: tuple[Accent, ...]     # empty: the voice is flite's
    seed: int


def read_accents(path: Path = ACCENTS) -> tuple[Accent, ...]:
    """The table of accents.

    Raises:
        AsrError: it cannot be read, or a row is not a language, a number and ten spellings.
    """
    accents = []
    for number, row in _rows(path):
        if len(row) != 12 or not row[1].isdigit():
            raise AsrError(f"{path}:{number}: expected a language, a number of takes and ten spellings between tabs")
        accents.append(Accent(row[0], int(row[1]), tuple(row[2:])))
    return tuple(accents)


def read_voices(path: Path = VOICES) -> list[str]:
    """espeak's variants, of every split: what is test there is none here."""
    return [row[1] for _, row in _rows(path) if len(row) > 1]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line behind the header, with its number."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AsrError(f"{path}: cannot be read: {error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line and not line.startswith("#")]
    return ((number, line.split("\t")) for number, line in numbered[1:])


def speak(job: Job) -> float:
    """Record a voice's digits; gives the seconds made."""
    if not job.accents:
        return _record(job, job.voice, FLITE_TAKES, lambda digit, draw: _flite(job.voice, digit, draw))
    synthesiser = Synthesiser(job.seed)
    made = 0.0
    for accent in job.accents:
        synthesiser.voice(accent.language, job.voice)

        def say(digit: int, draw: random.Random, words: tuple[str, ...] = accent.spellings) -> tuple[np.ndarray, int]:
            speech = synthesiser.say(words[digit] + draw.choice(ENDS), rate=draw.randint(*RATES),
                                     pitch=draw.randint(*PITCHES), range_=draw.randint(*RANGES))
            return speech.samples.astype(np.float32) / 32768, speech.rate
        made += _record(job, f"{accent.language}+{job.voice}", accent.takes, say)
    return made


def _flite(voice: str, digit: int, draw: random.Random) -> tuple[np.ndarray, int]:
    """A digit in the voice of flite, its samples and their rate."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digit.wav"
        done = subprocess.run(
            ["flite", "-voice", voice, "--setf", f"duration_stretch={draw.uniform(*STRETCH):.3f}",
             "--setf", f"int_f0_target_mean={draw.uniform(*FLITE[voice]):.1f}",
             "-t", read_accents()[0].spellings[digit] + draw.choice(ENDS), "-o", str(path)],
            capture_output=True, text=True, check=False)
        if done.returncode or not path.exists():
            raise AsrError(f"flite: voice {voice!r} does not speak: {done.stderr.strip() or 'no reason given'}")
        return soundfile.read(path, dtype="float32")


def _record(job: Job, speaker: str, takes: int,
            say: Callable[[int, random.Random], tuple[np.ndarray, int]]) -> float:
    """Write takes of the ten digits as one speaker's."""
    draw = random.Random(f"{job.seed} {speaker}")
    noise = np.random.default_rng(draw.getrandbits(32))
    made = 0.0
    for take in range(takes):
        for digit in range(10):
            samples, rate = say(digit, draw)
            samples = cut(soxr.resample(samples, rate, RATE, quality="HQ"), draw)
            samples = samples * draw.uniform(*PEAKS) / max(1e-3, float(np.abs(samples).max()))
            samples = samples + noise.normal(0, DITHER / 32768, len(samples))
            soundfile.write(job.out / "recordings" / f"{digit}_{speaker}_{take}.wav", np.clip(samples, -1, 1), RATE,
                            subtype="PCM_16")
            made += len(samples) / RATE
    return made


def cut(samples: np.ndarray, draw: random.Random) -> np.ndarray:
    """Speech (N,) at RATE with little of the silence around it."""
    loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max())
    first, last = (round(draw.uniform(*EDGE) * RATE) for _ in range(2))
    return samples[max(0, loud[0] - first):loud[-1] + 1 + last] if len(loud) else samples


@click.command(help=__doc__)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--accents", type=click.Path(path_type=Path), default=ACCENTS, help="Default: the recipe's accents.tsv.")
@click.option("--voices", type=click.Path(path_type=Path), default=VOICES, help="Default: espeak's voices.tsv.")
@click.option("--flite", is_flag=True, help="The voices of flite as well.")
@click.option("--seed", default=1, show_default=True)
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=os.cpu_count(), help="Processes; default: all cores.")
def main(out: Path, accents: Path, voices: Path, flite: bool, seed: int, jobs: int) -> None:
    if flite and not shutil.which("flite"):
        raise AsrError("--flite: flite is not installed: on Debian and Ubuntu, apt install flite")
    table, names = read_accents(accents), read_voices(voices)
    folder = out / "recordings"
    if folder.exists():
        if not (out / STAMP).exists():
            raise AsrError(f"{out}: holds recordings that this recipe did not make: give it a folder of its own")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (out / STAMP).touch()
    work = [Job(out, voice, table, seed) for voice in names]
    work += [Job(out, voice, (), seed) for voice in FLITE if flite]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("forkserver"), max_tasks_per_child=1) as pool:
        made = sum(pool.map(speak, work))
    click.echo(f"{out}: {made / 3600:.2f} h of {len(names) * len(table) + len(FLITE) * flite:,} voices", err=True)


if __name__ == "__main__":
    run_recipe(main)
