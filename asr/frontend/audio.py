"""Audio in: files and pipes to samples in [-1, 1] at the model's rate.

soundfile (libsndfile) decodes; soxr resamples at its high quality, a whole recording or a stream of pieces, to the
same samples bit for bit. It is librosa's engine, called directly because librosa takes seconds to import and cannot
stream; where samples are there already, as for a change of speed, librosa calls it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr

from asr.errors import AsrError
from asr.frontend.decoders import BLOCK, SLACK, Onward, PlainWav, Soundfile, Source
from asr.frontend.headers import RIFF, Recorder, ogg_ends, read_fully, read_wav_header, sphere_lack

LOWEST_RATE, HIGHEST_RATE = 8000, 768_000   # Hz: below the lowest, the consonants are gone
MOST_CHANNELS = 64
HEAD = 1 << 16                  # bytes of a pipe by which the format is known
CANCELLED = 1e-3                # of the channels' energy: with less, their mean has lost what they held
EVIDENCE = 0.025                # s, for a few samples may well be opposites by chance
LOUDEST = 1e10                  # a sample beyond it is no sound; its square would overflow in the features

Channel = Literal["mix"] | int


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file holds."""

    duration: float             # seconds
    rate: int                   # Hz
    channels: int
    frames: int                 # samples in each channel


def probe(path: Path, *, torn: bool = False) -> AudioInfo:
    """Look at an audio file's header.

    Args:
        torn: of a file that was cut off, tell what is left of it.

    Raises:
        AsrError: the file is missing, no audio, its header is absurd, or it was cut off and `torn` is not set.
    """
    with _open_file(Path(path), str(path)) as source:
        if source.damage and not torn:
            raise AsrError(f"{path}: {source.damage}: get it again or take it out")
        frames = source.frames
        if frames is None:
            frames = sum(len(block) for block in _blocks(source, 0, None, BLOCK, "mix", str(path)))
        return AudioInfo(frames / source.rate, source.rate, source.channels, frames)


def read_audio(path: Path, *, rate: int, channel: Channel = "mix", offset: float = 0.0,
               duration: float | None = None, id: str | None = None) -> np.ndarray:
    """Read a stretch of a recording.

    Args:
        path: WAV, FLAC, OGG, MP3, SPHERE, or whatever else libsndfile reads.
        rate: Hz of the samples returned.
        channel: "mix" for the mean of all channels, or the number of one, from 0.
        offset: where the stretch begins, in seconds.
        duration: its length in seconds; None: to the end.
        id: the utterance, for the errors' sake.

    Returns:
        (N,) float32 samples.

    Raises:
        AsrError: the file is missing, empty, cut off, damaged or no audio; its rate is below 8 kHz; the channel or the
            stretch is not there; samples are NaN or infinite.
    """
    name = f"{path} (utterance {id!r})" if id else str(path)
    with _open_file(Path(path), name) as source:
        first, count = _stretch(source, offset, duration, name)
        blocks = list(_blocks(source, first, count, BLOCK, channel, name))
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return samples if source.rate == rate else soxr.resample(samples, source.rate, rate, quality="HQ")


def stream_audio(source: Path | BinaryIO, *, rate: int, channel: Channel = "mix", block: float = 10.0,
                 offset: float = 0.0, duration: float | None = None, name: str | None = None,
                 told: Callable[[int], None] | None = None) -> Iterator[np.ndarray]:
    """Read a recording of any length, or a stretch of it, piece by piece, in memory that does not grow with it.

    The pieces joined are what `read_audio` gives.

    Args:
        source: a file, a named pipe, or an open binary stream. WAV comes through a pipe as it is spoken; other
            formats need to seek and are first copied to a temporary file.
        rate: Hz of the samples.
        channel: as in `read_audio`.
        block: seconds read at a time.
        offset: where the stretch begins, in seconds; of a pipe, what lies before it is heard and passed over.
        duration: its length in seconds; None: to the end.
        name: of the source, for the errors' sake.
        told: is called with the source's own rate before the first piece.

    Yields:
        (n,) float32 samples, about `block` seconds of them.

    Raises:
        AsrError: as `read_audio`; what was heard before the damage has been given by then.
    """
    name = name or (str(source) if isinstance(source, Path) else "standard input")
    broken = None
    with _open_file(source, name, pipes=True) if isinstance(source, Path) else _open_pipe(source, name) as decoder:
        if told is not None:
            told(decoder.rate)
        first, count = _stretch(decoder, offset, duration, name)
        pieces = _blocks(decoder, first, count, max(1, round(block * decoder.rate)), channel, name)
        if decoder.rate == rate:
            yield from pieces
            return
        stream = soxr.ResampleStream(decoder.rate, rate, 1, dtype="float32", quality="HQ")
        try:
            for piece in pieces:
                yield stream.resample_chunk(piece)
        except AsrError as error:       # what the filter still holds was heard as well
            broken = error
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
        if broken:
            raise broken


