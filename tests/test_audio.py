"""Audio in: formats, stretches, pipes, and everything that a file can have wrong with it."""

from __future__ import annotations

import io
import os
import struct
import threading
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.frontend.audio import change_speed, probe, read_audio, resampled_length, stream_audio

RATE = 16000


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((frames, channels)) * 0.1
    return x[:, 0] if channels == 1 else x


def wav(samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def with_bytes(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value):]


class Pipe(io.RawIOBase):
    """Bytes that come in small pieces and cannot be sought in."""

    def __init__(self, data: bytes, piece: int = 1000) -> None:
        self.data, self.piece = io.BytesIO(data), piece

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.data.read(min(size, self.piece))


def heard(source, **how) -> tuple[np.ndarray, str]:
    """What a stream gives, and what it complains about behind it."""
    pieces = []
    try:
        for piece in stream_audio(source, **{"rate": RATE, **how}):
            pieces.append(piece)
    except AsrError as error:
        return np.concatenate([np.zeros(0, np.float32), *pieces]), str(error)
    return np.concatenate(pieces), ""


@pytest.mark.parametrize(("name", "how", "tolerance"), [
    ("x.wav", {"subtype": "PCM_16"}, 2 ** -15), ("x.wav", {"subtype": "PCM_24"}, 2 ** -23),
    ("x.wav", {"subtype": "PCM_32"}, 1e-7), ("x.wav", {"subtype": "FLOAT"}, 1e-7), ("x.flac", {}, 2 ** -15),
    ("x.sph", {"format": "NIST"}, 2 ** -15), ("x.ogg", {}, None), ("x.mp3", {}, None)])
def test_formats(tmp_path: Path, name: str, how: dict, tolerance: float | None) -> None:
    t = np.arange(RATE) / RATE
    x = 0.5 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / name, x, RATE, **how)
    y = read_audio(tmp_path / name, rate=RATE)
    assert y.dtype == np.float32
    assert y.shape == x.shape
    assert (np.abs(x - y).max() <= tolerance) if tolerance else (np.corrcoef(x, y)[0, 1] > 0.99)
    assert probe(tmp_path / name).duration == 1.0


def test_stereo_is_mixed_or_one_channel_chosen(tmp_path: Path) -> None:
    x = noise(4000, 2)
    soundfile.write(tmp_path / "x.wav", x, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "x.wav", rate=RATE), x.mean(1), atol=1e-7)
    np.testing.assert_allclose(read_audio(tmp_path / "x.wav", rate=RATE, channel=1), x[:, 1], atol=1e-7)
    with pytest.raises(AsrError, match=r"x\.wav: has 2 channels: there is no channel 2 \(they count from 0\): set fe"):
        read_audio(tmp_path / "x.wav", rate=RATE, channel=2)


def test_channels_that_cancel_each_other_out(tmp_path: Path) -> None:
    """One wire the wrong way round: the mean of both is nothing, or next to it, and no speech."""
    left = noise(3 * RATE)
    for rest in (0.0, 0.01):
        soundfile.write(tmp_path / "x.wav", np.stack([left, rest * noise(3 * RATE, seed=1) - left], axis=1), RATE)
        with pytest.raises(AsrError, match=r"x\.wav: its channels cancel each other out when they are mixed: choose"):
            read_audio(tmp_path / "x.wav", rate=RATE)
        assert len(read_audio(tmp_path / "x.wav", rate=RATE, channel=1)) == 3 * RATE
    soundfile.write(tmp_path / "x.wav", np.zeros((RATE, 2)), RATE)
    assert not read_audio(tmp_path / "x.wav", rate=RATE).any()


@pytest.mark.parametrize("name", ["x.wav", "x.flac"])
def test_stretches_tile_the_recording(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(20000), RATE)
    whole = read_audio(path, rate=RATE)
    parts = [read_audio(path, rate=RATE, offset=a, duration=b - a) for a, b in ((0, 0.3), (0.3, 0.77))]
    parts.append(read_audio(path, rate=RATE, offset=0.77))
    assert np.array_equal(np.concatenate(parts), whole)
    assert len(read_audio(path, rate=RATE, offset=1.0, duration=0.29)) == 4000    # 40 ms over the end: rounding
    with pytest.raises(AsrError, match=r"the stretch from 1\.00 s to 1\.40 s is outside the recording of 1\.25 s"):
        read_audio(path, rate=RATE, offset=1.0, duration=0.4)
    with pytest.raises(AsrError, match=r"\(utterance 'u7'\): the stretch from 1\.25 s is outside"):
        read_audio(path, rate=RATE, offset=1.25, id="u7")


