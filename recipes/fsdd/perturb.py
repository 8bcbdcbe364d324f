"""Connected digits to train on: FSDD's training speakers and synthetic ones, each recording disturbed in its own way.

    python recipes/fsdd/perturb.py /path/to/fsdd exp/fsdd/perturbed --synthetic exp/fsdd/synthetic

Takes    FSDD's folder, and folders of the same layout.
Splits   all for training: of FSDD the speakers that are neither dev nor test, of the others everyone.
Phones   as in prepare.py.

Three speakers are too few to learn what digits have in common, so each joined recording gets a vocal tract, a tempo, a
microphone, a room, noise and a level by chance. The same options give the same recordings, whatever -j is.
"""

from __future__ import annotations

import math
import os
import random
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import librosa
import numpy as np
import soundfile
import soxr
from prepare import join, recordings, runs, split_of, write_joined

from asr.corpus.records import Utterance, write_manifest
from asr.corpus.splits import describe_splits, run_recipe

TIGHT = 0.5                 # share of recordings whose digits are cut tightly …
EDGES = (-45.0, -20.0)      # … dB below the peak where one begins and ends
VOICES = (0.8, 1.25)        # pitch and formants, times the speaker's own
TEMPOS = (0.75, 1.35)       # of a recording …
UNEVEN = (0.88, 1.14)       # … and of a digit in it
STEPS = 4.0                 # dB, standard deviation of a digit's level in a recording
NODES = (0, 150, 300, 600, 1000, 1500, 2000, 2700, 3400, 4000)  # Hz, where the microphone's response is drawn …
RESPONSE = 5.0              # … dB, its standard deviation; twice that at both ends
ROOMS = 0.3                 # share of recordings in a room …
REVERBERATION = (0.05, 0.4) # … s until its echo has fallen by 60 dB …
ECHO = (-25.0, -3.0)        # … dB of the echo against the direct sound
NOISY = 0.8                 # share of recordings with noise …
NOISE = (3.0, 40.0)         # … dB below the speech
COLOURS = (0.0, 2.0)        # exponent of the noise's spectrum: 0 white, 1 pink, 2 brown
PEAKS = (-40.0, -0.5)       # dB, loudest sample of full scale
CLIPPED = 0.1               # share of recordings that are too loud …
OVERDRIVE = (0.0, 9.0)      # … by so many dB


@dataclass(frozen=True)
class Job:
    """One pass over a speaker's digits."""

    digits: list[Utterance]
    audio: Path
    name: str
    seed: int


def work(job: Job) -> list[Utterance]:
    """Join the digits, disturb each recording, write it."""
    draw = random.Random(f"{job.seed} {job.name}")
    chance = np.random.default_rng([job.seed, zlib.crc32(job.name.encode())])
    rows = []
    for number, run in enumerate(runs(job.digits, draw)):
        parts = [soundfile.read(str(digit.audio), dtype="float32") for digit in run]
        rate = parts[0][1]
        spoken = respeak([part for part, _ in parts], rate, chance)
        samples, places = join(spoken, rate, draw)
        samples = rerecord(samples, rate, chance)
        rows.append(write_joined(run, samples, rate, places, job.audio / f"{job.name}-{number:03d}.wav"))
    return rows


def respeak(parts: list[np.ndarray], rate: int, chance: np.random.Generator) -> list[np.ndarray]:
    """Digits as another speaker would say them: cut, vocal tract, tempo and loudness."""
    voice, tempo = ratio(chance, *VOICES), ratio(chance, *TEMPOS)
    tight = chance.random() < TIGHT
    spoken = []
    for part in parts:
        part = tighten(part, rate, chance.uniform(*EDGES)) if tight else part
        part = change_voice(part, rate, voice)
        part = change_tempo(part, rate, tempo * ratio(chance, *UNEVEN) / voice)
        spoken.append(part * np.float32(decibels(chance.normal(0, STEPS))))
    return spoken


def rerecord(samples: np.ndarray, rate: int, chance: np.random.Generator) -> np.ndarray:
    """Speech as it comes through another microphone, in another room, with other noise, at another level."""
    samples = filter_by(samples, rate, chance.normal(0, RESPONSE, len(NODES)))
    if chance.random() < ROOMS:
        samples = reverberate(samples, rate, chance.uniform(*REVERBERATION), chance.uniform(*ECHO), chance)
    if chance.random() < NOISY:
        samples = add_noise(samples, rate, chance.uniform(*NOISE), chance.uniform(*COLOURS), chance)
    peak = decibels(chance.uniform(*PEAKS))
    if chance.random() < CLIPPED:
        peak = decibels(chance.uniform(*OVERDRIVE))
    return np.clip(samples * (peak / max(1e-6, float(np.abs(samples).max()))), -1, 1).astype(np.float32)