def change_speed(samples: np.ndarray, rate: int, speed: float) -> np.ndarray:
    """Samples played `speed` times as fast, the pitch rising with it.

    (N,) → (`resampled_length(N, rate · speed, rate)`,). This is the perturbation of speed of Ko et al. 2015.
    """
    if speed == 1.0:
        return samples
    import librosa  # some seconds to import, and only training data need it

    return librosa.resample(samples, orig_sr=rate * speed, target_sr=rate, res_type="soxr_hq", fix=False)


def resampled_length(samples: int, source: float, target: float) -> int:
    """How many samples become of so many at another rate."""
    return int(samples * target / source + 0.5)


@contextlib.contextmanager
def _open_file(path: Path, name: str, *, pipes: bool = False) -> Iterator[Source]:
    """A decoder of a file, with its header checked."""
    try:
        file = path.open("rb", buffering=0) if pipes or not path.is_fifo() else None
    except IsADirectoryError:
        file = None
    except OSError as error:
        raise AsrError(f"{name}: cannot be read: {error.strerror}") from error
    except ValueError as error:         # a NUL in the name
        raise AsrError(f"{name!r}: cannot be a file's name: {error}") from error
    if file is None:
        raise AsrError(f"{name}: is no file")
    with file:
        mode = os.fstat(file.fileno())
        if not stat.S_ISREG(mode.st_mode):
            if not pipes:
                raise AsrError(f"{name}: is no file")
            with _open_pipe(file, name) as source:
                yield source
        elif mode.st_size == 0:
            raise AsrError(f"{name}: is empty (0 bytes): get it again or take it out")
        else:
            with _decoding(name):
                yield _decoder(file, mode.st_size, name)


def _decoder(file: BinaryIO, size: int, name: str) -> Source:
    """The decoder for a regular file of `size` bytes, opened at its start."""
    magic = read_fully(file, 7)
    file.seek(0)
    header, held, lack, damage = None, 0, 0, ""
    if magic[:4] in RIFF:
        header = read_wav_header(file, name)
        _check(header.rate, header.channels, name)
        held = max(0, size - header.start)
        lack = max(0, (header.size or 0) - held)
    elif magic == b"NIST_1A":
        lack = sphere_lack(file)
    elif magic[:4] == b"OggS" and not ogg_ends(file):
        damage = "cut off: its last page is missing"
    if lack:
        damage = f"cut off: its header promises {lack:,} bytes more than there are"
    if header is not None and header.plain:
        file.seek(header.start)
        size = held if header.size is None else min(header.size, held)
        return PlainWav(file, header, size // header.frame, seeks=True, damage=damage)
    file.seek(0)
    sound = Onward(file.fileno(), closefd=False)
    _check(sound.samplerate, sound.channels, name)
    return Soundfile(sound, damage)


@contextlib.contextmanager
def _open_pipe(stream: BinaryIO, name: str) -> Iterator[Source]:
    """A decoder of a stream that may be unable to seek."""
    if not (head := read_fully(stream, 4)):
        raise AsrError(f"{name}: is empty: no audio came")
    if head in RIFF:
        recorder = Recorder(stream, head)
        header = read_wav_header(recorder, name, head)
        _check(header.rate, header.channels, name)
        if header.plain:
            frames = None if header.size is None else header.size // header.frame
            yield PlainWav(stream, header, frames)
            return
        head = bytes(recorder.heard)
    head += read_fully(stream, HEAD)
    with tempfile.TemporaryFile(buffering=0) as copy:
        copy.write(head)
        if len(head) >= HEAD and head[:3] != b"ID3":    # such a tag may be longer
            _check_known(copy, name)
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        with _decoding(name):
            yield _decoder(copy, os.fstat(copy.fileno()).st_size, name)


def _check_known(start: BinaryIO, name: str) -> None:
    """Refuse a stream that does not begin as audio does: it may never end, and would be copied until then."""
    start.seek(0)
    try:
        with _decoding(name):
            soundfile.SoundFile(start.fileno(), closefd=False).close()
    except AsrError as error:
        if "not recognised" in str(error):      # other complaints may be about what is still to come
            raise
    start.seek(0, os.SEEK_END)


def _check(rate: int, channels: int, name: str) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AsrError(f"{name}: its sample rate is {rate} Hz: it must be {LOWEST_RATE} to {HIGHEST_RATE} Hz: "
                       "get a better copy or take it out")
    if not 1 <= channels <= MOST_CHANNELS:
        raise AsrError(f"{name}: its header promises {channels} channels: that cannot be: get it again")


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".") or "its samples cannot be decoded"
        advice = ": give WAV, FLAC, OGG, MP3 or SPHERE" if "not recognised" in reason else ""
        raise AsrError(f"{name}: no audio, or damaged: {reason}{advice}") from error


