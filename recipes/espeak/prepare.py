"""Make a corpus of synthetic speech: wavs, and manifests with the phones and their exact times.

    python recipes/espeak/prepare.py exp/espeak --train-hours 2.1 -j 2

Splits and exclusions: voices.tsv names the voices of train, dev and test, none of which is in two; no sentence, and no
sequence of phones, of dev or test occurs in another split. The same options give the same bytes, whatever -j is.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
import soxr
from espeak import Speech, Synthesiser
from numpy.typing import NDArray
from sentences import SPLITS, deal, plain

from asr.corpus.records import Utterance, read_manifest, write_manifest
from asr.corpus.splits import check_splits, describe_splits, run_recipe
from asr.errors import AsrError
from asr.files import writing

HERE = Path(__file__).parent
RATE = 16000                # Hz, of the files written
SHORTEST = 0.8              # s; a sentence that takes less is left out, and hours are planned with it
EDGE = (0.05, 0.25)         # s of silence before and after the sentence
DITHER = 2.0                # standard deviation of the noise floor, in steps of 16 bits: -84 dB, never digital silence
RATES = (140, 215)          # words a minute in training …
PITCHES = (35, 65)          # … espeak's pitch, 50 is the voice's own …
RANGES = (30, 70)           # … and its range; dev and test speak as the voice ships: 175, 50, 50
PEAKS = (0.1, 0.9)          # loudest sample in training, of full scale; dev and test: 0.5
STAMP = "espeak.json"
VOICES = HERE / "voices.tsv"


@dataclass(frozen=True)
class Plan:
    """All that decides the bytes of the corpus, apart from the recipe's own files."""

    language: str = "en-us"
    train_hours: float = 2.1
    dev_utterances: int = 160
    test_utterances: int = 300
    seed: int = 1
    noise: float | None = None      # dB; None: clean
    format: str = "wav"


@dataclass(frozen=True)
class Job:
    """One voice: the unit of work, done in a process of its own, so that its bytes depend on nothing else."""

    out: Path
    plan: Plan
    split: str
    voice: str
    sentences: list[str]
    seconds: float                  # of speech to make; infinite: all sentences
    utterances: int                 # to make at most

    @property
    def part(self) -> Path:
        """The manifest of this voice; when it is there, the voice is done."""
        return self.out / "wav" / self.split / f"{self.voice}.jsonl"


def prepare(out: Path, plan: Plan, jobs: int, sentences: Path | None = None,
            voices: Path = VOICES) -> dict[str, list[Utterance]]:
    """Make what is not there yet, and write the three manifests last.

    Raises:
        AsrError: the language or a voice is unknown, the folder holds something else, the disk is full, …
    """
    stamp = {"plan": asdict(plan), "recipe": _recipe_hash(voices, sentences)}
    if _begin(out, stamp):
        click.echo(f"{out}: up to date", err=True)
        return {split: read_manifest(out / f"{split}.jsonl") for split in SPLITS}
    work = _jobs(out, plan, sentences, read_voices(voices))
    _run([job for job in work if not job.part.exists()], len(work), jobs)
    rows = _merge(work)
    for split in SPLITS:
        write_manifest(out / f"{split}.jsonl", rows[split])
    return rows