@pytest.mark.parametrize("source", [8000, 11025, 22050, 44100, 48000])
def test_resampling_is_librosas_and_keeps_a_tone(tmp_path: Path, source: int) -> None:
    x = np.sin(2 * np.pi * 1000 * np.arange(source) / source).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", x, source, subtype="FLOAT")
    y = read_audio(tmp_path / "x.wav", rate=RATE)
    assert len(y) == resampled_length(source, source, RATE)
    assert np.array_equal(y, librosa.resample(x, orig_sr=source, target_sr=RATE, res_type="soxr_hq"))
    assert np.abs(np.fft.rfft(y)).argmax() == 1000


@given(st.integers(1, 30000), st.sampled_from([0.5, 0.9, 1.0, 1.05, 1.1, 2.0]))
@settings(max_examples=60, deadline=None)
def test_length_after_a_change_of_speed_is_known_before(n: int, speed: float) -> None:
    assert len(change_speed(np.ones(n, np.float32), RATE, speed)) == resampled_length(n, RATE * speed, RATE)


def test_faster_is_shorter_and_higher() -> None:
    x = np.sin(2 * np.pi * 1000 * np.arange(11 * RATE // 10) / RATE).astype(np.float32)
    y = change_speed(x, RATE, 1.1)
    assert len(y) == RATE
    assert np.abs(np.fft.rfft(y)).argmax() == 1100


@given(st.sampled_from([8000, 16000, 44100]), st.integers(1, 2), st.integers(1, 30000),
       st.floats(0.001, 2), st.sampled_from(["file", "pipe", "flac"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_streamed_is_whole(tmp_path: Path, rate: int, channels: int, n: int, block: float, road: str) -> None:
    path = tmp_path / ("x.flac" if road == "flac" else "x.wav")
    soundfile.write(path, noise(n, channels), rate)
    whole = read_audio(path, rate=RATE)
    source = path if road == "file" else Pipe(path.read_bytes())
    assert np.array_equal(heard(source, block=max(block, n / rate / 50))[0], whole)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_a_pipe_gives_the_same_samples_as_libsndfile(tmp_path: Path, subtype: str) -> None:
    data = wav(noise(5000, 2), subtype=subtype)
    (tmp_path / "x.wav").write_bytes(data)
    assert np.array_equal(heard(Pipe(data))[0], read_audio(tmp_path / "x.wav", rate=RATE))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_lengths_that_a_pipe_never_filled_in(tmp_path: Path, size: int) -> None:
    data = wav(noise(5000))
    whole = heard(io.BytesIO(data))[0]
    lengths = struct.pack("<I", size)
    data = with_bytes(with_bytes(data, 4, lengths), 40, lengths)
    (tmp_path / "x.wav").write_bytes(data)
    assert np.array_equal(heard(Pipe(data))[0], whole)
    assert np.array_equal(read_audio(tmp_path / "x.wav", rate=RATE), whole)
    assert probe(tmp_path / "x.wav").frames == 5000


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_pipe_cut_off_gives_what_was_heard_and_says_so(rate: int) -> None:
    data = wav(noise(rate), rate)
    samples, complaint = heard(Pipe(data[:44 + rate]), block=0.1)
    assert len(samples) == RATE // 2
    assert complaint == "standard input: breaks off after 0.50 of 1.00 s: it was cut off or is damaged"
    samples, complaint = heard(Pipe(with_bytes(data, 40, b"\xff" * 4)[:44 + rate + 1]))
    assert len(samples) == RATE // 2
    assert complaint == "standard input: ends in the middle of a sample: it was cut off: get it again or take it out"


def test_a_named_pipe_is_a_stream(tmp_path: Path) -> None:
    path, data = tmp_path / "fifo", wav(noise(5000))
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    assert len(heard(path)[0]) == 5000
    writer.join()
    with pytest.raises(AsrError, match="fifo: is no file"):
        read_audio(path, rate=RATE)


def test_a_stream_of_an_hour_holds_a_block_at_a_time() -> None:
    class Endless(io.RawIOBase):
        head, left = with_bytes(wav(np.zeros(1)), 40, b"\xff" * 4)[:44], 3600 * RATE * 2
        most = 0

        def read(self, size: int = -1) -> bytes:
            if self.head:
                data, self.head = self.head[:size], self.head[size:]
                return data
            self.most, size = max(self.most, size), min(size, self.left)
            self.left -= size
            return bytes(size)

    source = Endless()
    pieces = [len(piece) for piece in stream_audio(source, rate=RATE)]
    assert sum(pieces) == 3600 * RATE
    assert max(pieces) <= 10 * RATE
    assert source.most <= 10 * RATE * 2


BAD = {
    "missing.wav": (None, "missing.wav: cannot be read: No such file or directory"),
    "empty.wav": (b"", "empty.wav: is empty (0 bytes): get it again or take it out"),
    "nothing.wav": (wav(np.zeros(0)), "nothing.wav: holds no samples: record it again or take it out"),
    "text.wav": (b"This is no audio at all, whatever its name.",
                 "text.wav: no audio, or damaged: Format not recognised: give WAV, FLAC, OGG, MP3 or SPHERE"),
    "head.wav": (wav(noise(100))[:30], "head.wav: ends within its header: it was cut off"),
    "cut.wav": (wav(noise(1000))[:1044],
                "cut.wav: cut off: its header promises 1,000 bytes more than there are: get it again or take it out"),
    "huge.wav": (with_bytes(wav(np.zeros(0)), 40, struct.pack("<I", 0x7FFF0000)),
                 "huge.wav: cut off: its header promises 2,147,418,112 bytes more than there are: "
                 "get it again or take it out"),
    "nan.wav": (wav(np.array([0.1, np.nan, np.inf, 0.2]), subtype="FLOAT"),
                "nan.wav: at 0.00 s: 2 samples are NaN or infinite: get it again or take it out"),
    "low.wav": (wav(noise(100), 4000), "low.wav: its sample rate is 4000 Hz: it must be 8000 to 768000 Hz"),
    "zero.wav": (with_bytes(wav(noise(100)), 24, bytes(4)),
                 "zero.wav: its sample rate is 0 Hz: it must be 8000 to 768000 Hz"),
    "many.wav": (with_bytes(wav(noise(6000)), 22, struct.pack("<H", 300)),
                 "many.wav: its header promises 300 channels: that cannot be"),
    "chunk.wav": (b"RIFF\xff\xff\xff\xffWAVEjunk\xff\xff\xff\xff" + bytes(100),
                  "chunk.wav: damaged WAV header: a chunk of 4294967295 bytes stands before the samples"),
    "form.wav": (b"RIFF\x24\x00\x00\x00WAVEdata\x10\x00\x00\x00" + bytes(16),
                 "form.wav: damaged WAV header: the samples' format is missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    data, message = BAD[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(AsrError) as error:
        read_audio(tmp_path / name, rate=RATE)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/{message}")
    assert heard(tmp_path / name)[1].startswith(f"{tmp_path}/{message}")


@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.mp3", "x.sph"])
def test_cut_off(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(RATE * 3), RATE, **({"format": "NIST"} if name == "x.sph" else {}))
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(AsrError, match=r"cut off|breaks off|damaged"):
        read_audio(path, rate=RATE)
    samples, complaint = heard(path, block=0.1)
    assert complaint
    assert name == "x.flac" or 0.2 * RATE < len(samples) < 2.5 * RATE


def test_a_folder_is_no_audio(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="is no file"):
        read_audio(tmp_path, rate=RATE)


def test_nothing_through_a_pipe() -> None:
    assert heard(Pipe(b""))[1] == "standard input: is empty: no audio came"
    assert heard(Pipe(b"hello, world: no audio"))[1] == "standard input: no audio, or damaged: Format " \
        "not recognised: give WAV, FLAC, OGG, MP3 or SPHERE"


def test_an_mp3_in_pieces_is_the_whole(tmp_path: Path) -> None:
    """Behind each read soundfile sought where it was, and the decoder had lost what it had in hand."""
    speech = np.concatenate([noise(RATE, seed=seed) * (0.02 + 0.3 * (seed % 3)) for seed in range(40)])
    soundfile.write(tmp_path / "x.mp3", speech, RATE)
    whole = read_audio(tmp_path / "x.mp3", rate=RATE)
    for block in (0.3, 2.0):
        pieces = list(stream_audio(tmp_path / "x.mp3", rate=RATE, block=block))
        assert len(pieces) > 10
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


class Endless(io.RawIOBase):
    """Samples without a header, for ever."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        assert self.given < 1 << 22, "all of it would be copied"
        self.given += size
        return noise(size // 4 + 1).astype("<f4").tobytes()[:size]


def test_a_pipe_of_no_known_format_is_told_before_all_of_it_has_come() -> None:
    assert heard(Endless())[1] == "standard input: no audio, or damaged: Format not recognised: give WAV, FLAC, OGG, " \
        "MP3 or SPHERE"


@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.mp3", "x.sph", "x.aiff", "x.opus"])
def test_a_long_pipe_of_another_format_is_what_the_file_is(tmp_path: Path, name: str) -> None:
    how = {"x.sph": {"format": "NIST"}, "x.opus": {"format": "OGG", "subtype": "OPUS"}}.get(name, {})
    path = tmp_path / name
    soundfile.write(path, np.tile(noise(RATE), 60), RATE, **how)
    assert path.stat().st_size > 1 << 17
    samples, complaint = heard(Pipe(path.read_bytes(), 1 << 14))
    assert complaint == ""
    np.testing.assert_array_equal(samples, heard(path)[0])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_headers_end_in_samples_or_one_line(data: st.DataObject) -> None:
    body = bytearray(wav(noise(200)))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, 47))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(1, len(body))):]
    samples, complaint = heard(Pipe(bytes(body)), block=0.01)
    assert complaint or len(samples)
    assert "\n" not in complaint
