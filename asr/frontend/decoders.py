"""Decoders that stand somewhere in a recording: libsndfile's, and a faster one of plain WAV."""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol

import numpy as np
import soundfile

from asr.frontend.headers import FLOAT, WavHeader, read_fully

BLOCK = 1 << 19                 # frames read at a time, so that a header cannot make us reserve more than there is
SLACK = 0.05                    # s by which a manifest's times, being rounded, and an MP3's header may overshoot
ENDLESS = 1 << 62               # libsndfile's count for a stream of unknown length is near the largest integer


class Source(Protocol):
    """A decoder that stands somewhere in a recording."""

    rate: int
    channels: int
    frames: int | None          # that the recording promises; None: nobody knows before its end
    slack: int                  # frames that may be missing from the promise
    damage: str                 # what is known to be wrong at the end of the recording; "" if nothing is

    def read(self, frames: int) -> np.ndarray:
        """The next (n, C) float32 samples; n < frames at the end only."""

    def skip(self, frames: int) -> None:
        """Move on by so many frames."""


class Onward(soundfile.SoundFile):
    """A file read from front to back: else soundfile seeks behind each read to where it is, which an MP3 hears."""

    def seekable(self) -> bool:
        """No."""
        return False


class Soundfile:
    """Whatever libsndfile decodes."""

    def __init__(self, sound: soundfile.SoundFile, damage: str) -> None:
        self.sound, self.rate, self.channels, self.damage = sound, sound.samplerate, sound.channels, damage
        self.frames = sound.frames if sound.frames < ENDLESS else None
        self.slack = round(SLACK * self.rate) if sound.format == "MP3" else 0

    def read(self, frames: int) -> np.ndarray:
        """As `Source`."""
        return self.sound.read(frames, dtype="float32", always_2d=True)

    def skip(self, frames: int) -> None:
        """As `Source`."""
        if frames:
            self.sound.seek(min(self.sound.tell() + frames, self.sound.frames))


class PlainWav:
    """Plain WAV samples: from a pipe, as they come, or from a file, several times as fast as through libsndfile."""

    slack = 0

    def __init__(self, stream: BinaryIO, header: WavHeader, frames: int | None, *, seeks: bool = False,
                 damage: str = "") -> None:
        self.stream, self.header, self.seeks, self.damage = stream, header, seeks, damage
        self.rate, self.channels, self.frames = header.rate, header.channels, frames

    def read(self, frames: int) -> np.ndarray:
        """As `Source`."""
        data = read_fully(self.stream, frames * self.header.frame)
        torn = len(data) % self.header.frame
        if torn:
            self.damage = "ends in the middle of a sample: it was cut off"
        return _numbers(data[:len(data) - torn], self.header).reshape(-1, self.channels)

    def skip(self, frames: int) -> None:
        """As `Source`."""
        if self.seeks:
            self.stream.seek(frames * self.header.frame, os.SEEK_CUR)
            return
        while frames and len(gone := self.read(min(frames, BLOCK))):
            frames -= len(gone)


def _numbers(data: bytes, header: WavHeader) -> np.ndarray:
    """Samples of plain WAV as float32 in [-1, 1), scaled as libsndfile does."""
    if header.tag == FLOAT:
        return np.frombuffer(data, f"<f{header.bits // 8}").astype(np.float32)
    if header.bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if header.bits == 24:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return padded.view("<i4").ravel().astype(np.float32) / 2.0 ** 31
    samples = np.frombuffer(data, f"<i{header.bits // 8}").astype(np.float32)
    samples *= np.float32(2.0 ** (1 - header.bits))
    return samples