def read_voices(path: Path = VOICES) -> dict[str, list[str]]:
    """The voices of each split, from a table like voices.tsv.

    Raises:
        AsrError: a split has no voice, or a voice is named twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AsrError(f"{path}: cannot be read: {error}") from error
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")][1:]
    voices = {split: [row[1] for row in rows if row[0] == split and len(row) > 1] for split in SPLITS}
    everyone = [voice for names in voices.values() for voice in names]
    for split in SPLITS:
        if not voices[split]:
            raise AsrError(f"{path}: names no voice for {split}: write lines of 'split<TAB>voice' below a header")
    if len(set(everyone)) < len(everyone):
        twice = next(voice for voice in everyone if everyone.count(voice) > 1)
        raise AsrError(f"{path}: names the voice {twice!r} twice")
    return voices


def _recipe_hash(*more: Path | None) -> str:
    """A checksum of everything beside the options that decides the bytes."""
    files = [HERE / name for name in ("prepare.py", "espeak.py", "sentences.py", "lexicon.txt", "grammar.txt",
                                      "numbers.txt")]
    try:
        contents = b"\0".join(path.read_bytes() for path in [*files, *more] if path)
    except OSError as error:
        raise AsrError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return f"{zlib.crc32(contents):08x}"


def _begin(out: Path, stamp: dict[str, Any]) -> bool:
    """Whether the corpus is finished; else make the folder ready, clearing what other options left behind."""
    manifests = [out / f"{split}.jsonl" for split in SPLITS]
    path = out / STAMP
    if path.exists():
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == stamp
        except ValueError:
            same = False
        if same:
            return all(manifest.exists() for manifest in manifests)
        click.echo(f"{out}: was made with other options, or by another version of the recipe: made anew", err=True)
        for manifest in manifests:
            manifest.unlink(missing_ok=True)
        shutil.rmtree(out / "wav", ignore_errors=True)
    elif (out / "wav").exists() or any(manifest.exists() for manifest in manifests):
        raise AsrError(f"{out}: holds files that this recipe did not make: give it a folder of its own")
    with writing(path) as file:
        json.dump(stamp, file, indent=1)
    return False


def _jobs(out: Path, plan: Plan, sentences: Path | None, voices: dict[str, list[str]]) -> list[Job]:
    # every voice of training fills its share of the hours; each of dev and test says as many sentences as the others
    seconds = {"train": plan.train_hours * 3600 / len(voices["train"]), "dev": np.inf, "test": np.inf}
    totals = {"dev": plan.dev_utterances, "test": plan.test_utterances}
    counts = {split: -(-total // len(voices[split])) for split, total in totals.items()}
    counts["train"] = int(seconds["train"] / SHORTEST) + 1
    dealt = deal(voices, counts, plan.language, sentences, plan.seed)
    return [Job(out, plan, split, voice, dealt[voice], seconds[split], counts[split])
            for split in SPLITS for voice in voices[split]]


def _run(jobs: list[Job], total: int, processes: int) -> None:
    """Work in processes that each do one job and end; those that are done stay done whatever happens to the rest."""
    began, heard = time.monotonic(), 0.0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "numpy", "soundfile", "soxr", "asr.corpus.splits"])
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        futures = [pool.submit(speak, job) for job in jobs]
        try:
            for done, future in enumerate(as_completed(futures), start=total - len(jobs) + 1):
                heard += future.result()
                if sys.stderr.isatty():
                    click.echo(f"\r{done}/{total} voices, {heard / 3600:.2f} h of speech, "
                               f"{heard / (time.monotonic() - began):.0f} x real time ", err=True, nl=done == total)
        except BrokenProcessPool as error:
            raise AsrError("a process was killed, for want of memory perhaps: start again, it goes on from there, "
                           "or use a smaller -j") from error
        finally:
            pool.shutdown(cancel_futures=True)


def speak(job: Job) -> float:
    """Synthesise one voice's sentences; gives the seconds made. Its manifest is written last."""
    synthesiser = Synthesiser(job.plan.seed)
    synthesiser.voice(job.plan.language, job.voice)
    draw = random.Random(f"{job.plan.seed} {job.voice} manner")
    noise = np.random.default_rng([job.plan.seed, zlib.crc32(job.voice.encode())])
    job.part.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Utterance] = []
    made = 0.0
    for sentence in job.sentences:
        if made >= job.seconds or len(rows) >= job.utterances:
            break
        speech = _say(synthesiser, sentence, job.split, draw)
        if not speech.phones or len(speech.samples) < SHORTEST * speech.rate:
            continue
        name = f"{job.voice}-{len(rows) + 1:04d}"
        samples, lead = _finish(speech, job, draw, noise)
        audio = job.part.parent / f"{name}.{job.plan.format}"
        try:
            soundfile.write(audio, samples, RATE, subtype="PCM_16")
        except (soundfile.LibsndfileError, OSError) as error:
            raise AsrError(f"{audio}: cannot be written: {error}") from error
        times = [[round(start / speech.rate + lead, 5), round(end / speech.rate + lead, 5)]
                 for _, start, end in speech.phones]
        rows.append(Utterance(name, audio, 0.0, len(samples) / RATE, tuple(phone for phone, _, _ in speech.phones),
                              job.voice, {"words": sentence, "phone_times": times}))
        made += len(samples) / RATE
    write_manifest(job.part, rows)
    return made


