"""What an audio file's header promises, held against what the file holds.

libsndfile takes a recording that was cut off for a shorter one, and cannot read WAV from a pipe. So three headers are
read here: WAV (RIFF and RF64; Microsoft's "Multimedia Programming Interface", 1991, and EBU Tech 3306), NIST SPHERE,
and the pages of Ogg (RFC 3533).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from asr.errors import AsrError

RIFF = (b"RIFF", b"RF64")
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE   # WAV format tags
UNKNOWN = 0x7FFFF000                    # sizes from here on are written by programs that did not know the length
OGG_PAGE = 65307                        # bytes, at most
LONGEST_CHUNK = 1 << 20                 # bytes of a chunk before the samples, at most


class Readable(Protocol):
    """The part of a binary stream that a pipe has too."""

    def read(self, size: int, /) -> bytes | None:
        """Up to `size` bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class WavHeader:
    """The head of a WAV stream, up to its first sample."""

    tag: int                            # PCM, FLOAT, or another that only libsndfile knows
    channels: int
    rate: int                           # Hz
    bits: int                           # of a sample
    start: int                          # bytes before the first sample
    size: int | None                    # bytes of samples; None: to the end of the stream

    @property
    def frame(self) -> int:
        """Bytes of one sample in all channels."""
        return self.channels * self.bits // 8

    @property
    def plain(self) -> bool:
        """Whether the samples are plain numbers, not a codec's."""
        return (self.tag, self.bits) in {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)}


def read_wav_header(stream: Readable, name: str, head: bytes = b"") -> WavHeader:
    """Read a WAV header without seeking; the stream then stands at the first sample.

    Args:
        stream: at its first byte, or behind `head`.
        name: of the stream, for the errors' sake.
        head: what was read of it already, 12 bytes at most.

    Raises:
        AsrError: the stream is no WAV or ends within its header.
    """
    riff, riff_size, wave = struct.unpack("<4sI4s", head + _exactly(stream, 12 - len(head), name))
    if riff not in RIFF or wave != b"WAVE":
        raise AsrError(f"{name}: begins like a WAV file and is none: get it again or take it out")
    position, form, long_size = 12, None, None
    while True:
        chunk, size = struct.unpack("<4sI", _exactly(stream, 8, name))
        position += 8
        if chunk == b"data":
            break
        if size > LONGEST_CHUNK:
            raise AsrError(f"{name}: damaged WAV header: a chunk of {size} bytes stands before the samples: get "
                           "it again or take it out")
        body = _exactly(stream, size + size % 2, name)
        position += len(body)
        if chunk == b"fmt ":
            form = _wav_format(body, name)
        elif chunk == b"ds64" and size >= 16:
            long_size = struct.unpack_from("<Q", body, 8)[0]
    if form is None:
        raise AsrError(f"{name}: damaged WAV header: the samples' format is missing: get it again or take it "
                       "out")
    if size >= UNKNOWN:
        data: int | None = long_size if riff == b"RF64" else None
    elif size == 0 and (riff_size >= UNKNOWN or riff_size <= position - 8):
        data = None                     # a pipe's header, whose lengths nobody came back to fill in
    else:
        data = size
    return WavHeader(*form, start=position, size=data)


def _wav_format(body: bytes, name: str) -> tuple[int, int, int, int]:
    if len(body) < 16:
        raise AsrError(f"{name}: damaged WAV header: its format chunk is cut off: get it again or take it out")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if tag == EXTENSIBLE and len(body) >= 26:
        tag = struct.unpack_from("<H", body, 24)[0]
    return tag, channels, rate, bits


def _exactly(stream: Readable, size: int, name: str) -> bytes:
    data = read_fully(stream, size)
    if len(data) < size:
        raise AsrError(f"{name}: ends within its header: it was cut off: get it again or take it out")
    return data


class Recorder:
    """A stream that keeps what was read of it."""

    def __init__(self, stream: Readable, heard: bytes) -> None:
        self.stream, self.heard = stream, bytearray(heard)

    def read(self, size: int, /) -> bytes:
        """The next bytes, as the stream gives them."""
        data = self.stream.read(size) or b""
        self.heard += data
        return data


def read_fully(stream: Readable, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end of the stream (a pipe gives what it has)."""
    parts, missing = [], size
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def sphere_lack(file: BinaryIO) -> int:
    """How many bytes a SPHERE file lacks of what its header promises (0 where the samples are compressed).

    Args:
        file: opened for reading, seekable; it is left at its start.
    """
    try:
        start = int(file.read(16)[8:])
        file.seek(0)
        lines = file.read(min(start, 1 << 16)).decode("latin-1").splitlines()
        fields = {line.split()[0]: line.split()[2] for line in lines if len(line.split()) >= 3}
        promised = int(fields["sample_count"]) * int(fields["sample_n_bytes"]) * int(fields.get("channel_count", 1))
        plain = "," not in fields.get("sample_coding", "pcm")
        return max(0, start + promised - os.fstat(file.fileno()).st_size) if plain else 0
    except (KeyError, ValueError):
        return 0                        # libsndfile will say what is wrong with it
    finally:
        file.seek(0)


def ogg_ends(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file, seekable, is marked as the last of its stream; it is left at its start."""
    file.seek(max(0, os.fstat(file.fileno()).st_size - OGG_PAGE))
    tail = read_fully(file, OGG_PAGE)
    file.seek(0)
    page = tail.rfind(b"OggS")
    return page >= 0 and len(tail) > page + 5 and bool(tail[page + 5] & 4)