def tighten(samples: np.ndarray, rate: int, level: float) -> np.ndarray:
    """Speech (N,) without what is quieter than `level` dB below its peak at both ends, by frames of 10 ms."""
    width = rate // 100
    frames = samples[:len(samples) // width * width].reshape(-1, width)
    loudness = np.abs(frames).max(axis=1, initial=0.0)
    loud = np.flatnonzero(loudness > decibels(level) * loudness.max(initial=0.0))
    return samples[loud[0] * width:(loud[-1] + 1) * width] if len(loud) else samples


def change_voice(samples: np.ndarray, rate: int, factor: float) -> np.ndarray:
    """Speech (N,) with pitch and formants times `factor`, and a duration as much shorter (N / factor,)."""
    return soxr.resample(samples, rate * factor, rate, quality="HQ")


def change_tempo(samples: np.ndarray, rate: int, factor: float) -> np.ndarray:
    """Speech (N,) `factor` times as fast, its pitch and formants as before: (N / factor,), by a phase vocoder."""
    window = 256 if len(samples) >= 256 else 64     # 32 ms at 8 kHz
    return librosa.effects.time_stretch(samples, rate=factor, n_fft=window, hop_length=window // 4)


def filter_by(samples: np.ndarray, rate: int, gains: np.ndarray) -> np.ndarray:
    """Speech (N,) through a filter of zero phase, with gains in dB at NODES, the outermost counted twice."""
    size = len(samples) + rate // 10                # what a gain rings behind the end must not come in at the front
    gains = gains * np.where(np.isin(NODES, (NODES[0], NODES[-1])), 2, 1)
    response = decibels(np.interp(np.fft.rfftfreq(size, 1 / rate), NODES, gains))
    return np.fft.irfft(np.fft.rfft(samples, size) * response, size)[:len(samples)].astype(np.float32)


def reverberate(samples: np.ndarray, rate: int, seconds: float, level: float,
                chance: np.random.Generator) -> np.ndarray:
    """Speech (N,) in a room: noise that falls by 60 dB in so many seconds is its echo, at `level` dB."""
    time = np.arange(int(seconds * rate)) / rate
    tail = chance.normal(size=len(time)) * 10 ** (-3 * time / seconds)
    tail *= decibels(level) / np.sqrt((tail ** 2).sum())
    tail[0] += 1
    size = len(samples) + len(tail)
    return np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[:len(samples)].astype(np.float32)


def add_noise(samples: np.ndarray, rate: int, below: float, colour: float, chance: np.random.Generator) -> np.ndarray:
    """Speech (N,) and noise `below` dB below it, whose power falls with the frequency to the power of `colour`."""
    frequencies = np.maximum(np.fft.rfftfreq(len(samples), 1 / rate), 50)
    noise = np.fft.irfft(np.fft.rfft(chance.normal(size=len(samples))) * frequencies ** (-colour / 2), len(samples))
    return (samples + noise * (decibels(-below) * level_of(samples) / level_of(noise))).astype(np.float32)


def level_of(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(samples ** 2)))


def ratio(chance: np.random.Generator, low: float, high: float) -> float:
    """A factor by chance, as likely by so much up as down."""
    return float(np.exp(chance.uniform(np.log(low), np.log(high))))


def decibels(value: float | np.ndarray) -> float | np.ndarray:
    """A factor of amplitude."""
    return 10 ** (value / 20)


@click.command(help=__doc__)
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--passes", type=click.IntRange(0), default=8, show_default=True,
              help="How often each recording of FSDD's training speakers is used.")
@click.option("--synthetic", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Another folder in FSDD's layout.")
@click.option("--synthetic-passes", type=click.FloatRange(0), default=1.0, show_default=True,
              help="The same, of that; 0.5: of half of its speakers.")
@click.option("--seed", default=1, show_default=True)
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=os.cpu_count(), help="Processes; default: all cores.")
def main(corpus: Path, out: Path, passes: int, synthetic: Path | None, synthetic_passes: float, seed: int,
         jobs: int) -> None:
    real = [digit for digit in recordings(corpus) if split_of(digit.speaker or "") == "train"]
    made = recordings(synthetic) if synthetic else []
    work_list = _jobs(real, passes, out / "audio", seed) + _jobs(made, synthetic_passes, out / "audio", seed)
    (out / "audio").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs) as pool:
        rows = [row for part in pool.map(work, work_list, chunksize=8) for row in part]
    write_manifest(out / "train.jsonl", rows)
    click.echo(describe_splits({"train": rows}), err=True)


def _jobs(digits: list[Utterance], passes: float, audio: Path, seed: int) -> list[Job]:
    """Passes over each speaker's digits; a part of one is over as many of the speakers, by chance."""
    by_speaker: dict[str, list[Utterance]] = {}
    for digit in digits:
        by_speaker.setdefault(digit.speaker or "", []).append(digit)
    names, draw = sorted(by_speaker), random.Random(f"{seed} speakers")
    chosen = [(name, number) for number in range(math.ceil(passes))
              for name in sorted(draw.sample(names, round(len(names) * min(1.0, passes - number))))]
    return [Job(by_speaker[name], audio, f"{name}-{number}", seed) for name, number in chosen]


if __name__ == "__main__":
    run_recipe(main)