def _say(synthesiser: Synthesiser, sentence: str, split: str, draw: random.Random) -> Speech:
    """Training speech varies in rate and pitch."""
    if split != "train":
        return synthesiser.say(sentence)
    return synthesiser.say(sentence, rate=draw.randint(*RATES), pitch=draw.randint(*PITCHES),
                           range_=draw.randint(*RANGES))


def _finish(speech: Speech, job: Job, draw: random.Random,
            noise: np.random.Generator) -> tuple[NDArray[np.int16], float]:
    """Resample, set the loudness, add silence and noise; (N,) int16 at RATE, and the seconds put in front."""
    samples = soxr.resample(speech.samples.astype(np.float32) / 32768, speech.rate, RATE, quality="HQ")
    peak = draw.uniform(*PEAKS) if job.split == "train" else 0.5
    before, after = (round(draw.uniform(*EDGE) * RATE) for _ in range(2))
    samples *= peak / max(1e-3, float(np.abs(samples).max()))
    power = float(np.mean(samples ** 2))
    samples = np.pad(samples, (before, after)) * 32767
    floor = DITHER
    if job.plan.noise is not None and job.split == "train":
        ratio = job.plan.noise + draw.uniform(0, 20)
        floor = 32767 * np.sqrt(power / 10 ** (ratio / 10))
    samples += noise.standard_normal(len(samples), dtype=np.float32) * np.float32(floor)
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16), before / RATE


def _merge(work: list[Job]) -> dict[str, list[Utterance]]:
    """The rows of each split, the voices taking turns, without those that another split's test would know already."""
    rows: dict[str, list[Utterance]] = {}
    for split in SPLITS:
        parts = [read_manifest(job.part) for job in work if job.split == split]
        longest = max(len(part) for part in parts)
        rows[split] = [part[number] for number in range(longest) for part in parts if number < len(part)]
    # Two sentences may sound the same ("two", "too"): the one outside test, then the one outside dev, gives way.
    for held_back, others in (("test", ("dev", "train")), ("dev", ("train",))):
        heard = {row.phones for row in rows[held_back]}
        for split in others:
            rows[split] = [row for row in rows[split] if row.phones not in heard]
    words = {split: {plain(row.extra["words"]) for row in rows[split]} for split in SPLITS}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not words[one] & words[other], f"{one} and {other} share sentences"
    check_splits(rows)
    return rows


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--language", default=Plan.language, show_default=True, help="Of espeak-ng: en-us, de, fr, cmn, …")
@click.option("--sentences", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="One sentence a line; default: composed (English) or numbers (any other language).")
@click.option("--voices", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=VOICES,
              help="Table of speakers and their splits; default: the recipe's voices.tsv.")
@click.option("--train-hours", type=click.FloatRange(min=0.01), default=Plan.train_hours, show_default=True)
@click.option("--dev-utterances", type=click.IntRange(min=1), default=Plan.dev_utterances, show_default=True)
@click.option("--test-utterances", type=click.IntRange(min=1), default=Plan.test_utterances, show_default=True)
@click.option("--noise", type=float, metavar="DB", help="White noise in training, DB to DB + 20 below the speech.")
@click.option("--format", "format_", type=click.Choice(["wav", "flac"]), default=Plan.format, show_default=True)
@click.option("--seed", type=int, default=Plan.seed, show_default=True)
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=os.cpu_count(), help="Processes; default: all cores.")
def main(out: Path, language: str, sentences: Path | None, voices: Path, train_hours: float, dev_utterances: int,
         test_utterances: int, noise: float | None, format_: str, seed: int, jobs: int) -> None:
    """Synthesise a corpus into the folder OUT."""
    plan = Plan(language, train_hours, dev_utterances, test_utterances, seed, noise, format_)
    rows = prepare(out, plan, jobs, sentences, voices)
    phones = sorted({phone for split in SPLITS for row in rows[split] for phone in row.phones or ()})
    click.echo(f"{describe_splits(rows)}\n{len(phones)} phones: {' '.join(phones)}", err=True)


if __name__ == "__main__":
    run_recipe(main)