def _stretch(source: Source, offset: float, duration: float | None, name: str) -> tuple[int, int | None]:
    """First frame and number of frames of a stretch; None: to the end, wherever that is."""
    first = round(offset * source.rate)
    wanted = None if duration is None else round((offset + duration) * source.rate) - first
    total = source.frames
    if total is None or (first == 0 and wanted is None):
        return first, wanted if total is None else total
    if first >= total or (wanted is not None and first + wanted > total + SLACK * source.rate):
        if source.damage:
            raise AsrError(f"{name}: {source.damage}: get it again or take it out")
        end = "" if duration is None else f" to {offset + duration:.2f} s"
        raise AsrError(f"{name}: the stretch from {offset:.2f} s{end} is outside the recording of "
                       f"{total / source.rate:.2f} s: mend 'offset' and 'duration'")
    return first, total - first if wanted is None else min(wanted, total - first)


def _blocks(source: Source, first: int, count: int | None, size: int, channel: Channel,
            name: str) -> Iterator[np.ndarray]:
    """One channel of `count` frames from `first` on, checked, in blocks of (size,) float32.

    Raises:
        AsrError: behind the last good block, when the recording breaks off or holds a sample that is no number.
    """
    if channel != "mix" and channel >= source.channels:
        raise AsrError(f"{name}: has {source.channels} channel{'s' * (source.channels > 1)}: there is no channel "
                       f"{channel} (they count from 0): set features.channel")
    source.skip(first)
    heard, before, behind = 0, 0.0, 0.0         # the energy of the channels, and of their mean
    while count is None or heard < count:
        block = source.read(size if count is None else min(size, count - heard))
        if not len(block):
            break
        mono = _one_channel(block, channel, f"{name}: at {(first + heard) / source.rate:.2f} s")
        yield mono
        heard += len(block)
        if block.shape[1] > 1:
            before += float(np.vdot(block, block)) / block.shape[1]
            behind += float(np.dot(mono, mono))
    if channel == "mix" and heard > EVIDENCE * source.rate and behind < CANCELLED * before:
        raise AsrError(f"{name}: its channels cancel each other out when they are mixed: choose one, by "
                       "features.channel=0")
    if count is not None and heard < count - source.slack:
        raise AsrError(f"{name}: breaks off after {(first + heard) / source.rate:.2f} of "
                       f"{(first + count) / source.rate:.2f} s: it was cut off or is damaged")
    if source.damage and (source.frames is None or count is None or first + count >= source.frames):
        raise AsrError(f"{name}: {source.damage}: get it again or take it out")
    if not heard:
        raise AsrError(f"{name}: holds no samples: record it again or take it out")


def _one_channel(block: np.ndarray, channel: Channel, where: str) -> np.ndarray:
    """(n, C) → (n,) float32, contiguous."""
    if channel != "mix":
        mono = np.ascontiguousarray(block[:, channel])
    else:
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        sound = np.dot(mono, mono) < LOUDEST    # NaN is not; one product sees what three comparisons would
    if not sound:
        bad = int(np.count_nonzero(~(np.abs(mono) < LOUDEST)))
        if bad:
            raise AsrError(f"{where}: {bad} sample{'s are' if bad > 1 else ' is'} NaN or infinite: "
                           "get it again or take it out")
    return mono
