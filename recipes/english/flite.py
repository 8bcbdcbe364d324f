"""Speech of flite's four voices with its own phones and times; they are made from recordings, which espeak's are not.

    python recipes/english/flite.py sentences.txt exp/flite --hours 3

Takes    one sentence a line, and the program `flite` 2.2 (Debian: apt install flite).
Splits   none: all is for training.
Leaves   nothing out; silences become gaps between the phones' times.
Phones   of the CMU dictionary; `ax` is written AH, as the dictionary does.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import soundfile

from asr.corpus.records import Utterance, write_manifest
from asr.corpus.splits import run_recipe
from asr.errors import AsrError

VOICES = {"kal16": (75, 150), "awb": (100, 190), "rms": (75, 150), "slt": (130, 240)}   # Hz, range of mean pitch
STRETCH = (0.8, 1.3)        # durations, times the voice's own
PEAKS = (0.1, 0.9)          # loudest sample, of full scale
DITHER = 2.0                # standard deviation of the noise floor, in steps of 16 bits
SILENCE = "pau"


def speak(program: str, sentence: str, voice: str, path: Path, seed: str) -> Utterance:
    """Say a sentence into the file; its phones and their times come from flite itself."""
    draw = random.Random(seed)
    low, high = VOICES[voice]
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "speech.wav"
        command = [program, "-voice", voice, "--setf", f"duration_stretch={draw.uniform(*STRETCH):.3f}",
                   "--setf", f"int_f0_target_mean={draw.uniform(low, high):.1f}", "-psdur", "-t", sentence,
                   "-o", str(raw)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not raw.exists():
            raise AsrError(f"flite: could not say {sentence!r}: {done.stderr.strip() or 'no reason given'}")
        samples, rate = soundfile.read(raw, dtype="float32")
    phones, times, begin = [], [], 0.0
    for word in done.stdout.split():
        phone, _, end = word.rpartition(":")
        if phone != SILENCE:
            phones.append("AH" if phone == "ax" else phone.upper())
            times.append([begin, float(end)])
        begin = float(end)
    samples = samples / max(np.abs(samples).max(), 1e-3) * draw.uniform(*PEAKS)
    noise = np.random.default_rng(zlib.crc32(seed.encode())).normal(0.0, DITHER / 32768, len(samples))
    soundfile.write(path, np.clip(samples + noise, -1.0, 1.0).astype(np.float32), rate, subtype="PCM_16")
    seconds = len(samples) / rate
    times = [[min(start, seconds), min(end, seconds)] for start, end in times]
    return Utterance(path.stem, path, duration=seconds, phones=tuple(phones), speaker=voice,
                     extra={"words": sentence, "phone_times": times})


@click.command(help=__doc__)
@click.argument("sentences", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--hours", default=3.0, show_default=True, help="Of speech to make, all voices together.")
@click.option("--seed", default=1, show_default=True)
@click.option("-j", "--jobs", default=2, show_default=True, type=click.IntRange(min=1), help="Threads.")
def main(sentences: Path, out: Path, hours: float, seed: int, jobs: int) -> None:
    program = shutil.which("flite")
    if not program:
        raise AsrError("flite: is not installed: on Debian and Ubuntu, apt install flite")
    try:
        lines = [line.strip() for line in sentences.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise AsrError(f"{sentences}: cannot be read: {error}") from error
    if not lines:
        raise AsrError(f"{sentences}: holds no sentence: write one a line")
    (out / "wav").mkdir(parents=True, exist_ok=True)
    rows: list[Utterance] = []
    made, names = 0.0, list(VOICES)
    with ThreadPoolExecutor(jobs) as pool:
        for start in range(0, len(lines), 200):
            said = pool.map(lambda i: speak(program, lines[i], names[i % len(names)],
                                            out / "wav" / f"{names[i % len(names)]}-{i:05}.wav", f"{seed} {i}"),
                            range(start, min(start + 200, len(lines))))
            for row in said:
                rows.append(row)
                made += row.duration or 0.0
            if made >= hours * 3600:
                break
    if made < hours * 3600:
        click.echo(f"{sentences}: has sentences for {made / 3600:.2f} h only", err=True)
    write_manifest(out / "train.jsonl", rows)


if __name__ == "__main__":
    run_recipe(main)
